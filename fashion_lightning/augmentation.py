"""Random changes of training images, by PyTorch's global generator, which a fit seeds for every step."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fashion_lightning.data.labels import IMAGE_SIZE
from fashion_lightning.errors import UserError

BLACK = -1.0  # of normalized images


class Augmentation(nn.Module):
    """Mirrors images left to right, shifts them, and covers a square, which may lie partly outside the image.

    Draws for each image; torchvision's transforms draw once for a whole batch.

    Args:
        mirror: Whether each image is mirrored with probability 0.5.
        shift: Largest shift in pixels, vertically and horizontally; the border is filled with black.
        cutout: Side of the square in pixels (DeVries and Taylor, arXiv 1708.04552); 0 for none.
    """

    def __init__(self, mirror: bool = True, shift: int = 1, cutout: int = 0) -> None:
        super().__init__()
        side = min(IMAGE_SIZE)
        for name, pixels, most in (("shift", shift, side - 1), ("cutout", cutout, side)):
            if not 0 <= pixels <= most:
                raise UserError(f"Augmentation.{name}: expected 0 to {most}, got {pixels}")
        self.mirror, self.shift, self.cutout = mirror, shift, cutout

    def forward(self, images: Tensor) -> Tensor:
        """Changed images (B, 1, H, W), float in [-1, 1]."""
        if self.mirror:
            is_mirrored = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
            images = torch.where(is_mirrored, images.flip(-1), images)
        if self.shift:
            images = self._shifted(images)
        if self.cutout:
            rows, columns = (self._covered(images, size) for size in images.shape[2:])
            images = images.masked_fill(rows[:, None, :, None] & columns[:, None, None, :], 0.0)
        return images

    def _shifted(self, images: Tensor) -> Tensor:
        count, _, height, width = images.shape
        padded = F.pad(images, [self.shift] * 4, value=BLACK)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (B, 1, 2 shift + 1, 2 shift + 1, H, W), a view
        down, right = torch.randint(2 * self.shift + 1, (2, count), device=images.device)
        return windows[torch.arange(count, device=images.device), :, down, right]

    def _covered(self, images: Tensor, size: int) -> Tensor:
        """Which rows or columns, of `size`, an image's square covers: (B, size) bool."""
        center = torch.randint(size, (len(images), 1), device=images.device)
        places = torch.arange(size, device=images.device) - (center - self.cutout // 2)
        return (places >= 0) & (places < self.cutout)
