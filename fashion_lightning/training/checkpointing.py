"""When a run writes which checkpoint: after validation, every few seconds, at the end, and when it is stopped."""

import contextlib
import time
import warnings
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer, callbacks

from fashion_lightning.errors import WorkError
from fashion_lightning.storage.checkpoints import Checkpoint, DurableCheckpointIO, damage
from fashion_lightning.storage.run_folders import Run
from fashion_lightning.storage.whole_files import PART
from fashion_lightning.training.stopping import REMEDY, SignalStop

SECONDS_BETWEEN = 5.0  # a checkpoint costs some 20 ms


class Checkpointing(callbacks.Checkpoint):
    """Keeps `last.ckpt`, to resume from, and `best.ckpt`, by validation accuracy; without validation, of the end."""

    state_key = "Keeper"  # its name in the checkpoints of version 0.1.0

    def __init__(self, stop: SignalStop, opened: Checkpoint | None, enabled: bool) -> None:
        self.io = DurableCheckpointIO(opened)
        self.best_accuracy: float | None = None  # on the validation images, of `best.ckpt`, once there is one
        self._stop, self._enabled = stop, enabled
        self._run: Run | None = None
        self._is_validated = False  # since the newest checkpoint
        self._new_best: float | None = None  # validation accuracy of the present weights, if it is the best so far
        self._next_step = 1
        self._last_step, self._last_time = 0, 0.0  # of the newest checkpoint

    @property
    def best(self) -> Path | None:
        """Path of the best checkpoint, if there is one."""
        return self._run.best if self._run and self.best_accuracy is not None else None

    def state_dict(self) -> dict[str, Any]:
        return {"best_accuracy": self.best_accuracy}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if not self._run or not self._run.best.is_file():
            return
        if reason := damage(self._run.best):
            problem = f"{self._run.best} is not a whole checkpoint ({reason})"
            warnings.warn(f"{problem}; the best of the next ones replaces it", stacklevel=2)
        else:
            self.best_accuracy = state_dict["best_accuracy"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        log_dir = trainer.log_dir if stage == "fit" and self._enabled else None  # a collective call
        if log_dir:
            self._run = Run(Path(log_dir))
            for stale in self._run.checkpoints.glob(f"*{PART}") if trainer.is_global_zero else []:
                stale.unlink()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._last_step, self._last_time = trainer.global_step, time.monotonic()
        self._next_step = trainer.global_step + 1

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or "val/accuracy" not in trainer.callback_metrics:
            return
        accuracy = float(trainer.callback_metrics["val/accuracy"])
        self._is_validated = True
        if self.best_accuracy is None or accuracy > self.best_accuracy:
            self._new_best = accuracy

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx % trainer.accumulate_grad_batches:
            return  # within a step there is nothing to resume from
        is_stopped = trainer.world_size == 1 and self._stop.received
        if self._is_validated or trainer.global_step >= self._next_step or is_stopped:
            self._save(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.best_accuracy is None and self._new_best is None:
            self._new_best = 0.0  # nothing was validated
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
            before, self.best_accuracy = self.best_accuracy, self._new_best  # which is part of the checkpoint
            trainer.save_checkpoint(run.best)
            if trainer.strategy.broadcast(run.best in self.io.problems):
                self.best_accuracy = before
        trainer.save_checkpoint(run.last)
        self._stop.checkpoint = None if self.io.problems else run.last

    def _schedule_next(self, trainer: Trainer) -> None:
        """By the steps done in the time since the last one: processes then need not ask each other in every step."""
        step, now = trainer.global_step, time.monotonic()
        if done := step - self._last_step:
            steps = int(SECONDS_BETWEEN * done / (now - self._last_time))
            self._next_step = step + trainer.strategy.broadcast(min(max(1, steps), 2 * done))
        self._last_step, self._last_time = step, now
