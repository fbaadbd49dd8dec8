"""Learning rate schedules that PyTorch does not have in one piece."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class RiseAndFall(LambdaLR):
    """Rises to the optimiser's rate, step by step, and then falls to zero, which is the rate after the last step.

    Args:
        total_steps: Optimiser steps until zero.
        rise: Share of them that the rate rises for.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, rise: float = 0.2) -> None:
        rising = max(1, round(total_steps * rise))
        falling = max(1, total_steps - rising)
        super().__init__(optimizer, lambda step: max(0, min((step + 1) / rising, (total_steps - step) / falling)))
