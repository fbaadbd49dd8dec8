"""training/turns.py: fits that would take each other's cores work in turns."""

import errno
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
import torch

from fashion_lightning import fit as fit_command
from fashion_lightning import test as test_command
from fashion_lightning.training import turns
from fashion_lightning.training.turns import CHOSEN, Turns

HOLDING = "import fcntl, sys, time; file = open(sys.argv[1]); fcntl.flock(file, 2); print(flush=True); time.sleep(60)"
BATCHES: dict[Turns, threading.Thread] = {}  # the last one of each fit


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Starts turns of a fit, on a machine of four cores where each fit takes all of them."""
    monkeypatch.setattr(turns.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(turns, "available_cores", lambda: [0, 1, 2, 3])
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    for name in CHOSEN:
        monkeypatch.delenv(name, raising=False)
    started = []

    def start(device: str = "cpu", world_size: int = 1) -> Turns:
        started.append(Turns())
        trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(device)), world_size=world_size)
        started[-1].setup(trainer, None, "fit")
        return started[-1]

    yield start
    for fit in sorted(started, key=lambda fit: BATCHES[fit].is_alive() if fit in BATCHES else False):
        if fit in BATCHES:
            BATCHES.pop(fit).join(5)
        fit.teardown()
    torch.set_num_threads(threads)  # libraries set again what they were told


def next_batch(fit: Turns) -> threading.Thread:
    """Ends when `fit` may do it."""
    BATCHES[fit] = threading.Thread(target=fit.on_train_batch_start, daemon=True)
    BATCHES[fit].start()
    return BATCHES[fit]


def may_begin(batch: threading.Thread) -> bool:
    batch.join(5)
    return not batch.is_alive()


def waits(batch: threading.Thread) -> bool:
    batch.join(0.1)
    return batch.is_alive()


def test_they_alternate(start, monkeypatch):
    monkeypatch.setattr(turns, "TURN_SECONDS", 0.0)
    working, waiting = start(), start()
    working.on_train_batch_start()
    batch = next_batch(waiting)
    for _ in range(4):
        assert waits(batch)
        next_of_working = next_batch(working)
        assert may_begin(batch)
        working, waiting, batch = waiting, working, next_of_working


@pytest.mark.parametrize("end", [Turns.teardown, Turns.on_exception])
def test_a_turn_is_of_several_batches_or_until_the_fit_ends(start, monkeypatch, end):
    monkeypatch.setattr(turns, "TURN_SECONDS", 60.0)
    first, second = start(), start()
    first.on_train_batch_start()
    of_second = next_batch(second)
    first.on_train_batch_start()
    assert waits(of_second)
    end(first)
    assert may_begin(of_second)


def test_a_fit_that_is_killed_has_no_turn(start, tmp_path):
    fit = start()
    process = subprocess.Popen([sys.executable, "-c", HOLDING, str(next(tmp_path.glob("*.turn")))], stdout=-1)
    process.stdout.readline()
    batch = next_batch(fit)
    assert waits(batch)
    process.send_signal(signal.SIGKILL)
    assert may_begin(batch)
    process.communicate()


def test_nobody_waits_for_ever(start, monkeypatch):
    monkeypatch.setattr(turns, "TURN_SECONDS", 60.0)
    first, second = start(), start()
    first.on_train_batch_start()
    monkeypatch.setattr(turns, "SECONDS_TO_WAIT", 0.05)
    second.on_train_batch_start()
    monkeypatch.setattr(turns, "SECONDS_TO_WAIT", 60.0)
    assert may_begin(next_batch(second))  # as `first` may be stopped, and never end its turn
    second._end = 0.0  # the time without turns
    assert waits(next_batch(second))


def test_fits_on_other_cores_do_not_wait(start, monkeypatch):
    monkeypatch.setattr(turns, "TURN_SECONDS", 60.0)
    start().on_train_batch_start()
    monkeypatch.setattr(turns, "available_cores", lambda: [4, 5, 6, 7])
    assert may_begin(next_batch(start()))


def test_where_files_cannot_be_locked_there_are_no_turns(start, monkeypatch):
    def flock(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    fit = start()
    monkeypatch.setattr(turns.fcntl, "flock", flock)
    fit.on_train_batch_start()
    assert fit._locks is None


@pytest.mark.parametrize(
    ("threads", "cores", "where", "variable"),
    [
        (1, 1, {}, None),
        (2, 4, {}, None),
        (4, 4, {"device": "meta"}, None),
        (4, 4, {"world_size": 2}, None),
        *((4, 4, {}, variable) for variable in CHOSEN),
    ],
)
def test_who_takes_no_turns(start, monkeypatch, threads, cores, where, variable):
    start().on_train_batch_start()
    assert waits(next_batch(start()))
    monkeypatch.setattr(turns, "available_cores", lambda: list(range(cores)))
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    if variable:
        monkeypatch.setenv(variable, "1000")
    assert may_begin(next_batch(start(**where)))


def test_without_a_place_for_the_locks_there_are_no_turns(start, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("of the user")
    start()
    turn = next(tmp_path.glob("*.turn"))
    turn.unlink()
    turn.symlink_to(tmp_path / "file")
    start().on_train_batch_start()
    assert may_begin(next_batch(start()))
    assert (tmp_path / "file").read_text() == "of the user"


def test_training_validation_and_tests_take_turns(start, tiny_args, monkeypatch):
    monkeypatch.setattr(turns, "TURN_SECONDS", 0.0)
    stages = []
    for stage in ("train", "validation", "test"):
        hook = f"on_{stage}_batch_start"
        before = getattr(Turns, hook)

        def counted(self, *args, stage=stage, before=before, **kwargs):
            before(self, *args, **kwargs)
            stages.append((stage, self._locks is not None))

        monkeypatch.setattr(Turns, hook, counted)
    fit_command.main(tiny_args)
    assert set(stages) == {("train", True), ("validation", True), ("test", True)}
    stages.clear()
    test_command.main(tiny_args[:-3])
    assert set(stages) == {("test", True)}
