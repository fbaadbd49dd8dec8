"""A job in processes that multiprocessing starts, as ddp_spawn and ddp_fork ask for. Knows no job.

Lightning would start them for training, and others for evaluation, and bring back the weights alone. Here each process
does the whole job, like those that ddp starts.
"""

import contextlib
import logging
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import torch
from pytorch_lightning.strategies.launchers import _MultiProcessingLauncher
from torch.multiprocessing.spawn import ProcessExitedException

from fashion_lightning.command_line.build import tune_process
from fashion_lightning.errors import Stopped, UserError, WorkError
from fashion_lightning.training.stopping import SIGNALS


def run(work: Callable[[Any], Any], job: Any) -> Any:
    """`work(job)`, done here or in processes, of which the first one's result is returned."""
    launcher = job.trainer.strategy.launcher
    if not isinstance(launcher, _MultiProcessingLauncher):
        return work(job)
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)  # it tells which processes it ends
    try:
        # As bytes, so that processes have tensors of their own; multiprocessing would let them share weights.
        pickled = pickle.dumps(job)
    except Exception as error:  # objects of users may raise anything
        raise UserError(f"--trainer.strategy: expected ddp, as objects cannot be passed on: {error}") from error
    try:
        with _passing_signals_on(launcher):
            return launcher.launch(_work_in_child, work, pickled)
    except ProcessExitedException as error:
        if not error.signal_name:
            raise SystemExit(error.exit_code) from None  # the process has said why
        raise WorkError(f"{error.signal_name} ended a process") from error
    finally:
        launcher.kill(signal.SIGKILL)


@contextlib.contextmanager
def one_thread_before_a_fork(strategy: Any) -> Iterator[None]:
    """A forked process would wait for ever for the threads that PyTorch has started before."""
    before = torch.get_num_threads()
    if str(strategy).startswith(("ddp_fork", "ddp_notebook")):
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _work_in_child(work: Callable[[Any], Any], pickled: bytes) -> Any:
    os.setpgrp()  # Ctrl-C is then passed on once, and does not come from the terminal as well
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a forked process has the handlers of the one that waits
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if threads := os.environ.get("OMP_NUM_THREADS"):  # or else Lightning sets a number
        torch.set_num_threads(int(threads))
    job = pickle.loads(pickled)
    strategy = job.trainer.strategy
    strategy._launcher = None  # this is one of the processes already
    strategy.set_world_ranks()
    tune_process()
    try:
        return work(job)
    except SystemExit as end:
        # All have the same error, which the first one prints; it would be ended if another exited with a status.
        if end.code == UserError.status and strategy.local_rank:
            return None
        raise


@contextlib.contextmanager
def _passing_signals_on(launcher: _MultiProcessingLauncher) -> Iterator[None]:
    """To the processes, which save and stop; a second one does not wait."""
    received: list[int] = []

    def handle(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        launcher.kill(signal.Signals(signum) if len(received) == 1 else signal.SIGKILL)
        if len(received) > 1 or not launcher.procs:
            raise Stopped(f"stopped by {signal.Signals(signum).name}", 128 + signum)

    if threading.current_thread() is not threading.main_thread():  # others may not set handlers
        yield
        return
    before = {signum: signal.signal(signum, handle) for signum in SIGNALS}
    try:
        yield
    except ProcessExitedException as error:
        if received and error.signal_name:
            raise Stopped(f"stopped by {signal.Signals(received[0]).name}", 128 + received[0]) from None
        raise
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
