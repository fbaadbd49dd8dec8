"""What is counted over a split: mean loss, accuracy, number of images. Knows no training."""

import torch
from torch import Tensor
from torchmetrics import Metric


class Tally(Metric):
    """Loss, accuracy and number of images in one metric, over all processes.

    Three metrics of torchmetrics would say the same; in each training step they cost a twentieth of it on a CPU.
    """

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        for name, dtype in (("loss", torch.float), ("correct", torch.int64), ("images", torch.int64)):
            self.add_state(name, torch.zeros((), dtype=dtype), "sum")

    def update(self, losses: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Of a batch: losses (B,), logits (B, classes), labels (B,) int64."""
        self.loss += losses.sum(dtype=self.loss.dtype)
        self.correct += (logits.argmax(1) == labels).sum()
        self.images += len(labels)

    def compute(self) -> dict[str, Tensor]:
        """`loss` and `accuracy`, means over the images, and their number, `images`."""
        return {"loss": self.loss / self.images, "accuracy": self.correct / self.images, "images": self.images}
