"""What would go wrong in a job, found before any process is started, and most of it before any data is loaded."""

import os
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BatchSizeFinder, EarlyStopping, LearningRateFinder
from pytorch_lightning.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from torch import nn

from fashion_lightning.augmentation import Augmentation
from fashion_lightning.classifier import FashionClassifier
from fashion_lightning.data.labels import CLASSES, IMAGE_SIZE
from fashion_lightning.data.module import FashionMNISTDataModule, check_trainer
from fashion_lightning.errors import UserError
from fashion_lightning.storage.whole_files import part_of


def check_objects(trainer: pl.Trainer, model: FashionClassifier, data: FashionMNISTDataModule) -> None:
    """Raises UserError if trainer, model and data do not fit each other."""
    if data.batch_size % trainer.world_size:
        expected = f"a multiple of the {trainer.world_size} processes"
        raise UserError(f"--data.batch_size: expected {expected}, got {data.batch_size}")
    if trainer.precision == "16-true" and trainer.strategy.root_device.type == "cpu":
        raise UserError("--trainer.precision: expected bf16-true on a CPU, got 16-true, which is slow there")
    if isinstance(trainer.strategy, FSDPStrategy | DeepSpeedStrategy | ModelParallelStrategy):
        got = type(trainer.strategy).__name__
        raise UserError(f"--trainer.strategy: expected one with whole networks, as ddp, got {got}, which divides them")
    check_trainer(trainer)
    _check_intervals(trainer)
    _check_network(trainer, model)
    _check_optimizer(model)


def check_training(trainer: pl.Trainer, model: FashionClassifier, data: FashionMNISTDataModule) -> None:
    """Raises UserError if a step would fail, or a callback cannot work."""
    _check_callbacks(trainer, data)
    check_compiler(trainer, model)
    warn_of_views(trainer, model)
    device = trainer.strategy.root_device
    if device.type == "cpu" or trainer.world_size == 1:  # as in `check_compiler`
        _check_step(model, device)


def check_batches(trainer: pl.Trainer, data: FashionMNISTDataModule) -> None:
    """Raises UserError if the data have too few batches for the trainer's limits."""
    counts = {"train": len(data.train_dataloader()), "val": len(data.val_dataloader())}
    # The limit of the test is one of every split. No loader of the test set is made before training has ended.
    counts["test"] = -(-min(map(len, data.splits.values())) // (data.eval_batch_size * trainer.world_size))
    for split, count in counts.items():
        limit = getattr(trainer, f"limit_{split}_batches")
        if isinstance(limit, float) and count and 0 < limit * count < 1:
            raise UserError(f"--trainer.limit_{split}_batches: expected {1 / count:.3g} or more, got {limit}")
    interval, limit = getattr(trainer, "val_check_interval", None), trainer.limit_train_batches
    batches = min(limit, counts["train"]) if isinstance(limit, int) else int(limit * counts["train"])
    is_by_epoch = trainer.check_val_every_n_epoch and trainer.limit_val_batches
    if isinstance(interval, int) and is_by_epoch and 0 < batches < interval:
        expected = f"at most {batches}, the batches of an epoch, or --trainer.check_val_every_n_epoch null"
        raise UserError(f"--trainer.val_check_interval: expected {expected}, got {interval}")


def _check_intervals(trainer: pl.Trainer) -> None:
    for name in ("accumulate_grad_batches", "val_check_interval", "check_val_every_n_epoch"):
        value = getattr(trainer, name, None)
        if value is not None and value <= 0:
            raise UserError(f"--trainer.{name}: expected more than 0, got {value}")


def _check_network(trainer: pl.Trainer, model: FashionClassifier) -> None:
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            logits = model.eval()(trainer.precision_plugin.convert_input(torch.zeros(2, 1, *IMAGE_SIZE)))
    except Exception as error:  # a user's network may raise anything
        raise UserError(f"--model.network: cannot use images (B, 1, 28, 28): {error}") from error
    model.train()
    if logits.shape != (2, len(CLASSES)):
        expected = f"logits (B, {len(CLASSES)}) for images (B, 1, 28, 28)"
        raise UserError(f"--model.network: expected {expected}, got {tuple(logits.shape)} for B = 2")


def check_compiler(trainer: pl.Trainer, model: FashionClassifier) -> None:
    """Raises UserError if the network is to be compiled, and the compiler for its device does not work."""
    device = trainer.strategy.root_device
    if not model.compiles or (device.type != "cpu" and trainer.world_size > 1):
        return  # processes that fork must not find an accelerator in use
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(2, device=device))
    except Exception as error:  # of any part of the compiler
        needed = "g++ and Python's header files" if device.type == "cpu" else "Triton"
        remedy = f"install {needed}, or use --model.compile false"
        problem = str(error).strip().partition("\n")[0]
        raise UserError(f"--model.compile: expected a compiler that works, but {problem}: {remedy}") from error


def _check_optimizer(model: FashionClassifier) -> None:
    try:
        schedule = model.configure_optimizers()["lr_scheduler"]["scheduler"]
    except (ValueError, TypeError, NotImplementedError) as error:
        raise UserError(f"--model.optimizer, --model.lr_scheduler: {str(error) or type(error).__name__}") from error
    if isinstance(schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
        raise UserError("--model.lr_scheduler: expected a schedule by the step, got ReduceLROnPlateau")


def _check_step(model: FashionClassifier, device: torch.device) -> None:
    """Steps once with other parameters of the same shapes."""
    losses: list[float] = []

    def loss() -> float:
        losses.append(1.0)
        return losses[-1]

    shapes = [parameter.shape for parameter in model.network.parameters()]
    parameters = [nn.Parameter(torch.ones(shape, device=device)) for shape in shapes]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    try:
        optimizer = model.optimizer(parameters)
        schedule = model.lr_scheduler(optimizer)
        optimizer.step(loss)
        schedule.step()
        schedule.state_dict()  # for a checkpoint
    except Exception as error:  # a user's class may raise anything
        problem = f"a step fails with {type(error).__name__}: {error}"
        raise UserError(f"--model.optimizer, --model.lr_scheduler: {problem}") from error
    if len(losses) > 1:
        got = f"{type(optimizer).__name__}, which needs it {len(losses)} times"
        raise UserError(f"--model.optimizer: expected one that needs the loss once a step, got {got}")


def _check_callbacks(trainer: pl.Trainer, data: FashionMNISTDataModule) -> None:
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by Lightning
    for callback in callbacks:
        if isinstance(callback, BatchSizeFinder | LearningRateFinder):
            name = type(callback).__name__
            raise UserError(
                f"--trainer.callbacks: expected settings that stay, got {name}: use Lightning's Tuner instead"
            )
    modules = [type(callback).__module__ for callback in callbacks]
    if not all(module.startswith(("pytorch_lightning.", "fashion_lightning.")) for module in modules):
        return  # a user's callback may log other names
    splits = ("train", "val") if data.val_fraction and trainer.limit_val_batches else ("train",)
    of_epoch = [f"{split}/{name}" for split in splits for name in ("loss", "accuracy")]
    for callback in callbacks:
        more = [] if isinstance(callback, EarlyStopping) else ["train/loss_step", "epoch", "step", "lr"]
        known = [*of_epoch, *more]
        monitor = getattr(callback, "monitor", None)
        if monitor not in (None, *known):
            expected = f"{type(callback).__name__}.monitor: expected one of {', '.join(known)}"
            raise UserError(f"--trainer.callbacks: {expected}, got {monitor}")


def warn_of_views(trainer: pl.Trainer, model: FashionClassifier) -> None:
    """Warns where logits are means over images such as the network is not trained on."""
    augmentation = model.augmentation  # of a user's own, nobody knows what it does
    for change, images in (("mirror", "mirror images"), ("shift", "shifted images")):
        is_own = not isinstance(augmentation, Augmentation | nn.Identity)
        if getattr(model, f"{change}_at_test") and not (is_own or getattr(augmentation, change, False)):
            reason = f"without --model.augmentation Augmentation with {change} the network is not trained on {images}"
            if trainer.is_global_zero:
                warnings.warn(f"--model.{change}_at_test: {reason}, and loses accuracy on them", stacklevel=2)


def check_writable(flag: str, folder: Path) -> None:
    """Raises UserError if files cannot be written in `folder`, or where it would be made."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UserError(f"{flag}: expected a folder to write to, but {folder}: {error.strerror}") from error


def check_output(flag: str, name: str | None, suffixes: Sequence[str], makes_folder: bool = False) -> Path | None:
    """Raises UserError if a file of this name cannot be written; returns its path."""
    if name is None:
        return None
    path = Path(name)
    if path.suffix.lower() not in suffixes:
        raise UserError(f"{flag}: expected a name that ends in {' or '.join(suffixes)}, got {name}")
    if not makes_folder and not path.parent.is_dir():
        raise UserError(f"{flag}: expected a file in an existing folder, got {name}")
    check_writable(flag, path.parent)
    return path


def check_replaced(flag: str, paths: Sequence[Path], inputs: Sequence[Path], overwrite: bool) -> None:
    """Raises UserError if writing `paths` would replace one of the inputs, or a file without `--overwrite`."""
    taken = [path for output in paths for path in (output, part_of(output)) if os.path.lexists(path)]
    for path in taken:
        if path.is_dir():
            raise UserError(f"{flag}: expected a file, got the folder {path}")
        if path.exists() and any(map(path.samefile, inputs)):
            raise UserError(f"{flag}: expected another file than those to predict, got {path}, which is one of them")
        if not overwrite:
            raise UserError(f"{flag}: {path} exists: use another name, or replace it with --overwrite")
