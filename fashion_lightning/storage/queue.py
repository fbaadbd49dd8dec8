"""The cells of a study as trials of Optuna: which wait, who trains which, and what they came to. Knows no training.

Optuna's `optimize` is not used: it repeats or loses trials of programs that were killed.
"""

import contextlib
import dataclasses
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from fashion_lightning.errors import UserError, WorkError
from fashion_lightning.storage.cells import Cell
from fashion_lightning.storage.study_folders import Range

# A cell of a program on another machine is given to others after GRACE_SECONDS without a sign of life of it.
HEARTBEAT_SECONDS, GRACE_SECONDS = 15, 60
CELL, DRAWN, RESULTS, REASON, STUDY = "cell", "drawn", "results", "reason", "study"  # names of attributes


class Queue:
    """Raises WorkError where the storage fails.

    Args:
        name: Of the study.
        key: Of the folder of the study, so that another study of the same name is not taken for it.
        url: Of the database, as SQLAlchemy takes it.
        shared: Whether other programs work on the same cells.
    """

    def __init__(self, name: str, key: str, url: str, shared: bool) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=ExperimentalWarning)
        beats: dict[str, Any] = {"heartbeat_interval": HEARTBEAT_SECONDS, "grace_period": GRACE_SECONDS}
        self._shared, self._url = shared, url
        with self._reported():
            self._storage = RDBStorage(url, **(beats if shared else {}))
            options: dict[str, Any] = {"study_name": name, "storage": self._storage, "load_if_exists": True}
            self._study = optuna.create_study(direction="maximize", **options)
            self._study_id = self._storage.get_study_id_from_name(name)
            found = self._study.user_attrs.get(STUDY, key)
            if found != key:
                raise UserError(f"{url} has a study {name} of another folder: choose another --name")
            self._study.set_user_attr(STUDY, key)

    def recover(self) -> None:
        """Frees the cells of programs that have ended."""
        with self._reported():
            if self._shared:
                return optuna.storages.fail_stale_trials(self._study)
            for trial in self._trials(TrialState.RUNNING):  # nobody else works on the study
                self._end(trial.number, TrialState.FAIL)

    def plan(self, cells: Sequence[Cell], retry_failed: bool = False) -> None:
        """Queues those that are not known, or were freed, in this order."""
        with self._reported():
            trials = self._by_cell()
            for cell in cells:
                found = _state(cell, trials.get(_name(cell), []))
                if not found or (retry_failed and found.status == "failed"):
                    # What was drawn for a cell before it was freed stays.
                    drawn = [trial.params for trial in trials.get(_name(cell), []) if DRAWN in trial.user_attrs]
                    self._study.enqueue_trial(drawn[0] if drawn else {}, user_attrs={CELL: _name(cell)})

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
                others = {other.state for other in trials[name] if other.number != trial.number}
                if others & {TrialState.COMPLETE, TrialState.RUNNING}:  # two programs have queued it
                    self._storage.set_trial_state_values(trial_id, TrialState.FAIL)
                elif self._storage.set_trial_state_values(trial_id, TrialState.RUNNING):
                    claim = Claim(known[name], trial.number)
                    self.beat([claim])
                    return claim
        return None

    def draw(self, claim: "Claim", space: Mapping[str, Range], sampler: BaseSampler) -> dict[str, str]:
        """Values for a claimed cell, as they are typed."""
        with self._reported():
            self._study.sampler = sampler
            trial = Trial(self._study, self._id(claim.number))
            drawn = {name: _suggested(trial, name, values) for name, values in space.items()}
            trial.set_user_attr(DRAWN, True)  # all of them: a kill may have left some
            return drawn

    def drawn(self, cell: Cell) -> dict[str, Any]:
        """What `draw` gave for a cell."""
        with self._reported():
            found = [trial.params for trial in self._by_cell()[_name(cell)] if DRAWN in trial.user_attrs]
            return found[-1] if found else {}

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

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states or None)

    def _by_cell(self) -> dict[str, list[FrozenTrial]]:
        found: dict[str, list[FrozenTrial]] = {}
        for trial in self._trials():
            found.setdefault(trial.user_attrs.get(CELL, ""), []).append(trial)
        return found

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except ImportError as error:
            raise UserError(f"--storage: {error.name} is not installed, which {self._url} needs") from error
        except (StorageInternalError, SQLAlchemyError) as error:
            cause = error.__cause__ or error
            reason = " ".join(str(getattr(cause, "orig", None) or cause).split())
            remedy = "mend it" if self._shared else "mend it, or remove it, since the cells keep their results"
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
    for trial in trials:
        if trial.state is TrialState.COMPLETE:
            return dataclasses.replace(cell, status="finished", **trial.user_attrs[RESULTS])
    for trial in reversed(trials):
        if trial.state is TrialState.RUNNING:
            return dataclasses.replace(cell, status="running")
        if trial.state is TrialState.WAITING:
            return cell
        if reason := trial.user_attrs.get(REASON):
            return dataclasses.replace(cell, status="failed", reason=reason)
    return None


def _suggested(trial: Trial, name: str, values: Range) -> str:
    match values:
        case (int(low), int(high), bool(log)):
            return str(trial.suggest_int(name, low, high, log=log))
        case (float(low), float(high), bool(log)):
            return repr(trial.suggest_float(name, low, high, log=log))
    return trial.suggest_categorical(name, values)
