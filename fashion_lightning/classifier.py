"""Training and evaluation of a classifier: loss, metrics, optimiser, schedule. Knows no data."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam
from torch.optim.lr_scheduler import ExponentialLR

from fashion_lightning.checkpoints import read
from fashion_lightning.metrics import Tally
from fashion_lightning.networks import FashionCNN


class FashionClassifier(pl.LightningModule):
    """A network with what it takes to train it; the defaults are the assignment's.

    Logged for every epoch, as means over its images: `train/loss`, `train/accuracy`, `val/loss`, `val/accuracy`;
    every `log_every_n_steps`: `train/loss_step`, the mean over that batch, and `lr`, the rate after that step.
    `trainer.test` reports `<split>/loss`, `<split>/accuracy` and `<split>/images`, the number of images seen, for
    every split that has a loader; all are in `trainer.callback_metrics`, and those of `test` are logged.

    Args:
        network: Makes the network: float images (B, 1, 28, 28) to logits (B, classes).
        optimizer: Makes the optimiser of the network's parameters.
        lr_scheduler: Makes the optimiser's learning rate schedule, which steps after every batch.
        augmentation: Makes what changes the images of a training batch, float (B, 1, 28, 28), by chance.
        label_smoothing: Share of each training target that is spread over all classes.
        mirror_at_test: Whether logits, other than in training, are the mean over an image and its mirror image.
    """

    def __init__(
        self,
        network: Callable[[], nn.Module] = FashionCNN,
        optimizer: OptimizerCallable = lambda params: Adam(params, lr=1e-2, fused=True),
        lr_scheduler: LRSchedulerCallable = lambda optimizer: ExponentialLR(optimizer, gamma=0.999),
        augmentation: Callable[[], nn.Module] = nn.Identity,
        label_smoothing: float = 0.0,
        mirror_at_test: bool = False,
    ) -> None:
        super().__init__()
        self.network = network()
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler
        self.augmentation, self.label_smoothing = augmentation(), label_smoothing
        self.mirror_at_test = mirror_at_test
        self.train_metrics, self.val_metrics, self.test_metrics = Tally(), Tally(), Tally()

    @classmethod
    def load_from_checkpoint(
        cls, checkpoint_path: str | Path, map_location: str | torch.device = "cpu", **arguments: Any
    ) -> "FashionClassifier":
        """Takes the weights of a file, and nothing else; Lightning's also takes URLs, and names of what to make.

        Args:
            arguments: Of the class, where they were not the defaults.

        Raises:
            CheckpointError: See `checkpoints.read`.
        """
        model = cls(**arguments)
        model.load_state_dict(read(Path(checkpoint_path))["state_dict"])
        return model.to(map_location)

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(images)
        if self.mirror_at_test and not self.training:
            logits = (logits + self.network(images.flip(-1))) / 2
        return logits

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = self.optimizer(self.network.parameters())
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.lr_scheduler(optimizer), "interval": "step"},
        }

    def setup(self, stage: str) -> None:
        if self.trainer.strategy.root_device.type != "mps":  # which has no float64
            for metrics in (self.train_metrics, self.val_metrics, self.test_metrics):
                metrics.set_dtype(torch.float64)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        return self._step((self.augmentation(images), labels), "train", self.label_smoothing)[0]

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._step(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Logits (B, classes), for callbacks."""
        return self._step(batch, self._tested_splits()[dataloader_idx])[1]

    def on_train_batch_end(self, outputs: dict[str, Tensor], batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        # Not in every step: a call of `log` costs a tenth of one on a CPU.
        every = self.trainer.log_every_n_steps  # 0 for never
        if every and self.trainer.global_step % every == 0:
            lr = self.trainer.optimizers[0].param_groups[0]["lr"]
            self.log_dict({"train/loss_step": outputs["loss"], "lr": lr}, prog_bar=True)

    def on_train_epoch_end(self) -> None:
        self._log("train")

    def on_validation_epoch_end(self) -> None:
        self._log("val")

    def on_test_epoch_end(self) -> None:
        for split in self._tested_splits():
            # The curves of `train` and `val` belong to training.
            self._log(split, hide=split != "test")

    def _step(self, batch: tuple[Tensor, Tensor], split: str, label_smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
        images, labels = batch  # float (B, 1, 28, 28), int64 (B,)
        logits = self(images)
        # (B,), so that the metric weighs images alike.
        losses = F.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)
        self._tally(split).update(losses.detach(), logits.detach(), labels)
        return losses.mean(), logits

    def _tally(self, split: str) -> Tally:
        return getattr(self, f"{split}_metrics")

    def _log(self, split: str, hide: bool = False) -> None:
        """Logs means over the epoch; those to `hide`, and counts, are for callbacks only."""
        for name, value in self._tally(split).compute().items():
            logger = False if hide or name == "images" else None  # None: if there is one
            prog_bar = (split, name) == ("val", "accuracy")
            self.log(f"{split}/{name}", value, prog_bar=prog_bar, logger=logger, batch_size=1)
        self._tally(split).reset()

    def _tested_splits(self) -> list[str]:
        """One a test loader, by its name where loaders have names."""
        loaders = self.trainer.test_dataloaders
        return list(loaders) if isinstance(loaders, dict) else ["test"]
