"""The cells of a study, as its reports and its queue know them."""

import math
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cell:
    """One variant with one seed: an ordinary run in a folder of its own."""

    variant: str
    seed: int
    folder: Path  # relative to the folder of the study
    status: str = "waiting"  # or running, finished, failed
    reason: str = ""  # of a failure, one line
    val_accuracy: float = math.nan  # a fraction; nan until finished
    val_loss: float = math.nan
    fit_seconds: float = math.nan
    parameters: int = 0
    device: str = ""
