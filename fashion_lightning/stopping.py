"""Ends of training that were not planned: signals, and a loss that is no number any more."""

import math
import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import rich
import torch

from fashion_lightning.errors import Stopped, UserError

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STEPS_AHEAD = 50  # that an accelerator may be, before the losses are looked at


class DivergenceError(UserError):
    """The loss or the weights are not finite."""

    status = 1


class Stopper(pl.Callback):
    """SIGTERM and Ctrl-C wait for the end of a training step, and for nothing else; a second one does not wait.

    Takes the place of Lightning's handlers, one of which talks to other processes from within the handler.

    Attributes:
        received: The signal that training has to stop for.
        save: The newest save.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.save: Path | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._trainer: pl.Trainer | None = None
        self._training = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._trainer = trainer
        if threading.current_thread() is threading.main_thread():  # others may set no handlers
            self._before = {signum: signal.getsignal(signum) for signum in SIGNALS}
        self._install()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.teardown(trainer, pl_module, "fit")
        if procs := getattr(trainer.strategy.launcher, "procs", None):
            # Without this process the others would wait for ever; and who watches them shall not mind their end.
            trainer.strategy.launcher.kill(signal.SIGKILL)
            procs.clear()

    def on_sanity_check_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._install()  # Lightning has set its own since

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._install()
        self._training = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._training = False

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._install()

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._install()

    def stop(self, trainer: pl.Trainer) -> None:
        """Raises Stopped, which says how to go on."""
        signum = self.received or signal.SIGTERM  # another process got it
        step = f" after step {trainer.global_step:,}" if trainer.global_step else ""
        again = f", saved; to go on: python -m fashion_lightning.fit --ckpt_path {self.save}" if self.save else ""
        # Only one process speaks; a status of the others would make Lightning kill that one.
        raise Stopped(f"stopped by {signum.name}{step}{again}", 128 + signum if trainer.is_global_zero else 0)

    def _install(self) -> None:
        for signum in self._before:
            signal.signal(signum, self._handle)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.received:
            rich.get_console().show_cursor()  # which the progress bar hides
            os._exit(128 + signum)
        self.received = signal.Signals(signum)
        if not self._training:
            self.stop(self._trainer)


class FiniteLoss(pl.Callback):
    """Stops training after a step whose loss is not finite; on an accelerator, some steps later."""

    def __init__(self) -> None:
        self._step, self._lr = 0, 0.0
        self._unchecked: list[tuple[int, float, torch.Tensor]] = []

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        # Before the step, as both are others after it.
        self._step, self._lr = trainer.global_step, trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._unchecked.append((self._step, self._lr, outputs["loss"]))
        # An accelerator works ahead; to look at a loss would be to wait for it.
        if outputs["loss"].is_cpu or len(self._unchecked) == STEPS_AHEAD:
            self._check(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._check(trainer)

    def _check(self, trainer: pl.Trainer) -> None:
        for step, lr, loss in self._unchecked:
            if not math.isfinite(loss.item()):
                self._stop(trainer, step, lr, loss.item())
        self._unchecked.clear()

    def _stop(self, trainer: pl.Trainer, step: int, lr: float, loss: float) -> None:
        images = ", ".join(str(index) for index in trainer.datamodule.images_of_step(step).tolist())
        raise DivergenceError(
            f"training stopped: the loss of step {step + 1:,} is {loss}, at learning rate {lr:.3g}, of the "
            f"training images {images}; what was saved before is good; begin anew with a lower --model.optimizer.lr"
        )
