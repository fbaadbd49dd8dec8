"""Early ends of training: signals, and a loss that is not finite."""

import math
import os
import shlex
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import rich
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from fashion_lightning.data.module import data_of
from fashion_lightning.errors import Stopped, WorkError

SIGNALS = (signal.SIGINT, signal.SIGTERM)
MAX_STEPS_AHEAD = 50  # that an accelerator may be before the losses are read
REMEDY = "the last checkpoint is from before it; start a new run with a lower --model.optimizer.lr"


class SignalStop(Callback):
    """SIGTERM and Ctrl-C end training between two steps, and anything else at once; a second one does not wait.

    Replaces Lightning's signal handlers, one of which communicates with other processes inside the handler.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None  # training has to stop for it
        self.checkpoint: Path | None = None  # the newest one to resume from
        self._before: dict[signal.Signals, Any] = {}
        self._trainer: Trainer | None = None
        self._training = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._trainer = trainer
        if stage == "fit":
            self.received, self._training = None, False  # of a fit before, which an exception has ended
        if not self._before and threading.current_thread() is threading.main_thread():  # others may not set handlers
            self._before = {signum: signal.getsignal(signum) for signum in SIGNALS}
        self._install()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.teardown(trainer, pl_module, "fit")
        launcher = trainer.strategy.launcher
        if launcher and (procs := getattr(launcher, "procs", None)):
            launcher.kill(signal.SIGKILL)  # without this process the others would wait forever
            procs.clear()  # so that Lightning's observer does not report their exit

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._install()
        self._training = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._training = False

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._install()

    on_predict_start = on_sanity_check_start = on_test_start  # Lightning has set its own after `setup`

    def stop(self, trainer: Trainer) -> NoReturn:
        """Raises Stopped, with how to resume."""
        signum = self.received or signal.SIGTERM  # another process received it
        step = f" after step {trainer.global_step:,}" if trainer.global_step else ""
        resume = f"python -m fashion_lightning.fit --ckpt_path {shlex.quote(str(self.checkpoint))}"
        saved = f", checkpoint saved; to resume: {resume}" if self.checkpoint else ""
        # Only one process prints; Lightning would kill it if another one exited with a status.
        raise Stopped(f"stopped by {signum.name}{step}{saved}", 128 + signum if trainer.is_global_zero else 0)

    def _install(self) -> None:
        for signum in self._before:
            signal.signal(signum, self._handle)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.received:
            rich.get_console().show_cursor()  # which the progress bar hides
            os._exit(128 + signum)
        self.received = signal.Signals(signum)
        if not self._training and self._trainer:
            self.stop(self._trainer)


class FiniteLoss(Callback):
    """Stops training after a step with a loss that is not finite; on an accelerator, some steps later."""

    def __init__(self) -> None:
        self._step, self._lr = 0, 0.0
        self._unchecked: list[tuple[int, float, tuple[int, int], torch.Tensor]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._unchecked.clear()  # of a fit before, which an exception has ended

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        self._step, self._lr = trainer.global_step, trainer.optimizers[0].param_groups[0]["lr"]  # the step changes both

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._unchecked.append((self._step, self._lr, (trainer.current_epoch, batch_idx), outputs["loss"]))
        # An accelerator works ahead; reading a loss means waiting for it.
        if outputs["loss"].is_cpu or len(self._unchecked) == MAX_STEPS_AHEAD:
            self._check(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._check(trainer)

    def _check(self, trainer: Trainer) -> None:
        losses = torch.stack([loss for *_, loss in self._unchecked]).tolist() if self._unchecked else []  # one copy
        for (step, lr, place, _), loss in zip(self._unchecked, losses, strict=True):
            if not math.isfinite(loss):
                images = ", ".join(str(index) for index in data_of(trainer).images_of_batch(*place).tolist())
                reason = f"the loss of step {step + 1:,} is {loss}, at learning rate {lr:.3g}"
                raise WorkError(f"training stopped: {reason}, of the training images {images}; {REMEDY}")
        self._unchecked.clear()
