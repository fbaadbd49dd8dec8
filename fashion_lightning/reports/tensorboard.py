"""What TensorBoard shows beside the logged curves."""

import copy
import warnings
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from fashion_lightning.data.labels import CLASSES
from fashion_lightning.data.module import data_of, normalize
from fashion_lightning.storage.provenance import environment

TAGS = {"loss": ["train/loss", "val/loss"], "accuracy": ["train/accuracy", "val/accuracy"], "learning rate": ["lr"]}
CHARTS = {name: ["Multiline", [f"^{tag}$" for tag in tags]] for name, tags in TAGS.items()}


def writer_of(trainer: Trainer) -> SummaryWriter | None:
    """That of the run, if it is logged to TensorBoard."""
    return logger.experiment if (logger := _logger_of(trainer)) else None


def _logger_of(trainer: Trainer) -> TensorBoardLogger | None:
    return next((logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)), None)


def hyperparameters(trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
    """A row of the HPARAMS tab."""
    optimizer, data = trainer.optimizers[0], data_of(trainer)
    row = {"network": type(pl_module.network).__name__, "parameters": sum(p.numel() for p in pl_module.parameters())}
    row |= {"optimizer": type(optimizer).__name__, "lr": optimizer.param_groups[0]["initial_lr"]}
    row |= {"lr_scheduler": type(trainer.lr_scheduler_configs[0].scheduler).__name__}
    row |= {"batch_size": data.batch_size, "max_epochs": trainer.max_epochs}
    return {**row, "precision": str(trainer.precision), "seed": data.seed}


def log_hyperparameters(trainer: Trainer, row: dict[str, Any]) -> None:
    """With the final accuracies; an empty row is of no run, and not logged."""
    if row and (logger := _logger_of(trainer)):
        splits = [split for split in data_of(trainer).splits if split in data_of(trainer).tested and split != "train"]
        final = {f"hp/{split}_accuracy": trainer.callback_metrics[f"{split}/accuracy"] for split in splits}
        logger.log_hyperparams(row, final, trainer.global_step)


def add_descriptions(writer: SummaryWriter, trainer: Trainer, config: str) -> None:
    """The layout of the charts, and settings and environment as texts."""
    writer.add_custom_scalars({"training and validation": CHARTS})
    facts = environment(trainer)
    facts |= facts.pop("versions")
    rows = "".join(f"| {name} | {value} |\n" for name, value in facts.items())
    writer.add_text("environment", f"| | |\n| --- | --- |\n{rows}")
    writer.add_text("config", f"```yaml\n{config}```")


def add_graph(writer: SummaryWriter, network: nn.Module, image: Tensor) -> None:
    """Traces a copy on an image (1, 1, 28, 28) uint8, so that training statistics and random draws do not change."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*jit.trace.* is deprecated")  # SummaryWriter has no other way
        warnings.filterwarnings("ignore", "Converting a tensor to a Python boolean")  # checks of the input's shape
        try:
            writer.add_graph(copy.deepcopy(network).cpu().eval(), normalize(image))
        except Exception as error:  # tracing fails on many valid networks, and must not cost a run its results
            warnings.warn(f"TensorBoard gets no graph of the network: {error}", stacklevel=2)


def add_classes(writer: SummaryWriter, labels: Tensor, probabilities: Tensor, step: int, pr_curves: bool) -> None:
    """Accuracy and precision-recall curve per class, from labels (N,) and probabilities (N, 10) of the test images."""
    for index, name in enumerate(CLASSES):
        right = probabilities[labels == index].argmax(1) == index
        writer.add_scalar(f"class_accuracy/{name}", right.float().mean(), step)
        if pr_curves:
            writer.add_pr_curve(f"test/{name}", labels == index, probabilities[:, index], step)


def add_embedding(writer: SummaryWriter, pl_module: LightningModule, images: Tensor, labels: Tensor, step: int) -> None:
    """The input (N, features) of the network's last linear layer, or its logits if it has none; images are uint8."""
    features: list[Tensor] = []
    layers = [module for module in pl_module.get_submodule("network").modules() if isinstance(module, nn.Linear)]
    hooks = [layer.register_forward_pre_hook(lambda _, args: features.append(args[0])) for layer in layers]
    with torch.inference_mode():
        logits = pl_module(normalize(images.to(pl_module.device)))
    for hook in hooks:
        hook.remove()
    vectors = features[-1] if features else logits
    thumbnails = (255 - images).expand(-1, 3, -1, -1) / 255
    writer.add_embedding(vectors.float().cpu(), [CLASSES[label] for label in labels], thumbnails, step, "test")
