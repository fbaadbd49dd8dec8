"""Fits that each use most cores of one machine work in turns. Knows no network."""

import contextlib
import fcntl
import os
import tempfile
import time
import zlib
from pathlib import Path
from typing import IO, Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

TURN_SECONDS = 0.2
SECONDS_TO_WAIT = 10.0  # for a turn; whose it is, may be stopped (Ctrl-Z), or compile
SECONDS_WITHOUT = 60.0  # turns, after it has waited so long
SECONDS_BETWEEN = 0.002  # attempts
WAITING = "OMP_WAIT_POLICY"
CHOSEN = (WAITING, "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # variables with which a user decides otherwise


class Turns(Callback):
    """On a CPU, lets one of those fits work at a time, in training and evaluation.

    PyTorch's threads wait for each other in busy loops. Of two fits with a thread on every core, each would wait for
    threads that the other one keeps from running, and take many times as long as alone. A shorter busy wait costs a
    fit that is alone more than it saves the two.

    The turn is a lock on a file of the user and these cores, in the folder for temporary files. A second one is of who
    comes next: or else the fit whose turn has ended could begin the next one as well.
    """

    def __init__(self) -> None:
        self._files = contextlib.ExitStack()  # to close one releases its lock
        self._locks: tuple[IO[bytes], IO[bytes]] | None = None  # who comes next, and the turn; None: no turns are taken
        self._end = 0.0  # of the turn, by time.monotonic()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._close()
        is_on_cpu = trainer.strategy.root_device.type == "cpu" and trainer.world_size == 1
        if is_on_cpu and _takes_most_cores() and not any(name in os.environ for name in CHOSEN):
            cores = zlib.crc32(repr(available_cores()).encode())
            name = Path(tempfile.gettempdir()) / f"fashion_lightning-{os.getuid()}-{cores:08x}"
            with contextlib.suppress(OSError):  # without the files, there are no turns
                following = self._files.enter_context(_opened(name.with_suffix(".next")))
                self._locks = following, self._files.enter_context(_opened(name.with_suffix(".turn")))

    def on_train_batch_start(self, *args: Any) -> None:
        self._go_on()

    def on_validation_batch_start(self, *args: Any) -> None:
        self._go_on()

    def on_test_batch_start(self, *args: Any) -> None:
        self._go_on()

    def teardown(self, *args: Any, **kwargs: Any) -> None:
        self._close()

    def on_exception(self, *args: Any) -> None:
        self._close()

    def _go_on(self) -> None:
        """Returns within a turn, unless there was none for too long: it goes on without turns for a while then."""
        if not self._locks or (now := time.monotonic()) < self._end:
            return
        following, turn = self._locks
        try:
            fcntl.flock(turn, fcntl.LOCK_UN)
            deadline = now + SECONDS_TO_WAIT
            is_turn = _lock(following, deadline) and _lock(turn, deadline)
            fcntl.flock(following, fcntl.LOCK_UN)
        except OSError:  # a file system without locks
            self._close()
        else:
            self._end = time.monotonic() + (TURN_SECONDS if is_turn else SECONDS_WITHOUT)

    def _close(self) -> None:
        if self._locks:
            with contextlib.suppress(OSError):
                for stream in self._locks:  # a process that was forked may have them open too
                    fcntl.flock(stream, fcntl.LOCK_UN)
        self._files.close()
        self._locks, self._end = None, 0.0


def available_cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def _takes_most_cores() -> bool:
    """Whether there is no room for another process with as many threads."""
    return torch.get_num_threads() > 1 and len(available_cores()) < 2 * torch.get_num_threads()


def _opened(path: Path) -> IO[bytes]:
    """Never by a link, which others could have put there."""
    return open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "rb+")


def _lock(stream: IO[bytes], deadline: float) -> bool:
    """Whether it could be locked before the deadline, by time.monotonic()."""
    while time.monotonic() < deadline:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(SECONDS_BETWEEN)
    return False
