"""What is done where a device has no deterministic version of what a network uses: it is said, and trained without."""

import copy
import warnings
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch.nn import functional as F

from fashion_lightning.data.labels import IMAGE_SIZE

EXACT = ("cpu",)  # types of devices for which this need not be tried: the networks here train on them
REASON = "does not have a deterministic implementation"  # in PyTorch's message


class ExactWherePossible(Callback):
    """Before training, tries a step of a copy; if PyTorch refuses it, warns once and lets PyTorch do it nevertheless.

    For `Trainer(deterministic=True)`, with which a run on such a device would end in its first step.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        device = trainer.strategy.root_device.type
        is_strict = torch.are_deterministic_algorithms_enabled()
        is_strict &= not torch.is_deterministic_algorithms_warn_only_enabled()
        if device in EXACT or not is_strict or not (refused := _refused(trainer, pl_module)):
            return
        torch.use_deterministic_algorithms(True, warn_only=True)
        warnings.filterwarnings("ignore", f".*{REASON}")  # of every operation, again and again
        if trainer.is_global_zero:
            promise = "two runs may differ in their last bits, and so may a resumed one"
            warnings.warn(f"{refused} has no deterministic version on {device}: {promise}", stacklevel=2)


def _refused(trainer: Trainer, pl_module: Any) -> str | None:
    """The operation that is not done in deterministic mode, in a step on two images."""
    network, augmentation = copy.deepcopy((pl_module.network, pl_module.augmentation))
    images = trainer.precision_plugin.convert_input(torch.zeros(2, 1, *IMAGE_SIZE, device=pl_module.device))
    labels = torch.zeros(2, dtype=torch.int64, device=pl_module.device)
    try:
        with torch.random.fork_rng(devices=[]), trainer.precision_plugin.forward_context():
            losses = F.cross_entropy(network(augmentation(images)), labels, reduction="none")
        losses.mean().backward()
    except RuntimeError as error:
        operation, found, _ = str(error).partition(f" {REASON}")
        return operation if found else None  # another error is one of training
    return None
