"""Where and with what a result was made: device, versions, commit."""

import functools
import importlib.metadata
import subprocess
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "jsonargparse", "numpy")


def environment(trainer: pl.Trainer) -> dict[str, Any]:
    """`device`, `versions` and `git_commit`."""
    versions = {package: importlib.metadata.version(package) for package in PACKAGES}
    commit = git_commit(Path(__file__).parent.parent)
    return {"device": describe_device(trainer), "versions": versions, "git_commit": commit}


def describe_device(trainer: pl.Trainer) -> str:
    device = trainer.strategy.root_device
    threads = torch.get_num_threads()
    name = f"{threads} thread" + "s" * (threads > 1)
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    processes = f", {trainer.world_size} processes" if trainer.world_size > 1 else ""
    return f"{device.type} ({name}{processes})"


def git_commit(package: Path) -> str | None:
    """The commit that `package` was run from, with `-dirty` if the package was changed since."""
    run = functools.partial(subprocess.run, cwd=package, capture_output=True, text=True, check=True)
    try:
        commit = run(["git", "rev-parse", "HEAD"]).stdout.strip()
        return f"{commit}-dirty" if run(["git", "diff", "--name-only", "HEAD", "--", "."]).stdout else commit
    except (OSError, subprocess.CalledProcessError):
        return None
