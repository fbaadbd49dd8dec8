"""Learning rate schedules that PyTorch has only in parts."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from fashion_lightning.errors import UserError


class RiseAndFall(LambdaLR):
    """Rises linearly to the optimiser's learning rate, then falls linearly to zero, reached after `total_steps`.

    Args:
        rise: Share of the steps in which the learning rate rises.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, rise: float = 0.2) -> None:
        if total_steps < 1:
            raise UserError(f"RiseAndFall.total_steps: expected 1 or more, got {total_steps}")
        if not 0 <= rise <= 1:
            raise UserError(f"RiseAndFall.rise: expected 0 to 1, got {rise}")
        rising = max(1, round(total_steps * rise))
        falling = max(1, total_steps - rising)
        super().__init__(optimizer, lambda step: max(0, min((step + 1) / rising, (total_steps - step) / falling)))
