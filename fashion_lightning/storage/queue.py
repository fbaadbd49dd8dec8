"""The cells of a study as trials of Optuna: who trains which, and what it came to. Knows no training.

Of Optuna, its grid sampler, heartbeat in `optimize` and retries are not used: they repeat or lose trials.
"""

import contextlib
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from fashion_lightning.errors import UserError, WorkError
from fashion_lightning.storage.cells import Cell

# On several machines, a trial of a program that has ended is given to others after GRACE_SECONDS without a sign of life.
HEARTBEAT_SECONDS, GRACE_SECONDS = 15, 60
CELL, RESULTS, REASON, FOLDER = "cell", "results", "reason", "folder"  # attributes of trials, and of the study

Space = Mapping[str, tuple[float, float, bool] | tuple[str, ...]]  # low, high, log; or choices


@dataclass(frozen=True)
class Claim:
    """A cell that this program has to train."""

    cell: Cell
    number: int  # of the trial
    trial_id: int


@contextlib.contextmanager
def _reported(url: str) -> Iterator[None]:
    """Raises WorkError for what the database reports."""
    try:
        yield
    except StorageInternalError as error:
        cause = error.__cause__ or error
        *_, reason = str(getattr(cause, "orig", None) or cause).strip().splitlines()[:1]
        remedy = "finished cells are kept, then give the same command again"
        raise WorkError(f"the storage {url} fails: {reason}; mend that, {remedy}") from error


class Queue:
    """Cells of a study, by name.

    Args:
        url: Of the database, as SQLAlchemy takes it.
        shared: Whether other programs work on the same cells. If not, what is running now was left behind by a kill.
        place: Identifies the folder of the study.
    """

    def __init__(self, name: str, url: str, shared: bool, place: str) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=ExperimentalWarning)
        beats = {"heartbeat_interval": HEARTBEAT_SECONDS, "grace_period": GRACE_SECONDS} if shared else {}
        self._url, self._shared, self._is_begun = url, shared, False
        try:
            with _reported(url):
                self._storage = RDBStorage(url, **beats)  # type: ignore[arg-type]
                self._study = optuna.create_study(
                    study_name=name, storage=self._storage, direction="maximize", load_if_exists=True
                )
                self._study_id = self._storage.get_study_id_from_name(name)
        except ImportError as error:
            raise UserError(f"--storage: {error.name or error} is not installed, which {url} needs") from error
        known = self._study.user_attrs.setdefault(FOLDER, place)
        if known != place:
            raise UserError(f"{url} has a study {name} of another folder ({known}): choose another --name")
        self._study.set_user_attr(FOLDER, place)
