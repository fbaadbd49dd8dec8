"""When a run writes which checkpoint: after validation, every few seconds, at the end, and when it is stopped."""

import contextlib
import time
import warnings
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from fashion_lightning.errors import WorkError
from fashion_lightning.storage.checkpoints import Checkpoint, DurableCheckpointIO, damage
from fashion_lightning.storage.run_folders import Run
from fashion_lightning.storage.whole_files import PART
from fashion_lightning.training.stopping import REMEDY, SignalStop

SECONDS_BETWEEN = 5.0  # a checkpoint costs some 20 ms
NOT_VALIDATED = {"best_accuracy": None, "images": None}


class Checkpointing(Callback):
    """Keeps `last.ckpt`, to resume from, and `best.ckpt`, by validation accuracy; without validation, of the end.

    It has to come before callbacks that change weights: they do so after validation, and at the start of an epoch.
    """

    state_key = "Keeper"  # its name in the checkpoints of version 0.1.0

    def __init__(self, stop: SignalStop, opened: Checkpoint | None, enabled: bool) -> None:
        self.io = DurableCheckpointIO(opened)
        self.best: Path | None = None  # `best.ckpt`, once there is one
        self._validated = dict(NOT_VALIDATED)  # how `best.ckpt` was chosen
        self._stop, self._enabled = stop, enabled
        self._run: Run | None = None
        self._has_trained = False
        self._weights: dict[str, Tensor] = {}  # that were validated last

    def state_dict(self) -> dict[str, Any]:
        return self._validated

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if not self._run or not self._run.best.is_file():
            return
        if reason := damage(self._run.best):
            problem = f"{self._run.best} is not a whole checkpoint ({reason})"
            warnings.warn(f"{problem}; the best of the next ones replaces it", stacklevel=2)
        else:
            self.best, self._validated = self._run.best, {**NOT_VALIDATED, **state_dict}
            self._validated["best_accuracy"] = state_dict["best_accuracy"] or None  # 0 for none, in version 0.1.0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        has_run = stage == "fit" and self._enabled and trainer.loggers
        log_dir = trainer.log_dir if has_run else None  # a collective call
        if log_dir:
            self._run = Run(Path(log_dir))
            for stale in self._run.checkpoints.glob(f"*{PART}") if trainer.is_global_zero else []:
                stale.unlink()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._has_trained = True
        self._weights = {}
        self._is_validated = False  # since the newest checkpoint
        self._new_best: dict[str, Any] | None = None  # state of this callback, if they are the best so far
        self._last_step, self._last_time = trainer.global_step, time.monotonic()  # of the newest checkpoint
        self._first_step, self._next_step = trainer.global_step, trainer.global_step + 1

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._run and not trainer.sanity_checking:
            self._weights = {name: value.detach().clone() for name, value in pl_module.state_dict().items()}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or "val/accuracy" not in trainer.callback_metrics:
            return
        accuracy, images = (float(trainer.callback_metrics[f"val/{name}"]) for name in ("accuracy", "images"))
        self._is_validated = True
        if self._validated["best_accuracy"] is None or accuracy > self._validated["best_accuracy"]:
            self._new_best = {"best_accuracy": accuracy, "images": int(images)}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save_if_due(trainer, pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0:  # within a step there is nothing to resume from
            self._save_if_due(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        is_validated = self._weights or self._validated["best_accuracy"] is not None
        if self._run and not is_validated and (self._has_trained or not self.best):
            self._write_best(trainer, self._run)  # the best weights are those that callbacks leave at the end

    def _save_if_due(self, trainer: Trainer, pl_module: LightningModule) -> None:
        is_stopped = trainer.world_size == 1 and self._stop.received
        if is_stopped and trainer.global_step == self._first_step:
            self._stop.stop(trainer)  # there is nothing to save yet
        if self._is_validated or trainer.global_step >= self._next_step or is_stopped:
            self._save(trainer, pl_module)

    def _save(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._run:
            if not all(parameter.isfinite().all() for parameter in pl_module.parameters()):
                reason = f"training stopped after step {trainer.global_step:,}: weights are not finite"
                raise WorkError(f"{reason}; {REMEDY}")
            for logger in trainer.loggers:
                with contextlib.suppress(OSError):  # a full disk, which the checkpoint will report
                    logger.save()  # what was logged before a checkpoint must survive a kill after it
            self._write(trainer, self._run)
        self._is_validated, self._new_best = False, None
        # Several processes agree on the step of a checkpoint, and so on the step at which they stop.
        if trainer.strategy.reduce_boolean_decision(bool(self._stop.received), all=False):
            self._stop.stop(trainer)
        self._schedule_next(trainer)

    def _write(self, trainer: Trainer, run: Run) -> None:
        if self._new_best is not None:
            before, self._validated = self._validated, self._new_best  # which is part of the checkpoint
            if not self._write_best(trainer, run, state_dict=self._weights):
                self._validated = before
        trainer.save_checkpoint(run.last)
        self._stop.checkpoint = None if self.io.problems else run.last

    def _write_best(self, trainer: Trainer, run: Run, **instead: Any) -> bool:
        """Whether it could be written."""
        trainer.save_checkpoint(run.best, storage_options=instead)
        is_written = not trainer.strategy.broadcast(run.best in self.io.problems)
        self.best = run.best if is_written else self.best
        return is_written

    def _schedule_next(self, trainer: Trainer) -> None:
        """By the steps done in the time since the last one: processes then need not ask each other in every step."""
        step, now = trainer.global_step, time.monotonic()
        if done := step - self._last_step:
            steps = int(SECONDS_BETWEEN * done / (now - self._last_time))
            self._next_step = step + trainer.strategy.broadcast(min(max(1, steps), 2 * done))
        self._last_step, self._last_time = step, now
