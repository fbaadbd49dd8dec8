"""What TensorBoard shows beside the logged curves."""

import copy
import json
import warnings
from typing import Any

import torch
import yaml
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from fashion_lightning.data.labels import CLASSES
from fashion_lightning.data.module import data_of, normalize
from fashion_lightning.storage.provenance import environment

TAGS = {"loss": ["train/loss", "val/loss"], "accuracy": ["train/accuracy", "val/accuracy"], "learning rate": ["lr"]}
CHARTS = {name: ["Multiline", [f"^{tag}$" for tag in tags]] for name, tags in TAGS.items()}

# Of the Trainer's settings, those that a result may depend on, and of the data's, those that it does not depend on.
TRAINER = ["max_epochs", "max_steps", "check_val_every_n_epoch", "precision"]
TRAINER += ["accumulate_grad_batches", "gradient_clip_val", "limit_train_batches"]
NOT_OF_TRAINING = ("data_dir", "eval_batch_size", "verify", "seed", "match_checkpoint")


def writer_of(trainer: Trainer) -> SummaryWriter | None:
    """That of the run, if it is logged to TensorBoard."""
    return logger.experiment if (logger := _logger_of(trainer)) else None


def _logger_of(trainer: Trainer) -> TensorBoardLogger | None:
    return next((logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)), None)


def hyperparameters(config: str, recipe: str, pl_module: LightningModule) -> dict[str, Any]:
    """A row of the HPARAMS tab: the settings in `config`, YAML, that training depends on; `recipe` is their name."""
    named = {"config": recipe or "default", "seed": yaml.safe_load(config)["seed_everything"]}
    return {**named, **training_settings(config), "parameters": sum(p.numel() for p in pl_module.parameters())}


def training_settings(config: str) -> dict[str, Any]:
    """Of `config`, YAML, what training depends on, but for the seed: numbers and texts by names like those of flags."""
    settings = yaml.safe_load(config)
    settings["trainer"] = {name: settings["trainer"][name] for name in TRAINER}
    settings["data"] = {name: value for name, value in settings["data"].items() if name not in NOT_OF_TRAINING}
    row: dict[str, Any] = {}
    for part in ("model", "data", "trainer"):
        row |= _flattened(settings[part])
    return row


def _flattened(settings: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Of nested settings their values, by names like those of flags; of a class its name."""
    row: dict[str, Any] = {}
    for name, value in settings.items():
        if name == "init_args":
            row |= _flattened(value, before)
        elif name == "class_path":
            row[before.removesuffix(".")] = value.rpartition(".")[2]
        elif isinstance(value, dict):
            row |= _flattened(value, f"{before}{name}.")
        else:
            row[f"{before}{name}"] = value if isinstance(value, int | float | str) else json.dumps(value)
    return row


def log_hyperparameters(trainer: Trainer, row: dict[str, Any]) -> None:
    """With the final accuracies of the splits that were evaluated whole."""
    if logger := _logger_of(trainer):
        metrics, splits = trainer.callback_metrics, data_of(trainer).splits
        whole = [
            name for name in ("val", "test") if name in splits and metrics.get(f"{name}/images") == len(splits[name])
        ]
        # The name comes after `train`, so that SCALARS opens on the curves.
        final = {f"trained/{name}_accuracy": metrics[f"{name}/accuracy"] for name in whole}
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
            writer.add_graph(copy.deepcopy(network).cpu().float().eval(), normalize(image))
        except Exception as error:  # tracing fails on many valid networks, and must not cost a run its results
            warnings.warn(f"TensorBoard gets no graph of the network: {error}", stacklevel=2)


def add_pr_curves(writer: SummaryWriter, labels: Tensor, probabilities: Tensor, step: int) -> None:
    """A precision-recall curve per class, from labels (N,) and probabilities (N, 10) of the test images."""
    for index, name in enumerate(CLASSES):
        writer.add_pr_curve(f"test/{name}", labels == index, probabilities[:, index], step)


def add_embedding(writer: SummaryWriter, pl_module: LightningModule, images: Tensor, labels: Tensor, step: int) -> None:
    """The input (N, features) of the network's last linear layer, or its logits if it has none; images are uint8."""
    features: list[Tensor] = []
    network = copy.deepcopy(pl_module.get_submodule("network"))  # a compiled one, unlike its copy, calls no hooks
    for layer in (module for module in network.modules() if isinstance(module, nn.Linear)):
        layer.register_forward_pre_hook(lambda _, args: features.append(args[0]))
    with torch.inference_mode():
        logits = network(normalize(images.to(pl_module.device)).to(pl_module.dtype))
    vectors = features[-1] if features else logits
    thumbnails = (255 - images).expand(-1, 3, -1, -1) / 255
    writer.add_embedding(vectors.float().cpu(), [CLASSES[label] for label in labels], thumbnails, step, "test")
