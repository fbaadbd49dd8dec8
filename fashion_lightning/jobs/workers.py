"""Cells of a study, each trained by a process of its own, several at a time. Knows no statistics."""

import contextlib
import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from subprocess import Popen
from types import FrameType

from fashion_lightning.errors import Stopped, UserError, WorkError
from fashion_lightning.jobs import child_process
from fashion_lightning.reports import results
from fashion_lightning.reports.study_progress import Progress
from fashion_lightning.storage.cells import Cell, measured
from fashion_lightning.storage.locking import is_locked
from fashion_lightning.storage.queue import HEARTBEAT_SECONDS, Claim, Queue
from fashion_lightning.storage.study_folders import StudyFolder

SECONDS_BETWEEN_LOOKS = 0.1
SECONDS_BETWEEN_QUERIES = 2  # of a queue in which others may have freed a cell
SECONDS_TO_SAVE = 60  # of a cell that is stopped, before it is killed
BYTES_OF_LAST_LINE = 10_000
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Worker:
    variables: Mapping[str, str]  # of the environment
    claim: Claim | None = None
    process: Popen[bytes] | None = None  # None while another process still saves the cell
    restarted: bool = False
    since: float = 0.0  # by time.monotonic()

    def let_go(self) -> None:
        """Of a process that has ended."""
        if self.process and self.process.stdin:
            self.process.stdin.close()
        self.process = None


class Workers:
    """Trains cells of `queue` in folders of `place`.

    Args:
        variables: Of the environment of each worker.
        prepare: Writes the settings of a claimed cell, if they are not there yet. May raise UserError.
        take_over: Queues what programs that have ended were training, now and then; None if there are no others.
    """

    def __init__(
        self,
        place: StudyFolder,
        queue: Queue,
        variables: Sequence[Mapping[str, str]],
        prepare: Callable[[Claim], None],
        take_over: Callable[[], None] | None,
        progress: Progress,
    ) -> None:
        self._place, self._queue, self._prepare, self._progress = place, queue, prepare, progress
        self._take_over, self._workers = take_over, [Worker(own) for own in variables]
        self._received: list[int] = []
        self._next_query = self._next_beat = 0.0

    def train(self, cells: Sequence[Cell]) -> None:
        """Until all are finished or failed.

        Raises Stopped after a signal, once the cells have saved, and WorkError if the disk is full.
        """
        with self._signals(), self._progress.shown(self._queue.states(cells)):
            try:
                is_done = False
                while not is_done:
                    is_done = self._is_done(cells)
                    if self._received:
                        raise Stopped(signal.Signals(self._received[0]).name, 128 + self._received[0])
                    time.sleep(SECONDS_BETWEEN_LOOKS)
            finally:
                self._end()

    def _is_done(self, cells: Sequence[Cell]) -> bool:
        """Looks after all workers once."""
        now = time.monotonic()
        if now >= self._next_beat:
            self._next_beat = now + HEARTBEAT_SECONDS
            self._queue.beat(self._claims())
            if self._take_over:
                self._take_over()
        for worker in self._workers:
            if worker.claim and not worker.process:
                self._start(worker, worker.claim)
            elif worker.claim and worker.process and worker.process.poll() is not None:
                self._finish(worker, worker.claim, worker.process.returncode)
        is_query = now >= self._next_query
        for worker in self._workers:
            if is_query and not worker.claim and not self._begin(worker, cells):
                self._next_query = now + SECONDS_BETWEEN_QUERIES
                is_query = False
                if not self._claims() and self._are_ended(cells):
                    return True
        self._progress.show_running([(worker.claim.cell, worker.since) for worker in self._workers if worker.claim])
        return False

    def _claims(self) -> list[Claim]:
        return [worker.claim for worker in self._workers if worker.claim]

    def _are_ended(self, cells: Sequence[Cell]) -> bool:
        return all(cell.has_ended for cell in self._queue.states(cells))

    def _begin(self, worker: Worker, cells: Sequence[Cell]) -> bool:
        """Whether there was a cell to begin."""
        claim = self._queue.claim(cells)
        if not claim:
            return False
        worker.claim, worker.process, worker.restarted, worker.since = claim, None, False, time.monotonic()
        try:
            self._prepare(claim)
        except WorkError:  # of the storage: no other cell would do better
            raise
        except UserError as error:
            self._fail(worker, claim, str(error))
        else:
            self._start(worker, claim)
        return True

    def _start(self, worker: Worker, claim: Claim) -> None:
        cell = claim.cell
        if is_locked(self._place.run(cell).lock):  # by a fit whose study was killed, and which is saving
            return
        root = self._place.root(cell)
        root.mkdir(parents=True, exist_ok=True)
        command = ["fashion_lightning.fit", "--config", str(self._place.settings(cell.variant)), "--resume"]
        command += ["--seed_everything", str(cell.seed), "--trainer.default_root_dir", str(root)]
        worker.process = child_process.start_tied(command, worker.variables, self._place.log(cell))

    def _finish(self, worker: Worker, claim: Claim, status: int) -> None:
        found = results.read(self._place.run(claim.cell)) if status == 0 else None
        was_stopped = status < 0 or status in [128 + signum for signum in SIGNALS]
        if found:
            try:
                self._queue.finish(claim, measured(found))
            except (KeyError, TypeError) as error:
                return self._fail(worker, claim, f"its results.json has no {error}")
            self._clear(worker, claim)
        elif was_stopped and not worker.restarted:
            worker.let_go()
            worker.restarted = True
        else:
            self._fail(worker, claim, self._reason(claim, status, was_stopped))

    def _fail(self, worker: Worker, claim: Claim, reason: str) -> None:
        if os.strerror(errno.ENOSPC) in reason:  # every other cell would fail as well
            raise WorkError(f"{os.strerror(errno.ENOSPC)}: free some space, then give the same command again")
        self._queue.fail(claim, reason)
        self._clear(worker, claim)

    def _clear(self, worker: Worker, claim: Claim) -> None:
        worker.let_go()
        worker.claim = None
        self._next_query = 0.0
        [ended] = self._queue.states([claim.cell])
        self._progress.print_ended(ended)

    def _reason(self, claim: Claim, status: int, was_stopped: bool) -> str:
        if was_stopped:
            name = signal.Signals(-status if status < 0 else status - 128).name
            return f"{name} ended it twice" + ", is there enough memory?" * (status == -signal.SIGKILL)
        with open(self._place.log(claim.cell), "rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - BYTES_OF_LAST_LINE))
            return child_process.last_line(log.read()) or f"exit {status}"

    def _end(self) -> None:
        """Of those that still train: lets them save."""
        busy = [worker for worker in self._workers if worker.claim]
        running = [worker.process for worker in busy if worker.process]
        for process in running:
            process.terminate()
        end = time.monotonic() + SECONDS_TO_SAVE
        while any(process.poll() is None for process in running):
            if time.monotonic() > end or len(self._received) > 1:
                for process in running:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
            time.sleep(SECONDS_BETWEEN_LOOKS)
        for worker in busy:
            with contextlib.suppress(WorkError):  # of the storage, as on a full disk; the next start frees the cell too
                if worker.claim:
                    self._queue.free(worker.claim)
            worker.let_go()
            worker.claim = None

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """They are kept in mind until it is safe to stop."""
        if threading.current_thread() is not threading.main_thread():  # others may not set handlers
            yield
            return
        before = {signum: signal.signal(signum, self._handle) for signum in SIGNALS}
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        self._received.append(signum)
