"""Networks: images in, logits out. Plain PyTorch; knows neither data nor training."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NUM_CLASSES = 10


class FashionCNN(nn.Module):
    """The assignment's network: three stages of convolution, batch norm, ReLU and pooling, then a linear layer."""

    def __init__(self, num_classes: int = NUM_CLASSES) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(32)
        self.conv3 = nn.Conv2d(32, 64, 5, padding=2)
        self.bn3 = nn.BatchNorm2d(64)
        self.fc = nn.Linear(64 * 3 * 3, num_classes)
        # The CPU's pooling and batch norm are vectorised in this layout only; values and names stay the same.
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, num_classes) of images (B, 1, 28, 28), float in [-1, 1].

        Raises:
            ValueError: The images have another shape.
        """
        if images.shape[1:] != (1, 28, 28):
            raise ValueError(f"expected images of shape (B, 1, 28, 28), got {tuple(images.shape)}")
        # Pooling before ReLU is the same function, as both keep order, on a quarter of the values.
        x = F.relu(F.max_pool2d(self.bn1(self.conv1(images)), 2))  # (B, 16, 14, 14)
        x = F.relu(F.max_pool2d(self.bn2(self.conv2(x)), 2))  # (B, 32, 7, 7)
        x = F.relu(F.max_pool2d(self.bn3(self.conv3(x)), 2))  # (B, 64, 3, 3)
        return self.fc(x.flatten(1))
