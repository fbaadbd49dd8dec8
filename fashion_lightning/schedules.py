"""Learning rate schedules that PyTorch has only in parts."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class RiseAndFall(LambdaLR):
    """Rises linearly to the optimiser's learning rate, then falls linearly to zero, reached after the last step.

    Args:
        total_steps: Optimiser steps until zero.
        rise: Share of them in which the learning rate rises.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, rise: float = 0.2) -> None:
        rising = max(1, round(total_steps * rise))
        falling = max(1, total_steps - rising)
        super().__init__(optimizer, lambda step: max(0, min((step + 1) / rising, (total_steps - step) / falling)))
