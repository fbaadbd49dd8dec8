"""storage/queue.py: each cell is trained once, whoever is killed, and draws depend on nothing but seed and number."""

import math
from pathlib import Path

import pytest
from optuna.samplers import RandomSampler, TPESampler
from sqlalchemy import URL, make_url

from fashion_lightning.errors import UserError, WorkError
from fashion_lightning.storage.cells import Cell
from fashion_lightning.storage.queue import Queue

CELLS = [Cell(variant, seed, Path(f"cells/{variant}/seed_{seed}")) for seed in (0, 1) for variant in ("a", "b")]
RESULTS = {"val_accuracy": 0.1 + 0.2, "val_loss": 0.5, "fit_seconds": 2.5, "parameters": 10, "device": "cpu (1 thread)"}
SPACE = {"lr": (0.001, 0.1, True), "size": (16, 64, False), "network": ("A", "B")}


@pytest.fixture
def database(tmp_path) -> URL:
    return URL.create("sqlite", database=f"{tmp_path}/study.db")


def queue(database: URL, key: str = "key", drawn=lambda cell: {}) -> Queue:
    """As of a program that has just started."""
    found = Queue("s", key, database, shared=False, drawn=drawn)
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
    own.claim(CELLS)
    assert names(queue(database).states(CELLS))[0] == "a0 waiting"  # a kill does not make it failed again


def test_a_cell_queued_by_two_programs_at_once_is_trained_once(database):
    one, other = queue(database), Queue("s", "key", database, shared=False)
    for cell in CELLS:
        other._study.enqueue_trial({}, user_attrs={"cell": f"{cell.variant}/seed_{cell.seed}"})
    claims = [one.claim(CELLS) for _ in range(8)]
    assert [claim.cell for claim in claims if claim] == CELLS
    one.fail(claims[0], "out of luck")
    assert names(one.states(CELLS))[0] == "a0 failed"  # the repeated one counts for nothing


def test_other_cells_are_left_alone(database):
    own = queue(database)
    assert own.claim(CELLS[2:]).cell == CELLS[2]


def drawn(database: URL, order: list[int]) -> dict[str, dict]:
    """Of each cell, claimed in this order, by programs of which each is killed after a draw."""
    found = {}
    for index in order:
        own = queue(database)
        claim = own.claim([CELLS[index]])
        found[CELLS[index].variant + str(CELLS[index].seed)] = own.draw(claim, SPACE, RandomSampler(seed=index))
    return found


def test_draws_depend_on_seed_and_number_only(tmp_path):
    first = drawn(URL.create("sqlite", database=f"{tmp_path}/one.db"), [0, 1, 2, 3])
    other = drawn(URL.create("sqlite", database=f"{tmp_path}/other.db"), [3, 0, 0, 2, 1, 3])
    assert first == other
    assert len({values["lr"] for values in first.values()}) == 4
    for values in first.values():
        assert 0.001 <= values["lr"] <= 0.1
        assert values["size"] in range(16, 65)
        assert values["network"] in ("A", "B")


def test_what_was_drawn_before_is_not_drawn_again(database):
    own = queue(database)
    before = own.draw(own.claim(CELLS[:1]), SPACE, RandomSampler(seed=0))
    again = queue(database, drawn=lambda cell: before if cell == CELLS[0] else {})
    assert again.draw(again.claim(CELLS[:1]), SPACE, RandomSampler(seed=99)) == before


def test_tpe_draws_from_what_earlier_trials_came_to(database):
    """The best values are near 0.01, where TPE draws more and more."""
    cells = [Cell(f"trial_{index}", 0, Path(str(index))) for index in range(40)]
    own = Queue("s", "key", database, shared=False)
    own.plan(cells)
    logarithms = []
    for index in range(len(cells)):
        claim = own.claim(cells)
        value = own.draw(claim, {"lr": (0.0001, 1.0, True)}, TPESampler(seed=index))["lr"]
        logarithms.append(math.log10(value))
        own.finish(claim, {**RESULTS, "val_accuracy": 1 - (logarithms[-1] + 2) ** 2 / 10})
    away = [abs(logarithm + 2) for logarithm in logarithms]
    assert sum(away[20:]) < 0.5 * sum(away[:10]) / 10 * 20


def test_a_cell_whose_program_gave_no_sign_of_life_is_freed_after_a_while(database, monkeypatch):
    """It was killed between the claim and its first heartbeat, which Optuna would wait for."""
    own = Queue("s", "key", database, shared=True)
    own.plan(CELLS)
    monkeypatch.setattr(own, "beat", lambda claims: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        own.claim(CELLS)
    other = Queue("s", "key", database, shared=True)
    other.recover()
    assert names(other.states(CELLS))[0] == "a0 running"
    monkeypatch.setattr("fashion_lightning.storage.queue.GRACE_SECONDS", 0)
    other.recover()
    assert other.states(CELLS)[0].status == "waiting"
    other.plan(CELLS)
    assert {other.claim(CELLS).cell for _ in CELLS} == set(CELLS)


def test_the_storage_of_another_study_is_refused(database):
    queue(database)
    with pytest.raises(UserError, match="has a study s of another folder: choose another --name"):
        queue(database, key="other")


def test_a_damaged_storage_is_said(tmp_path, database):
    (tmp_path / "study.db").write_bytes(b"no database" * 1000)
    with pytest.raises(WorkError, match=r"study\.db: .*file is not a database; close what uses it, or remove it"):
        queue(database)


def test_a_missing_driver_is_said_without_the_password():
    url = make_url("mysql+pymysql://x:secret@y/z")
    with pytest.raises(
        UserError, match=r"^--storage: pymysql is not installed, which mysql\+pymysql://x:\*+@y/z needs"
    ):
        Queue("s", "key", url, shared=True)
