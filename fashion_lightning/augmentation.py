"""Random changes of training images, drawn for each image. Knows no training.

Draws come from PyTorch's global generator, which a fit seeds for every step, so that a resumed run draws the same.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLACK = -1.0  # of normalized images


class Augmentation(nn.Module):
    """Mirrors images left to right, shifts them, and covers a square, which may lie partly outside the image.

    torchvision's transforms draw once for a whole batch.

    Args:
        mirror: Whether each image is mirrored with probability 0.5.
        shift: Largest shift in pixels, vertically and horizontally; the border is filled with black.
        cutout: Side of the square in pixels (DeVries and Taylor, arXiv 1708.04552); 0 for none.
    """

    def __init__(self, mirror: bool = True, shift: int = 1, cutout: int = 0) -> None:
        super().__init__()
        self.mirror, self.shift, self.cutout = mirror, shift, cutout

    def forward(self, images: Tensor) -> Tensor:
        """Changed images (B, 1, H, W), float in [-1, 1]."""
        if self.mirror:
            is_mirrored = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
            images = torch.where(is_mirrored, images.flip(-1), images)
        if self.shift:
            images = _shifted(images, self.shift)
        if self.cutout:
            rows, columns = (_covered(images, size, self.cutout) for size in images.shape[2:])
            images = images.masked_fill(rows[:, None, :, None] & columns[:, None, None, :], 0.0)
        return images


def _shifted(images: Tensor, most: int) -> Tensor:
    count, _, height, width = images.shape
    padded = F.pad(images, [most] * 4, value=BLACK)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (B, 1, 2 most + 1, 2 most + 1, H, W), a view
    down, right = torch.randint(2 * most + 1, (2, count), device=images.device)
    return windows[torch.arange(count, device=images.device), :, down, right]


def _covered(images: Tensor, size: int, length: int) -> Tensor:
    """Which rows or columns, of `size`, an image's square covers: (B, size) bool."""
    first = torch.randint(size, (len(images), 1), device=images.device) - length // 2  # the center is on the image
    places = torch.arange(size, device=images.device)
    return (places >= first) & (places < first + length)
