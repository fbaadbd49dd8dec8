"""What would go wrong in a job, found before any data is loaded or any process is started."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch

from fashion_lightning.classifier import FashionClassifier
from fashion_lightning.data.labels import CLASSES, IMAGE_SIZE
from fashion_lightning.data.module import FashionMNISTDataModule, check_trainer
from fashion_lightning.errors import UserError


def check_objects(trainer: pl.Trainer, model: FashionClassifier, data: FashionMNISTDataModule) -> None:
    """Raises UserError if trainer, model and data do not fit each other."""
    if data.batch_size % trainer.world_size:
        expected = f"a multiple of the {trainer.world_size} processes"
        raise UserError(f"--data.batch_size: expected {expected}, got {data.batch_size}")
    check_trainer(trainer)
    _check_network(model)
    _check_optimizer(model)


def _check_network(model: FashionClassifier) -> None:
    try:
        with torch.no_grad(), torch.random.fork_rng():
            logits = model.eval()(torch.zeros(2, 1, *IMAGE_SIZE))
    except Exception as error:  # a user's network may raise anything
        raise UserError(f"--model.network: cannot use images (B, 1, 28, 28): {error}") from error
    model.train()
    if logits.shape != (2, len(CLASSES)):
        expected = f"logits (B, {len(CLASSES)}) for images (B, 1, 28, 28)"
        raise UserError(f"--model.network: expected {expected}, got {tuple(logits.shape)} for B = 2")


def _check_optimizer(model: FashionClassifier) -> None:
    try:
        schedule = model.configure_optimizers()["lr_scheduler"]["scheduler"]
    except (ValueError, TypeError) as error:
        raise UserError(f"--model.optimizer, --model.lr_scheduler: {error}") from error
    if isinstance(schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
        raise UserError("--model.lr_scheduler: expected a schedule by the step, got ReduceLROnPlateau")


def check_writable(folder: Path) -> None:
    """Raises UserError if files cannot be written in `folder`, or where it would be made."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        expected = "--trainer.default_root_dir: expected a folder to write to"
        raise UserError(f"{expected}, but {folder}: {error.strerror}") from error


def check_output(flag: str, name: str | None, suffixes: Sequence[str]) -> Path | None:
    """Raises UserError if `name` is not a file name that can be used; returns its path."""
    path = Path(name) if name else None
    if path and path.suffix not in suffixes:
        raise UserError(f"{flag}: expected a name that ends in {' or '.join(suffixes)}, got {name}")
    if path and not path.parent.is_dir():
        raise UserError(f"{flag}: expected a file in an existing folder, got {name}")
    return path
