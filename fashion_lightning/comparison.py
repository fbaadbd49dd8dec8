"""What two runs have to agree in to be one and the same."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fashion_lightning.checkpoints import BEST, LAST, read

TIMES_AND_PLACES = ("fit_seconds", "images_per_second", "checkpoint")


def different(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Names of what is not the same."""
    return [name for name in one if one[name] != other[name]]


def contents(run: Path) -> dict[str, Any]:
    """All that a finished run came to, but for times and places."""
    best, last = (read(run / "checkpoints" / name) for name in (BEST, LAST))
    results = json.loads((run / "results.json").read_text())
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it warns of every restart that it copes with
    board = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    return {
        "weights": _digest(last["state_dict"]),
        "best weights": _digest(best["state_dict"]),
        "optimiser state": _digest(last["optimizer_states"]),
        "learning rate": _digest(last["lr_schedulers"]),
        "metrics.csv": (run / "metrics.csv").read_bytes(),
        "results.json": {key: value for key, value in results.items() if key not in TIMES_AND_PLACES},
        "TensorBoard": {tag: [(e.step, e.value) for e in board.Scalars(tag)] for tag in board.Tags()["scalars"]},
    }


def _digest(state: Any) -> str:
    """SHA-256 of the bits of all tensors and numbers in nested state."""
    digest = hashlib.sha256()

    def visit(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            digest.update(value.contiguous().view(torch.uint8).numpy() if value.ndim else repr(value.item()).encode())
        elif isinstance(value, dict):
            for key, entry in value.items():
                digest.update(str(key).encode())
                visit(entry)
        elif isinstance(value, list | tuple):
            for entry in value:
                visit(entry)
        else:
            digest.update(repr(value).encode())

    visit(state)
    return digest.hexdigest()
