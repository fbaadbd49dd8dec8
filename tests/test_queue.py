"""storage/queue.py: each cell is trained once, whoever is killed, and draws depend on nothing but seed and number."""

import math
from pathlib import Path

import pytest
from optuna.samplers import RandomSampler

from fashion_lightning.errors import UserError, WorkError
from fashion_lightning.storage.cells import Cell
from fashion_lightning.storage.queue import Queue

CELLS = [Cell(variant, seed, Path(f"cells/{variant}/seed_{seed}")) for seed in (0, 1) for variant in ("a", "b")]
RESULTS = {"val_accuracy": 0.1 + 0.2, "val_loss": 0.5, "fit_seconds": 2.5, "parameters": 10, "device": "cpu (1 thread)"}
SPACE = {"lr": (0.001, 0.1, True), "size": (16, 64, False), "network": ("A", "B")}


@pytest.fixture
def database(tmp_path) -> str:
    return f"sqlite:///{tmp_path}/study.db"


def queue(database: str, key: str = "key") -> Queue:
    """As of a program that has just started."""
    found = Queue("s", key, database, shared=False)
    found.recover()
    found.plan(CELLS)
    return found


def names(cells) -> list[str]:
    return [f"{cell.variant}{cell.seed} {cell.status}" for cell in cells]


def test_cells_are_claimed_once_in_their_order_and_keep_what_they_came_to(database):
    own = queue(database)
    claims = [own.claim(CELLS) for _ in range(5)]
    assert [claim.cell for claim in claims[:4]] == CELLS
    assert claims[4] is None
    own.finish(claims[0], RESULTS)
    own.fail(claims[1], "out of luck")
    own.finish(claims[2], {"fit_seconds": 1.0, "parameters": 1, "device": "cpu"})  # without validation images
    states = queue(database).states(CELLS)
    assert names(states) == ["a0 finished", "b0 failed", "a1 finished", "b1 waiting"]
    assert (states[0].val_accuracy, states[0].device) == (0.1 + 0.2, "cpu (1 thread)")
    assert states[1].reason == "out of luck"
    assert math.isnan(states[2].val_accuracy)


def test_what_a_killed_program_trained_is_claimed_again(database):
    first = queue(database)
    first.finish(first.claim(CELLS), RESULTS)
    killed = first.claim(CELLS)
    second = queue(database)
    assert names(second.states(CELLS)) == ["a0 finished", "b0 waiting", "a1 waiting", "b1 waiting"]
    again = [second.claim(CELLS) for _ in range(4)]
    assert {claim.cell for claim in again[:3]} == set(CELLS[1:])
    assert again[3] is None
    first.finish(killed, RESULTS)  # a program that was only thought to be dead
    assert names(second.states(CELLS))[1] == "b0 running"


def test_a_freed_cell_waits_again(database):
    own = queue(database)
    own.free(own.claim(CELLS))
    assert names(own.states(CELLS))[0] == "a0 waiting"
    assert sorted(names([own.claim(CELLS).cell for _ in CELLS])) == sorted(names(CELLS))


def test_a_failed_cell_is_queued_again_only_if_asked(database):
    own = queue(database)
    own.fail(own.claim(CELLS), "out of luck")
    own.plan(CELLS)
    assert names(own.states(CELLS))[0] == "a0 failed"
    own.plan(CELLS, retry_failed=True)
    assert names(own.states(CELLS))[0] == "a0 waiting"


def test_a_cell_queued_by_two_programs_at_once_is_trained_once(database):
    one, other = queue(database), Queue("s", "key", database, shared=False)
    for cell in CELLS:
        other._study.enqueue_trial({}, user_attrs={"cell": f"{cell.variant}/seed_{cell.seed}"})
    claims = [one.claim(CELLS) for _ in range(8)]
    assert [claim.cell for claim in claims if claim] == CELLS


def test_other_cells_are_left_alone(database):
    own = queue(database)
    assert own.claim(CELLS[2:]).cell == CELLS[2]


def drawn(database: str, order: list[int]) -> dict[str, dict[str, str]]:
    """Of each cell, claimed in this order, by programs of which each is killed after a draw."""
    found = {}
    for index in order:
        own = queue(database)
        claim = own.claim([CELLS[index]])
        found[CELLS[index].variant + str(CELLS[index].seed)] = own.draw(claim, SPACE, RandomSampler(seed=index))
    return found


def test_draws_depend_on_seed_and_number_only(tmp_path):
    first = drawn(f"sqlite:///{tmp_path}/one.db", [0, 1, 2, 3])
    other = drawn(f"sqlite:///{tmp_path}/other.db", [3, 0, 0, 2, 1, 3])
    assert first == other
    assert len({values["lr"] for values in first.values()}) == 4
    for values in first.values():
        assert 0.001 <= float(values["lr"]) <= 0.1
        assert values["lr"] == repr(float(values["lr"]))
        assert 16 <= int(values["size"]) <= 64
        assert values["network"] in ("A", "B")


def test_what_was_drawn_stays_when_a_cell_is_claimed_again(database):
    own = queue(database)
    before = own.draw(own.claim(CELLS[:1]), SPACE, RandomSampler(seed=0))
    again = queue(database)
    claim = again.claim(CELLS[:1])
    assert again.draw(claim, SPACE, RandomSampler(seed=99)) == before
    assert {name: str(value) for name, value in again.drawn(CELLS[0]).items()} == before


def test_the_storage_of_another_study_is_refused(database):
    queue(database)
    with pytest.raises(UserError, match="has a study s of another folder: choose another --name"):
        queue(database, key="other")


def test_a_damaged_storage_is_said(tmp_path, database):
    (tmp_path / "study.db").write_bytes(b"no database" * 1000)
    with pytest.raises(WorkError, match=r"study\.db: .*file is not a database; mend it, or remove it"):
        queue(database)


def test_a_missing_driver_is_said():
    with pytest.raises(UserError, match=r"^--storage: .* is not installed, which mysql\+pymysql://x/y needs"):
        Queue("s", "key", "mysql+pymysql://x/y", shared=True)
