"""The cells of a study as trials of Optuna: which wait, who trains which, and what they came to. Knows no training.

Optuna's `optimize` is not used: it repeats or loses trials of programs that were killed.
"""

import contextlib
import dataclasses
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from fashion_lightning.errors import UserError, WorkError
from fashion_lightning.storage.cells import Cell
from fashion_lightning.storage.study_folders import Range

# A cell of a program on another machine is given to others after GRACE_SECONDS without a sign of life of it.
HEARTBEAT_SECONDS, GRACE_SECONDS = 15, 60
# Names of attributes. A trial is alive since its first sign of life, and repeated if another has the same cell.
CELL, ALIVE, REPEATED, RESULTS, REASON, STUDY = "cell", "alive", "repeated", "results", "reason", "study"


class Queue:
    """Raises WorkError where the storage fails.

    Args:
        name: Of the study.
        key: Of the folder of the study, so that another study of the same name is not taken for it.
        url: Of the database.
        shared: Whether other programs work on the same cells.
        drawn: Values that were drawn for a cell before; empty if none were.
    """

    def __init__(
        self, name: str, key: str, url: URL, shared: bool, drawn: Callable[[Cell], dict[str, Any]] = lambda cell: {}
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=ExperimentalWarning)
        beats: dict[str, Any] = {"heartbeat_interval": HEARTBEAT_SECONDS, "grace_period": GRACE_SECONDS}
        self._shared, self._drawn = shared, drawn
        self._url = url.render_as_string()  # without its password
        with self._reported():
            text = url.render_as_string(hide_password=False)
            self._storage = RDBStorage(text, **(beats if shared else {}))
            options: dict[str, Any] = {"study_name": name, "storage": self._storage, "load_if_exists": True}
            self._study = optuna.create_study(direction="maximize", **options)
            self._study_id = self._storage.get_study_id_from_name(name)
            found = self._study.user_attrs.get(STUDY, key)
            if found != key:
                raise UserError(f"{self._url} has a study {name} of another folder: choose another --name")
            self._study.set_user_attr(STUDY, key)

    def recover(self) -> None:
        """Frees the cells of programs that have ended."""
        with self._reported():
            if self._shared:
                optuna.storages.fail_stale_trials(self._study)
            for trial in self._trials(TrialState.RUNNING):
                if not self._shared or self._was_never_alive(trial):
                    self._end(trial.number, TrialState.FAIL)

    def plan(self, cells: Sequence[Cell], retry_failed: bool = False) -> None:
        """Queues those that are not known, or were freed, in this order."""
        with self._reported():
            trials = self._by_cell()
            for cell in cells:
                found = _state(cell, trials.get(_name(cell), []))
                if not found or (retry_failed and found.status == "failed"):
                    self._study.enqueue_trial(self._drawn(cell), user_attrs={CELL: _name(cell)})

    def states(self, cells: Sequence[Cell]) -> list[Cell]:
        """The same cells, as far as they have come."""
        with self._reported():
            trials = self._by_cell()
            return [_state(cell, trials.get(_name(cell), [])) or cell for cell in cells]

    def claim(self, cells: Sequence[Cell]) -> "Claim | None":
        """The one of `cells` that waits longest, for this program alone; None if none waits."""
        known = {_name(cell): cell for cell in cells}
        with self._reported():
            trials = self._by_cell()
            for trial in self._trials(TrialState.WAITING):
                name = trial.user_attrs.get(CELL, "")
                if name not in known:
                    continue
                trial_id = self._id(trial.number)
                others = {other.state for other in trials.get(name, []) if other.number != trial.number}
                if REPEATED in trial.user_attrs or others & {TrialState.COMPLETE, TrialState.RUNNING}:
                    # Two programs have queued it.
                    self._end(trial.number, TrialState.FAIL, attributes={REPEATED: True})
                elif self._storage.set_trial_state_values(trial_id, TrialState.RUNNING):
                    claim = Claim(known[name], trial.number)
                    self.beat([claim])
                    self._storage.set_trial_user_attr(trial_id, ALIVE, True)
                    return claim
        return None

    def draw(self, claim: "Claim", space: Mapping[str, Range], sampler: BaseSampler) -> dict[str, Any]:
        """Values for a claimed cell."""
        with self._reported():
            # Another object each time: one that is not asked for trials keeps those that it has read first.
            study = optuna.load_study(study_name=self._study.study_name, storage=self._storage, sampler=sampler)
            study.get_trials(deepcopy=False)  # its storage knows trials that it has read
            trial = Trial(study, self._id(claim.number))
            return {name: _suggested(trial, name, values) for name, values in space.items()}

    def beat(self, claims: "Sequence[Claim]") -> None:
        """To be called every HEARTBEAT_SECONDS for the cells that this program trains."""
        if self._shared:
            with self._reported():
                for claim in claims:
                    self._storage.record_heartbeat(self._id(claim.number))

    def finish(self, claim: "Claim", results: Mapping[str, Any]) -> None:
        """`results` are fields of the cell."""
        accuracy = results.get("val_accuracy", math.nan)
        # Optuna takes a trial without a number for a failed one.
        value = accuracy if math.isfinite(accuracy) else 0.0
        with self._reported():
            self._end(claim.number, TrialState.COMPLETE, value, {RESULTS: dict(results)})

    def fail(self, claim: "Claim", reason: str) -> None:
        with self._reported():
            self._end(claim.number, TrialState.FAIL, attributes={REASON: reason})

    def free(self, claim: "Claim") -> None:
        """Queues again what was not trained to its end."""
        with self._reported():
            self._end(claim.number, TrialState.FAIL)
        self.plan([claim.cell])

    def _end(
        self, number: int, state: TrialState, value: float | None = None, attributes: Mapping[str, Any] | None = None
    ) -> None:
        with contextlib.suppress(UpdateFinishedTrialError):  # others have taken it for that of a killed program
            for name, content in (attributes or {}).items():
                self._storage.set_trial_user_attr(self._id(number), name, content)
            self._storage.set_trial_state_values(self._id(number), state, None if value is None else [value])

    def _was_never_alive(self, trial: FrozenTrial) -> bool:
        """Whether its program was killed before it gave a sign of life, without which Optuna waits for ever."""
        age = datetime.now() - (trial.datetime_start or datetime.now())
        return ALIVE not in trial.user_attrs and age.total_seconds() > GRACE_SECONDS

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states or None)

    def _by_cell(self) -> dict[str, list[FrozenTrial]]:
        found: dict[str, list[FrozenTrial]] = {}
        for trial in self._trials():
            if REPEATED not in trial.user_attrs:
                found.setdefault(trial.user_attrs.get(CELL, ""), []).append(trial)
        return found

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except ImportError as error:
            driver = getattr(error.__cause__, "name", None) or error
            raise UserError(f"--storage: {driver} is not installed, which {self._url} needs") from error
        except (StorageInternalError, SQLAlchemyError, RuntimeError) as error:
            cause = error.__cause__ or error
            reason = " ".join(str(getattr(cause, "orig", None) or cause).split())
            remedy = "mend it" if self._shared else "close what uses it, or remove it: the cells keep their results"
            raise WorkError(f"{self._url}: {reason}; {remedy}; then give the same command again") from error


@dataclasses.dataclass(frozen=True)
class Claim:
    """A cell that this program trains."""

    cell: Cell
    number: int  # of the trial


def _name(cell: Cell) -> str:
    return f"{cell.variant}/seed_{cell.seed}"


def _state(cell: Cell, trials: Sequence[FrozenTrial]) -> Cell | None:
    """None if nobody trains the cell, or has trained it to its end."""
    states = {trial.state: trial for trial in trials}  # the newest of each
    if finished := states.get(TrialState.COMPLETE):
        return dataclasses.replace(cell, status="finished", **finished.user_attrs[RESULTS])
    if TrialState.RUNNING in states:
        return dataclasses.replace(cell, status="running")
    if TrialState.WAITING in states:
        return cell
    reason = trials[-1].user_attrs.get(REASON) if trials else None
    return dataclasses.replace(cell, status="failed", reason=reason) if reason else None


def _suggested(trial: Trial, name: str, values: Range) -> Any:
    match values:
        case (int(low), int(high), bool(log)):
            return trial.suggest_int(name, low, high, log=log)
        case (float(low), float(high), bool(log)):
            return trial.suggest_float(name, low, high, log=log)
    return trial.suggest_categorical(name, values)
