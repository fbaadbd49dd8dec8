"""Networks: images in, logits out. Plain PyTorch; knows neither data nor training."""

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from fashion_lightning.errors import UserError

NUM_CLASSES = 10


class FashionCNN(nn.Module):
    """The assignment's network: three stages of convolution, batch norm, ReLU and pooling, then a linear layer."""

    def __init__(self, num_classes: int = NUM_CLASSES) -> None:
        super().__init__()
        if num_classes < 1:
            raise UserError(f"FashionCNN.num_classes: expected 1 or more, got {num_classes}")
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(32)
        self.conv3 = nn.Conv2d(32, 64, 5, padding=2)
        self.bn3 = nn.BatchNorm2d(64)
        self.fc = nn.Linear(64 * 3 * 3, num_classes)
        # On a CPU, pooling and batch norm are vectorised in this layout only; values and names stay the same.
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, num_classes) of images (B, 1, 28, 28), float in [-1, 1]. Raises ValueError for another shape."""
        _check(images)
        # Both keep the order of values, so pooling before ReLU is the same function; ReLU then has a quarter to do.
        x = F.relu(F.max_pool2d(self.bn1(self.conv1(images)), 2))  # (B, 16, 14, 14)
        x = F.relu(F.max_pool2d(self.bn2(self.conv2(x)), 2))  # (B, 32, 7, 7)
        x = F.relu(F.max_pool2d(self.bn3(self.conv3(x)), 2))  # (B, 64, 3, 3)
        return self.fc(x.flatten(1))


class PatchWhitening(nn.Module):
    """A first convolution that is not trained; its outputs are uncorrelated and have about the same variance.

    The filters are the principal components of the 3x3 patches of the first training batch, divided by their standard
    deviations, and the same with opposite sign, since a ReLU follows: twice as many as `components`, of which there
    are nine. From airbench (Jordan, arXiv 2404.00498). Several processes use the filters of the first one.
    """

    def __init__(self, components: int = 8) -> None:
        super().__init__()
        if not 1 <= components <= 9:
            raise UserError(f"PatchWhitening.components: expected 1 to 9, got {components}")
        self.filters: Tensor
        self.register_buffer("filters", torch.zeros(2 * components, 1, 3, 3))
        self._is_learned = False

    def forward(self, images: Tensor) -> Tensor:
        """(B, 2 components, H, W) of images (B, 1, H, W)."""
        return F.conv2d(images, self.filters, padding=1)

    def learn_from(self, images: Tensor) -> None:
        """Learns the filters from images (B, 1, H, W), in training and once.

        Its network does it before it is called, so that a compiled one has the same graph in all steps.
        """
        if self.training and not self._is_learned:
            self._learn(images)
            self._is_learned = True

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._is_learned = bool(self.filters.any())  # they may be those of before the first batch

    @torch.no_grad()
    def _learn(self, images: Tensor) -> None:
        with torch.autocast(images.device.type, enabled=False):
            patches = F.unfold(images.float(), 3).transpose(0, 1).flatten(1)  # (9, patches)
            variances, components = torch.linalg.eigh(torch.cov(patches).cpu())  # 9x9: faster than on an accelerator
            # The term keeps nearly constant components from becoming noise.
            filters = (components / (variances + 5e-4).sqrt()).T.flip(0)[: len(self.filters) // 2]
            learned = torch.cat([filters, -filters]).unflatten(1, (1, 3, 3)).to(images.device)
            if distributed.is_available() and distributed.is_initialized():
                distributed.broadcast(learned, src=0)
            self.filters.copy_(learned)


class WhitenedCNN(nn.Module):
    """Learns in fewer and cheaper steps than FashionCNN: patch whitening, two stages, then a linear layer.

    A stage is a 3x3 convolution with `widths` channels, a 2x2 max pool, batch norm and ReLU.
    """

    def __init__(self, widths: tuple[int, int] = (32, 128)) -> None:
        super().__init__()
        if len(widths) != 2 or min(widths) < 1:
            raise UserError(f"WhitenedCNN.widths: expected 2 numbers, each 1 or more, got {widths}")
        self.whitening = PatchWhitening()
        # Batch norm would cancel biases. The second convolution has no padding: half of the work.
        self.conv1 = nn.Conv2d(len(self.whitening.filters), widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.conv2 = nn.Conv2d(widths[0], widths[1], 3, bias=False)
        self.bn2 = nn.BatchNorm2d(widths[1])
        self.fc = nn.Linear(widths[1] * 3 * 3, NUM_CLASSES)
        self.to(memory_format=torch.channels_last)

    def __call__(self, images: Tensor) -> Tensor:
        """Logits (B, 10) of images (B, 1, 28, 28), float in [-1, 1]. Raises ValueError for another shape."""
        _check(images)
        self.whitening.learn_from(images)
        return super().__call__(images)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.whitening(images), 2))  # (B, 16, 14, 14)
        x = F.relu(self.bn1(F.max_pool2d(self.conv1(x), 2)))  # (B, widths[0], 7, 7)
        x = F.relu(self.bn2(F.max_pool2d(self.conv2(x), 2, ceil_mode=True)))  # (B, widths[1], 3, 3)
        return self.fc(x.flatten(1))


class ResidualCNN(nn.Module):
    """Accurate for its size. A stage is a 3x3 convolution, a residual pair of them, and a 2x2 max pool.

    `widths` are the channels of one to four stages. Batch norm and ReLU follow each convolution. The last pool covers
    the whole map. With `whitening`, patch whitening and a pool come first: the first stage works on 14x14 maps.
    """

    def __init__(self, widths: tuple[int, ...] = (16, 48, 96), whitening: bool = False) -> None:
        super().__init__()
        if not 1 <= len(widths) <= 4 or min(widths) < 1:
            raise UserError(f"ResidualCNN.widths: expected 1 to 4 numbers, each 1 or more, got {widths}")
        layers: list[nn.Module] = []
        channels, side = 1, 28
        if whitening:
            patches = PatchWhitening()
            layers = [patches, nn.MaxPool2d(2), nn.ReLU()]
            channels, side = len(patches.filters), 14
        for stage, width in enumerate(widths, start=1):
            layers += [_convolution(channels, width), _Residual(_convolution(width, width), _convolution(width, width))]
            layers += [nn.MaxPool2d(2 if stage < len(widths) else side)]
            channels, side = width, side // 2
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels, NUM_CLASSES))
        self.to(memory_format=torch.channels_last)

    def __call__(self, images: Tensor) -> Tensor:
        """Logits (B, 10) of images (B, 1, 28, 28), float in [-1, 1]. Raises ValueError for another shape."""
        _check(images)
        if isinstance(patches := self.layers[0], PatchWhitening):
            patches.learn_from(images)
        return super().__call__(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class _Residual(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


def _convolution(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())


def _check(images: Tensor) -> None:
    if images.shape[1:] != (1, 28, 28):
        raise ValueError(f"expected images of shape (B, 1, 28, 28), got {tuple(images.shape)}")
