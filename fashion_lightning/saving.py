"""Saves that survive a kill at any instant, and what it takes to go on from them to the same bits.

A save is made between two steps, when all that the steps before it had to do is done: validation, logs, schedule.
What a step sees and draws is a function of (seed, step), so there is no other state to save.
"""

import contextlib
import io
import shutil
import struct
import time
import warnings
import zlib
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint
from torchmetrics.utilities.distributed import gather_all_tensors

from fashion_lightning.atomic import PART, replacing
from fashion_lightning.callbacks import describe_device
from fashion_lightning.checkpoints import BEST, LAST, PREVIOUS, CheckpointError, read
from fashion_lightning.errors import UserError
from fashion_lightning.stopping import DivergenceError, Stopper

SAVE_SECONDS = 5.0  # a save costs some 20 ms

# What a training has to have to go on.
PARTS = {"state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "global_step", "made_with"}


class SaveError(UserError):
    """Some of the work could not be saved."""

    status = 1


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints that are whole or not there, and reads no others.

    A save that fails costs nothing but that save: the one before it stays.

    Attributes:
        problems: Path to what was wrong with the newest save there.
    """

    def __init__(self) -> None:
        self.problems: dict[Path, str] = {}

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        content = io.BytesIO()
        torch.save(checkpoint, content)
        try:
            with replacing(path, previous=path.with_name(PREVIOUS) if path.name == LAST else None) as stream:
                stream.write(content.getbuffer())
        except OSError as error:
            free = shutil.disk_usage(path.parent).free if path.parent.is_dir() else 0
            problem = f"cannot save {path}: {error.strerror}, {free:,} bytes free, {content.tell():,} needed"
            if not self.problems:
                warnings.warn(f"{problem}; training goes on with the checkpoint before it kept", stacklevel=2)
            self.problems[path] = problem
        else:
            self.problems.pop(path, None)

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return read(Path(path))


class Keeper(Checkpoint):
    """Keeps `last.ckpt`, `best.ckpt` by validation accuracy, and what Lightning forgets when it goes on from them.

    Where nothing is validated, `best.ckpt` is of the end.

    Saves after each validation, every few seconds of training, at its end, and when it is stopped by a signal.

    Args:
        keep: Whether to save at all.

    Attributes:
        best_accuracy: Of `best.ckpt`, on the validation images; None as long as there is none.
        folder: Of the checkpoints.
    """

    def __init__(self, stopper: Stopper, keep: bool = True) -> None:
        self.stopper, self.keep = stopper, keep
        self.io = DurableCheckpointIO()
        self.folder: Path | None = None
        self.best_accuracy: float | None = None
        self._validated = False
        self._better: float | None = None  # validation accuracy of the weights as they are, if it is the best
        self._next_step = 1
        self._saved_step, self._saved_at = 0, 0.0

    @property
    def best(self) -> Path | None:
        """Path of the best checkpoint, if there is one."""
        return self.folder / BEST if self.folder and self.best_accuracy is not None else None

    def state_dict(self) -> dict[str, Any]:
        return {"best_accuracy": self.best_accuracy}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.folder and (self.folder / BEST).is_file():
            try:
                read(self.folder / BEST)
                self.best_accuracy = state_dict["best_accuracy"]
            except CheckpointError as error:
                warnings.warn(f"{error}; from now on the best of what comes is kept", stacklevel=2)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        log_dir = trainer.log_dir if stage == "fit" and self.keep else None  # asks all processes
        if log_dir:
            self.folder = Path(log_dir) / "checkpoints"
            for stale in self.folder.glob(f"*{PART}") if trainer.is_global_zero else []:
                stale.unlink()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._saved_step, self._saved_at = trainer.global_step, time.monotonic()
        self._next_step = trainer.global_step + 1

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or "val/accuracy" not in trainer.callback_metrics:
            return
        accuracy = float(trainer.callback_metrics["val/accuracy"])
        self._validated = True
        if self.best_accuracy is None or accuracy > self.best_accuracy:
            self._better = accuracy

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        step, loop = trainer.global_step, trainer.fit_loop.epoch_loop
        # After a restart Lightning counts one too many of both; the second names the step in logs.
        loop.batch_progress.total.ready = loop.batch_progress.total.completed + 1
        loop._batches_that_stepped = step
        # 32 bits are all that the CPU's generator takes; its own method is fifty times as fast as torch.manual_seed.
        seed = zlib.crc32(struct.pack("3Q", trainer.datamodule.seed, step, trainer.global_rank))
        (torch.default_generator.manual_seed if pl_module.device.type == "cpu" else torch.manual_seed)(seed)
        if batch_idx % trainer.accumulate_grad_batches:
            return  # half a step is no place to go on from
        alone = trainer.world_size == 1
        if self._validated or step >= self._next_step or (alone and self.stopper.received):
            self._save(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.best_accuracy is None and self._better is None:
            self._better = 0.0  # nothing was validated: the weights at the end are as good as any
        self._save(trainer, pl_module)

    def _save(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        step = trainer.global_step
        if self.folder:
            if not all(parameter.isfinite().all() for parameter in pl_module.parameters()):
                message = f"training stopped after step {step:,}: weights are not finite"
                raise DivergenceError(
                    f"{message}; the save before is good; begin anew with a lower --model.optimizer.lr"
                )
            for logger in trainer.loggers:
                with contextlib.suppress(OSError):  # a full disk, of which the save itself will tell
                    logger.save()  # what lies before a save must not be lost with the process
            if self._better is not None:
                before, self.best_accuracy = self.best_accuracy, self._better
                trainer.save_checkpoint(self.folder / BEST)
                if trainer.strategy.broadcast(self.folder / BEST in self.io.problems):
                    self.best_accuracy = before
            trainer.save_checkpoint(self.folder / LAST)
            self.stopper.save = None if self.io.problems else self.folder / LAST
        self._validated, self._better = False, None
        # Several processes agree on the step of a save, and so on that of a stop.
        if trainer.strategy.reduce_boolean_decision(bool(self.stopper.received), all=False):
            self.stopper.stop(trainer)
        now = time.monotonic()
        if step > self._saved_step:
            # Counted in steps, so that processes need not ask each other in every one.
            steps = int(SAVE_SECONDS * (step - self._saved_step) / (now - self._saved_at))
            steps = min(max(1, steps), 2 * (step - self._saved_step))
            self._next_step = step + trainer.strategy.broadcast(steps)
        self._saved_step, self._saved_at = step, now

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["made_with"] = _made_with(trainer)
        checkpoint["train_metrics"] = _states(pl_module)
        _set_counters(trainer, checkpoint["loops"]["fit_loop"])

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        now, then = _made_with(trainer), checkpoint.get("made_with")
        if now != then and trainer.is_global_zero:
            warnings.warn(
                f"the last bits may differ: the checkpoint was made with {then}, now it is {now}", stacklevel=2
            )
        _restore_states(pl_module, checkpoint.get("train_metrics", {}))


def _made_with(trainer: pl.Trainer) -> dict[str, str]:
    """What the last bits of a sum depend on."""
    return {"torch": str(torch.__version__), "device": describe_device(trainer)}


def _states(pl_module: pl.LightningModule) -> dict[str, torch.Tensor]:
    """Sums of the training metrics in the epoch under way, name to (processes, ...)."""
    metrics = pl_module.train_metrics
    metrics.persistent(True)
    sums = {name: value.clone() for name, value in metrics.state_dict().items()}
    metrics.persistent(False)
    several = pl_module.trainer.world_size > 1
    return {name: torch.stack(gather_all_tensors(own) if several else [own]) for name, own in sums.items()}


def _restore_states(pl_module: pl.LightningModule, states: dict[str, torch.Tensor]) -> None:
    """To each process its own; all to the first one where their number is another."""
    rank, world_size = pl_module.trainer.global_rank, pl_module.trainer.world_size
    own = {}
    for name, sums in states.items():
        own[name] = sums[rank] if len(sums) == world_size else sums.sum(0) * (rank == 0)
    pl_module.train_metrics.load_state_dict(own)


def _set_counters(trainer: pl.Trainer, loop: dict[str, Any]) -> None:
    """Puts Lightning's counters where they are before the next step's first batch, by the steps done."""
    epoch, done = trainer.datamodule.progress(trainer.global_step)

    def begun(count: int) -> dict[str, int]:
        return {"ready": count + 1, "started": count, "processed": count, "completed": count}

    total = epoch * trainer.num_training_batches + done
    loop["epoch_progress"] = {kind: {**begun(epoch), "started": epoch + 1} for kind in ("total", "current")}
    loop["epoch_loop.batch_progress"] = {"total": begun(total), "current": begun(done), "is_last_batch": False}
