"""What a command starts from: a run or a checkpoint, what these say of the settings, and what the flags may change."""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace

import fashion_lightning
from fashion_lightning import augmentation, networks, schedules
from fashion_lightning.classifier import AT_TEST
from fashion_lightning.data.module import FashionMNISTDataModule
from fashion_lightning.errors import CheckpointError, UserError
from fashion_lightning.storage.checkpoints import RECORDED, TRAINING_STATE, Checkpoint, read
from fashion_lightning.storage.run_folders import Run, find_checkpoint, newest_run, run_of

# Where classes are looked for by name.
MODULES = (torch.optim, torch.optim.lr_scheduler, networks, augmentation, schedules)
COMPARED = ("seed_everything", "model.", "data.", "trainer.")
OF_MODEL = ("model.network", *(f"model.{name}" for name in AT_TEST))
OF_SPLIT = ("val_fraction", "split_seed")
OF_EVALUATION = (*OF_MODEL, *(f"data.{name}" for name in OF_SPLIT), "trainer.precision")
NOT_COMPARED = ("data.seed", "trainer.default_root_dir")  # the first is linked to seed_everything
# Of a run that is resumed: its optimiser state, or its best validation accuracy, would be of something else.
FIXED = ("--model.optimizer", "--model.lr_scheduler", *(f"--model.{name}" for name in AT_TEST))


def find(job: str, config: Namespace, root: Path) -> tuple[Checkpoint | None, Run | None]:
    """The checkpoint to start from, and the run that is resumed or that wrote it."""
    if config.get("resume"):
        if config.ckpt_path:
            raise UserError("--resume: expected no --ckpt_path beside it: it takes the last one of the newest run")
        return _last_of_newest(root)
    if job == "study" and config.ckpt_path:
        raise UserError("--ckpt_path: expected none, since a study trains every cell from the beginning")
    name = config.ckpt_path or ("best" if job not in ("fit", "study") else None)
    if not name:
        return None, None
    path = find_checkpoint(name, root, of_run="last" if job == "fit" else "best")
    return read(path), run_of(path)


def _last_of_newest(root: Path) -> tuple[Checkpoint | None, Run | None]:
    """Raises CheckpointError if none is whole: to start from the beginning would overwrite what else the run has."""
    run = newest_run(root)
    if not run or not run.files("last"):
        return None, run
    *newer, oldest = run.files("last")
    for path in newer:
        try:
            return read(path), run
        except CheckpointError as error:
            warnings.warn(f"{error}; resuming from the checkpoint before it", stacklevel=2)
    return read(oldest), run


def check_resume(checkpoint: Checkpoint | None, changed: tuple[str, ...]) -> None:
    """Raises UserError if training cannot be resumed from the checkpoint, or not with settings that changed so."""
    if not checkpoint:
        return
    if not checkpoint.content.keys() >= TRAINING_STATE:
        raise UserError(f"{checkpoint.path} holds weights but no training state: expected a checkpoint of a fit")
    if not checkpoint.recorded and not run_of(checkpoint.path):
        unknown = f"{checkpoint.path} does not say with which settings it was trained"
        warnings.warn(f"{unknown}: make sure that the flags are the same", stacklevel=2)
    for line in changed:
        if line.startswith(FIXED):
            remedy = "drop that flag, or start a new run"
            raise UserError(f"cannot resume with another optimiser, schedule or evaluation: {line}; {remedy}")
    longer = [line for line in changed if line.startswith("--trainer.max_epochs")]
    if longer and checkpoint.part("callbacks", "StochasticWeightAveraging").get("scheduler_state"):
        reason = "StochasticWeightAveraging has begun, and ends with the run"
        raise UserError(f"cannot resume with {longer[0]}: {reason}; start a new run")


def flags_of_evaluation(checkpoint: Checkpoint) -> list[str]:
    """For what the checkpoint says of its evaluation. Nothing that it names is imported but networks of ours."""
    values: dict[str, Any] = {"model.network": checkpoint.part(*RECORDED, "model", "network")}
    trainer = checkpoint.part(*RECORDED, "trainer")
    if "precision" in trainer:
        values["trainer.precision"] = trainer["precision"]
    module, _, name = str(_class_of_network(checkpoint)).rpartition(".")
    if module not in (fashion_lightning.__name__, networks.__name__) or name not in vars(networks):
        values.pop("model.network", None)
    values |= {f"model.{name}": checkpoint.content[name] for name in AT_TEST if name in checkpoint.content}
    split = checkpoint.part(FashionMNISTDataModule.__qualname__)
    values |= {f"data.{name}": split[name] for name in OF_SPLIT if name in split}
    return [f"--{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in values.items()]


def check_network(checkpoint: Checkpoint, config: Namespace) -> None:
    """Raises UserError if the checkpoint names another class of network than the settings."""
    name, now = _class_of_network(checkpoint), getattr(config.model.network, "class_path", None)
    if name and now and name != now:  # a function that makes a network has no class
        arguments = checkpoint.part(*RECORDED, "model", "network", "init_args").items()
        flags = "".join(f" --model.network.{argument} {value}" for argument, value in arguments)
        remedy = f"if you trust its code, add --model.network {name}{flags}"
        raise UserError(f"{checkpoint.path} is of another network than {now}: {remedy}")


def _class_of_network(checkpoint: Checkpoint) -> str | None:
    return checkpoint.part(*RECORDED, "model", "network").get("class_path")


def departures(
    before: dict[str, Any], now: dict[str, Any], compared: tuple[str, ...], of: str = "run"
) -> tuple[str, ...]:
    """Settings that differ from those before, of a run or study; of a class that was changed, no arguments."""
    new, flat = _flat(now), _flat(before)
    old = {key: flat.get(key, flat.get(f"{key}.class_path")) for key in new}
    differ = [key for key in new if key.startswith(compared) and key not in NOT_COMPARED and new[key] != old[key]]
    classes = tuple(key.removesuffix("class_path") for key in differ if key.endswith(".class_path"))
    lines = []
    for key in differ:
        if key.endswith(".class_path") or not key.startswith(classes):
            flag = key.removesuffix(".class_path").replace(".init_args.", ".")
            lines.append(f"--{flag}: {_typed(new[key])}, in the {of}: {_typed(old[key])}")
    return tuple(lines)


def _flat(settings: dict[str, Any], group: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{group}{name}.") if isinstance(value, dict) else {f"{group}{name}": value}
    return flat


def _typed(value: object) -> str:
    """A value as on a command line, and of an object its class: by name where that is enough."""
    if isinstance(value, list):
        return f"[{', '.join(map(_typed, value))}]"
    if isinstance(value, dict) and "class_path" in value:
        return _typed(value["class_path"])
    name = str(value).rpartition(".")[2]
    if isinstance(value, str) and any(name in vars(module) for module in MODULES):
        return name
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)
