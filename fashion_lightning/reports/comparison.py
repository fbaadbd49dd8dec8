"""What two finished runs must agree in to be equal."""

import json
import logging
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fashion_lightning.storage.checkpoints import read
from fashion_lightning.storage.run_folders import Run

HISTORY = ("fit_seconds", "images_per_second", "checkpoint", "changes")  # how a result came about


def different(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Names of what is not equal."""
    return [name for name in one if one[name] != other[name]]


def contents(run: Run) -> dict[str, Any]:
    """Everything that a finished run left behind, but for times, places and what was changed on the way."""
    best, last, results = read(run.best).content, read(run.last).content, json.loads(run.results.read_text())
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it warns of every restart, which it handles
    board = EventAccumulator(str(run.folder), size_guidance={"scalars": 0}).Reload()
    return {
        "weights": _bits(last["state_dict"]),
        "best weights": _bits(best["state_dict"]),
        "optimiser state": _bits(last["optimizer_states"]),
        "learning rate": _bits(last["lr_schedulers"]),
        "metrics.csv": run.metrics.read_bytes(),
        "results.json": {key: value for key, value in results.items() if key not in HISTORY},
        "TensorBoard": {tag: [(e.step, e.value) for e in board.Scalars(tag)] for tag in board.Tags()["scalars"]},
    }


def _bits(state: Any) -> str:
    """Nested state as text, with the bytes of its tensors."""
    return repr(apply_to_collection(state, torch.Tensor, lambda t: t.reshape(-1).view(torch.uint8).numpy().tobytes()))
