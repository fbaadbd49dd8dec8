"""Mean loss, accuracy and number of images of a split, as one metric. Knows no training."""

from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torchmetrics import Metric


class SplitMetrics(Metric):
    """Sums over all processes in float32, or float64 after `set_dtype`: they count exactly to 2^24, or 2^53, images.

    Three metrics of torchmetrics give the same, and cost a twentieth of a training step more on a CPU.
    """

    full_state_update = False
    loss: Tensor
    correct: Tensor
    images: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("loss", "correct", "images"):
            self.add_state(name, torch.zeros(()), "sum")

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any) -> nn.Module:
        """Moves the sums to a device; of conversions to a dtype, those of the module around it do not concern them."""
        if self._dtype_convert:  # by `set_dtype`
            return super()._apply(fn, *args)
        return super()._apply(lambda tensor: tensor.to(fn(tensor.new_empty(0)).device), *args)

    def update(self, losses: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Adds a batch: losses (B,) in nats, logits (B, classes), labels (B,) int64."""
        self.loss += losses.sum(dtype=self.loss.dtype)
        self.correct += (logits.argmax(1) == labels).sum()
        self.images += len(labels)

    def compute(self) -> dict[str, Tensor]:
        """`loss` and `accuracy`, means over the images, and their number, `images`."""
        return {"loss": self.loss / self.images, "accuracy": self.correct / self.images, "images": self.images}


def metrics_of(pl_module: LightningModule, split: str) -> SplitMetrics:
    """Those that `pl_module` keeps of `split`: train, val or test."""
    return getattr(pl_module, f"{split}_metrics")
