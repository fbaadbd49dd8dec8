"""Training and evaluation of a classifier: loss, metrics, optimiser, schedule. Knows no data."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam
from torch.optim.lr_scheduler import ExponentialLR

from fashion_lightning.augmentation import BLACK
from fashion_lightning.errors import UserError
from fashion_lightning.networks import FashionCNN
from fashion_lightning.storage.checkpoints import read
from fashion_lightning.training.metrics import SplitMetrics, metrics_of

AT_TEST = ("mirror_at_test", "shift_at_test")  # arguments that a checkpoint holds beside the weights
SHIFTS = ((0, 1), (2, 1), (1, 0), (1, 2))  # of a window in an image with a border of one pixel


class FashionClassifier(pl.LightningModule):
    """A network with its training and evaluation; the defaults are the assignment's.

    Logs for every epoch, as means over its images: `train/loss`, `train/accuracy`, `val/loss`, `val/accuracy`;
    every `log_every_n_steps`: `train/loss_step`, the mean over that batch, and `lr`, the learning rate after that step.
    `trainer.test` reports `<split>/loss`, `<split>/accuracy` and `<split>/images`, the number of images evaluated, of
    every split that has a loader, in `trainer.callback_metrics`. Losses are in nats, accuracies in [0, 1].
    A checkpoint has `mirror_at_test` and `shift_at_test` beside the weights.
    `trainer.predict` gives logits (B, classes). A network or augmentation itself may be given, in place of its factory.

    Args:
        network: Makes the network: float images (B, 1, 28, 28) to logits (B, classes).
        optimizer: Makes the optimiser of the network's parameters.
        lr_scheduler: Makes the optimiser's learning rate schedule, which is stepped after every batch.
        augmentation: Makes the module that changes training images, float (B, 1, 28, 28), at random.
        label_smoothing: Share of each training target that is spread over all classes.
        mirror_at_test: Whether logits, except in training, are the mean over an image and its mirror image.
        shift_at_test: Whether they are also the mean of these and of the mean over the image shifted by a pixel up,
            down, left and right, with a black border.
        compile: Whether the network is compiled by `torch.compile` when it is fitted or tested, in place: the names of
            the weights stay. The first step of each shape of batches waits for the compiler.
    """

    def __init__(
        self,
        network: Callable[[], nn.Module] = FashionCNN,
        optimizer: OptimizerCallable = lambda params: Adam(params, lr=1e-2, fused=True),
        lr_scheduler: LRSchedulerCallable = lambda optimizer: ExponentialLR(optimizer, gamma=0.999),
        augmentation: Callable[[], nn.Module] = nn.Identity,
        label_smoothing: float = 0.0,
        mirror_at_test: bool = False,
        shift_at_test: bool = False,
        compile: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise UserError(f"--model.label_smoothing: expected 0 or more, and less than 1, got {label_smoothing}")
        self.network = _made(network)
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler
        self.lr: float | None = None  # in place of the optimiser's own, once Lightning's Tuner has found one
        self.augmentation = _made(augmentation)
        self.label_smoothing, self.compiles = label_smoothing, compile
        self.mirror_at_test, self.shift_at_test = mirror_at_test, shift_at_test
        self.train_metrics, self.val_metrics, self.test_metrics = SplitMetrics(), SplitMetrics(), SplitMetrics()

    def __getstate__(self) -> dict[str, Any]:
        state, defaults = super().__getstate__(), _default_factories()  # lambdas, which pickle cannot save
        return {name: value for name, value in state.items() if name not in defaults or value is not defaults[name]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**_default_factories(), **state})

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # Lightning's makes an object of any class that the file names
        cls,
        checkpoint_path: str | Path,
        map_location: str | torch.device | None = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **arguments: Any,
    ) -> "FashionClassifier":
        """A model made with `arguments`, and what a checkpoint file, not a URL, has of it.

        Raises CheckpointError as `checkpoints.read`, and RuntimeError as `load_state_dict`.
        """
        if weights_only is False:
            raise UserError("weights_only: expected True or None, got False: nothing in a checkpoint is run")
        content = read(Path(checkpoint_path)).content
        model = cls(**arguments)
        for name in AT_TEST:
            if name in content and name not in arguments:
                setattr(model, name, content[name])
        model.load_state_dict(content["state_dict"], strict=strict is not False)
        return model.to(map_location or "cpu")

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            return self.network(images)
        logits = self._mirrored(images)
        if self.shift_at_test:
            bordered = F.pad(images, [1] * 4, value=BLACK)
            height, width = images.shape[2:]
            # Contiguous, as all batches are: a network that is compiled is so for each layout.
            windows = [bordered[..., y : y + height, x : x + width].contiguous() for y, x in SHIFTS]
            logits = (logits + torch.stack([self._mirrored(window) for window in windows]).mean(0)) / 2
        return logits

    def _mirrored(self, images: Tensor) -> Tensor:
        logits = self.network(images)
        return (logits + self.network(images.flip(-1))) / 2 if self.mirror_at_test else logits

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint |= {name: getattr(self, name) for name in AT_TEST}

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(self.network.parameters())
        for group in optimizer.param_groups:
            group["lr"] = self.lr or group["lr"]
        trainer = self._trainer
        if trainer and trainer.gradient_clip_val and isinstance(trainer.precision_plugin, MixedPrecision):
            _unfuse(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.lr_scheduler(optimizer), "interval": "step"}}

    def setup(self, stage: str) -> None:
        if self.compiles and stage in ("fit", "test"):
            if stage == "fit":
                torch.compiler.reset()  # of earlier fits in this process, after some of which nothing more is compiled
            # For each shape on its own: what a batch is computed with must not depend on the batches before it.
            self.network.compile(dynamic=False)
        for metrics in (self.train_metrics, self.val_metrics, self.test_metrics):
            metrics.reset()  # of sums that an exception has left
            if self.trainer.strategy.root_device.type != "mps":  # which has no float64
                metrics.set_dtype(torch.float64)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        return self._step((self.augmentation(images), labels), "train", self.label_smoothing)[0]

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._step(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Logits (B, classes), for callbacks."""
        return self._step(batch, self.tested_splits()[dataloader_idx])[1]

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Logits (B, classes) of a batch of images, or of images and labels."""
        return self(batch[0] if isinstance(batch, list | tuple) else batch)

    def on_train_batch_end(self, outputs: Any, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        # Not in every step: `log` costs a tenth of a step on a CPU.
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by Lightning; 0 for never
        if every and self.trainer.global_step % every == 0:
            lr = self.trainer.optimizers[0].param_groups[0]["lr"]
            self.log_dict({"train/loss_step": outputs["loss"], "lr": lr}, prog_bar=True)

    def on_train_epoch_end(self) -> None:
        self._log("train")

    def on_validation_epoch_end(self) -> None:
        self._log("val")

    def on_test_epoch_end(self) -> None:
        for split in self.tested_splits():
            # The curves of `train` and `val` are those of training.
            self._log(split, hide=split != "test")

    def _step(self, batch: tuple[Tensor, Tensor], split: str, label_smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
        images, labels = batch  # float (B, 1, 28, 28), int64 (B,)
        logits = self(images)
        # (B,), so that the metric weighs all images equally.
        losses = F.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)
        metrics_of(self, split).update(losses.detach(), logits.detach(), labels)
        return losses.mean(), logits

    def _log(self, split: str, hide: bool = False) -> None:
        """Logs means over the epoch; those to `hide`, and counts, are for callbacks only."""
        metrics = metrics_of(self, split)
        for name, value in metrics.compute().items():
            logger = False if hide or name == "images" else None  # None: if there is one
            prog_bar = (split, name) == ("val", "accuracy")
            if self.trainer.barebones:  # where `log` does nothing
                self.trainer.callback_metrics[f"{split}/{name}"] = value
            else:
                self.log(f"{split}/{name}", value, prog_bar=prog_bar, logger=logger, batch_size=1)
        metrics.reset()

    def tested_splits(self) -> list[str]:
        """The split of each test loader: its name, where loaders have names."""
        loaders = self.trainer.test_dataloaders
        return list(loaders) if isinstance(loaders, dict) else ["test"]


def _made(module: Callable[[], nn.Module]) -> nn.Module:
    """`module` itself, or what it makes; modules can be called too, with their inputs."""
    return module if isinstance(module, nn.Module) else module()


def _default_factories() -> dict[str, Any]:
    parameters = inspect.signature(FashionClassifier).parameters
    return {name: parameters[name].default for name in ("optimizer", "lr_scheduler")}


def _unfuse(optimizer: torch.optim.Optimizer) -> None:
    """Lightning does not clip the gradients of a fused optimiser in mixed precision, since it unscales them itself."""
    if getattr(optimizer, "_step_supports_amp_scaling", False):
        optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]  # what Lightning and PyTorch look at
        for group in optimizer.param_groups:
            group["fused"] = False
