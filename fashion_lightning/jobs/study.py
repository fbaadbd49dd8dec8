"""Variants trained with the same seeds, and compared. Knows no command line."""

import contextlib
import dataclasses
import functools
import math
import statistics
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
import yaml
from sqlalchemy import URL

from fashion_lightning.errors import Stopped, UserError, WorkError
from fashion_lightning.jobs import child_process
from fashion_lightning.jobs.workers import Workers
from fashion_lightning.reports import results
from fashion_lightning.reports.differences import Comparison, Verdict, compare
from fashion_lightning.reports.differences_notes import failures, notes
from fashion_lightning.reports.differences_table import print_comparisons, write_cells, write_comparisons
from fashion_lightning.reports.results import standard_error
from fashion_lightning.reports.study_progress import Progress
from fashion_lightning.storage.cells import Cell
from fashion_lightning.storage.locking import locked
from fashion_lightning.storage.queue import Claim, Queue
from fashion_lightning.storage.study_folders import SAMPLERS, TRIAL, WINNER, Definition, Range, StudyFolder, run_folder

SECONDS_TO_WAIT = 30  # for another program that plans the same study


@dataclass(frozen=True)
class Study:
    place: StudyFolder
    definition: Definition
    before: Definition | None  # what `place` had of it when the command was given
    storage: URL | None  # of a database that is shared with other machines
    variables: Sequence[Mapping[str, str]]  # of the environment of each worker
    space: Mapping[str, Range]
    settings_of: Callable[[Mapping[str, str]], str]  # YAML of what was drawn; may raise UserError
    points: float  # the difference of accuracies that matters, in percentage points
    retry_failed: bool
    test_winner: bool
    again: str  # the command

    def run(self) -> list[dict[str, Any]]:
        """The comparison, a row a variant. Raises WorkError at the end if a cell failed."""
        self.place.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            if not self.storage:
                stack.enter_context(locked(self.place.lock, "study"))
            with self._exclusive():
                definition = self._begin()
                queue = queue_of(self.place, definition, self.storage)
            progress = Progress(self.place, self.points)
            try:
                trials = trials_of(definition)
                if trials:
                    self._train(queue, trials, progress)
                    definition = self._with_winner(definition, queue.states(trials))
                cells = cells_of(definition)
                self._train(queue, cells, progress)
            except Stopped as stopped:
                problem = f"stopped by {stopped}; cells in training are saved up to their last checkpoints"
                raise Stopped(f"{problem}; to resume: {self.again}", stopped.status) from None
            cells, trials = queue.states(cells), queue.states(trials)
            comparisons = self._report(definition, cells, trials)
            if self.test_winner:
                with self._exclusive(math.inf):  # other machines wait, and then read what it came to
                    self._test(self.place.read() or definition, comparisons, cells)
        failed = sum(cell.status == "failed" for cell in [*trials, *cells])
        if failed:
            them = "it" if failed == 1 else "them"
            raise WorkError(
                f"{failed} of {len(trials) + len(cells)} cells failed; to train {them} again, add --retry_failed"
            )
        return [dataclasses.asdict(row) for row in comparisons]

    @contextlib.contextmanager
    def _exclusive(self, seconds: float = SECONDS_TO_WAIT) -> Iterator[None]:
        """Where no other program plans the study; one that is not shared is locked all the time."""
        with locked(self.place.lock, "study", seconds) if self.storage else contextlib.nullcontext():
            yield

    def _begin(self) -> Definition:
        """Writes the definition, if it is new or was added to."""
        found, own = self.place.read(), self.definition
        if found == self.before:
            if own != found:
                self.place.write(own)
            return own
        # Another machine has written it since. Comments in settings name versions.
        same = {name: getattr(own, name) for name in ("key", "looks", "tested", "winner", "settings")}
        if not found or dataclasses.replace(found, **same) != own or _loaded(found) != _loaded(own):
            raise UserError(f"{self.place.folder} was changed by another command at this moment: try again")
        return found

    def _train(self, queue: Queue, cells: Sequence[Cell], progress: Progress) -> None:
        def take_over() -> None:
            with self._exclusive():
                queue.recover()
                queue.plan(cells)

        with self._exclusive():
            queue.recover()
            queue.plan(cells, self.retry_failed)
        prepare = functools.partial(self._prepare, queue)
        others = take_over if self.storage else None
        Workers(self.place, queue, self.variables, prepare, others, progress).train(cells)

    def _prepare(self, queue: Queue, claim: Claim) -> None:
        search, variant = self.definition.search, claim.cell.variant
        if search and variant.startswith(TRIAL):
            # Not the number of Optuna's trial, which changes where a cell was freed and queued again.
            index = int(variant.removeprefix(TRIAL))
            [seed] = np.random.SeedSequence([search.seed, index]).generate_state(1).tolist()
            sampler = getattr(optuna.samplers, SAMPLERS[search.sampler])(seed=seed)
            # Also where they were drawn before, so that Optuna knows the values.
            drawn = queue.draw(claim, self.space, sampler)
            if not self.place.settings(variant).exists():
                self.place.write_trial(variant, drawn, self.settings_of({name: str(drawn[name]) for name in drawn}))

    def _with_winner(self, definition: Definition, trials: Sequence[Cell]) -> Definition:
        """The trial with the best validation accuracy is a variant; it stays, whatever is added."""
        finished = [cell for cell in trials if cell.status == "finished"]
        if not finished:
            raise WorkError(f"all {len(trials)} trials of the search failed, the first one so: {trials[0].reason}")
        if WINNER not in definition.settings:
            best = max(finished, key=lambda cell: cell.val_accuracy)
            settings = {**definition.settings, WINNER: self.place.settings(best.variant).read_text()}
            drawn = " ".join(f"--{name} {value}" for name, value in self.place.drawn(best).items())
            winner = f"{best.variant}, {drawn}, {best.val_accuracy:.2%}"
            definition = dataclasses.replace(definition, settings=settings, winner=winner)
            with self._exclusive():
                self.place.write(definition)
        return definition

    def _report(self, definition: Definition, cells: list[Cell], trials: list[Cell]) -> list[Comparison]:
        comparisons = compare(cells, self.points)
        lines = [*notes(cells, comparisons, self.points, definition.looks), *failures(trials)]
        if definition.winner:
            count = sum(cell.status == "finished" for cell in trials)
            too_high = f"the best of {count}, so too high on average; only the new seeds count"
            lines.append(f"winner: {definition.winner} in the search: {too_high}")
        with self._exclusive():
            write_cells(self.place.folder / "cells.csv", [*trials, *cells])
            write_comparisons(self.place.folder / "comparison.csv", comparisons)
            self._draw([*trials, *cells], cells, comparisons)
        print_comparisons(comparisons, lines)
        print(
            f"\nstudy       {self.place.folder}\ncurves      tensorboard --logdir {self.place.folder / 'tensorboard'}"
        )
        return comparisons

    def _draw(self, everything: list[Cell], cells: list[Cell], comparisons: list[Comparison]) -> None:
        """Where that fails, the numbers are written already."""
        from fashion_lightning.reports.differences_figure import write_figure  # matplotlib takes half a second
        from fashion_lightning.reports.sessions import write_sessions

        try:
            if any(row.pairs for row in comparisons):
                write_figure(self.place.folder / "comparison.png", cells, comparisons)
            write_sessions(self.place.folder / "tensorboard", everything, self.place.folder)
        except OSError as error:
            warnings.warn(f"cannot draw the study {self.place.folder}: {error.strerror}", stacklevel=2)

    def _test(self, definition: Definition, comparisons: Sequence[Comparison], cells: Sequence[Cell]) -> None:
        """Evaluates the winner on the test set: the best mean of the baseline and what is better than it."""
        if any(cell.status != "finished" for cell in cells):
            print("test        not evaluated: not all cells are finished")
            return
        eligible = [row for row in comparisons if row.verdict in (Verdict.BASELINE, Verdict.BETTER)]
        name = definition.tested or max(eligible, key=lambda row: row.mean).variant
        self.place.write(dataclasses.replace(definition, tested=name))
        accuracies, images = [], 0
        for cell in (cell for cell in cells if cell.variant == name):
            found = self._tested(cell)
            accuracies.append(found["accuracy"])
            images = int(found["images"])
        mean = statistics.fmean(accuracies)
        std = f" ± {100 * statistics.stdev(accuracies):.2f}" if len(accuracies) > 1 else ""
        error = f"standard error of each {100 * standard_error(mean, images):.2f} on {images:,} images"
        seeds = f"{len(accuracies)} seed{'s' * (len(accuracies) > 1)}"
        print(f"test        {name}: {100 * mean:.2f}{std} % ({seeds}, {error})")

    def _tested(self, cell: Cell) -> dict[str, float]:
        """The test set, evaluated now if it was not before."""
        run = self.place.run(cell)
        found = results.read(run)
        if found and "test" in found:
            return found["test"]
        flags = ["--ckpt_path", str(run.best), "--inspect.figures", "false", "--inspect.pr_curves", "false"]
        log = self.place.log(cell)
        process = child_process.start_tied(["fashion_lightning.test", *flags], self.variables[0], log)
        with process:  # waits, and closes its stdin, by which it ends if this is interrupted
            status = process.wait()
        child_process.check(f"the test of {run.folder}", status, log.read_bytes())
        found = results.read(run)
        if not found or "test" not in found:
            raise WorkError(f"the test of {run.folder} left no result: see {log}, then give the same command again")
        return found["test"]


def queue_of(place: StudyFolder, definition: Definition, storage: URL | None) -> Queue:
    url = storage or URL.create("sqlite", database=str(place.database))
    return Queue(place.folder.name, definition.key, url, shared=storage is not None, drawn=place.drawn)


def _loaded(definition: Definition) -> dict[str, Any]:
    """Settings without comments."""
    return {name: yaml.safe_load(text) for name, text in definition.settings.items()}


def cells_of(definition: Definition) -> list[Cell]:
    """Seed by seed, so that what is finished at any time are whole pairs."""
    pairs = [(variant, seed) for seed in definition.seeds for variant in definition.settings]
    return [Cell(variant, seed, run_folder(variant, seed)) for variant, seed in pairs]


def trials_of(definition: Definition) -> list[Cell]:
    search = definition.search
    names = [f"{TRIAL}{number}" for number in range(search.trials)] if search else []
    return [Cell(name, search.seed, run_folder(name, search.seed)) for name in names if search]


def planned(definition: Definition) -> list[Cell]:
    """All cells, those of a winner that is not known yet included."""
    cells = [*trials_of(definition), *cells_of(definition)]
    if definition.search and WINNER not in definition.settings:
        cells += cells_of(dataclasses.replace(definition, settings={WINNER: ""}))
    return cells
