"""The cells of a study, as its reports and its queue know them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Cell:
    """One variant with one seed: an ordinary run in a folder of its own."""

    variant: str
    seed: int
    folder: Path  # of the run, relative to that of the study
    status: str = "waiting"  # or running, finished, failed
    reason: str = ""  # of a failure, one line
    val_accuracy: float = math.nan  # a fraction; nan until finished
    val_loss: float = math.nan
    fit_seconds: float = math.nan
    parameters: int = 0
    device: str = ""
    software: str = ""  # that trained it: commit of this package, and torch

    @property
    def has_ended(self) -> bool:
        return self.status in ("finished", "failed")


def measured(results: Mapping[str, Any]) -> dict[str, Any]:
    """What a cell takes from the results of its run. Raises KeyError or TypeError if they are not those of a run."""
    val = results.get("val", {})  # there may be no validation images
    accuracy = {f"val_{name}": val[name] for name in ("accuracy", "loss") if val}
    commit, torch = results.get("git_commit"), results["versions"]["torch"]
    software = f"{commit}, torch {torch}" if commit else f"torch {torch}"
    return {
        **accuracy,
        **{name: results[name] for name in ("fit_seconds", "parameters", "device")},
        "software": software,
    }
