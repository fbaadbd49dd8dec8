"""The promise of a study on several machines: programs that share a database and a folder, of which some are killed."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_study_kills import VARIANTS, finish, processes, result, start, table

pytest.importorskip("psycopg2")
INITDB = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)), shutil.which("initdb"))
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not INITDB, reason="needs PostgreSQL")]


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """URL of a database of a cluster of its own, which only this machine can reach."""
    as_owner = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    with contextlib.ExitStack() as stack:
        folder = subprocess.check_output([*as_owner, "mktemp", "-d"], text=True).strip()
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        quiet = {"check": True, "stdout": subprocess.DEVNULL, "cwd": "/"}
        subprocess.run([*as_owner, INITDB, "-D", f"{folder}/data", "-A", "trust", "-U", "test"], **quiet)
        port, control = (
            20000 + os.getpid() % 20000,
            [*as_owner, Path(INITDB).parent / "pg_ctl", "-D", f"{folder}/data", "-w"],
        )
        options = f"-p {port} -k {folder} -c listen_addresses=localhost"
        subprocess.run([*control, "-o", options, "-l", f"{folder}/log", "start"], **quiet)
        stack.callback(subprocess.run, [*control, "-m", "immediate", "stop"], **quiet)
        yield f"postgresql+psycopg2://test@localhost:{port}/postgres"


def kill(study: subprocess.Popen) -> None:
    """The program and its children, as a machine that loses its power."""
    for pid in [study.pid, *children(study.pid)]:
        os.kill(pid, signal.SIGKILL)
    study.wait()


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_two_of_three_are_killed_and_the_third_finishes_all(postgres, tiny_args, tmp_path):
    args = [*tiny_args, "--trainer.max_epochs", "40", *VARIANTS, "--seeds", "3"]
    finish(tmp_path / "alone", [*args, "--workers", "2"])
    folder = tmp_path / "shared"
    shared = [*args, "--workers", "1", "--storage", postgres]
    machines = [start(folder, shared) for _ in range(3)]
    while len(list(folder.glob("studies/s/cells/*/*/lightning_logs/version_0/checkpoints/last.ckpt"))) < 3:
        assert all(machine.poll() is None for machine in machines), (folder / "err").read_text()
        time.sleep(0.1)
    for machine in machines[:2]:
        kill(machine)
    assert machines[2].wait(timeout=400) == 0, (folder / "err").read_text()
    assert processes(folder) == []
    assert [row["status"] for row in table(folder / "studies/s/cells.csv")] == 6 * ["finished"]
    assert result(folder) == result(tmp_path / "alone")
    starts = [log.read_text().count("device   cpu") for log in folder.glob("studies/s/cells/*/*/log.txt")]
    assert sorted(starts) == [1, 1, 1, 1, 2, 2]  # of the cells in training, two were killed


def test_another_study_of_the_name_in_the_same_database_is_refused(postgres, tiny_args, tmp_path):
    args = [*tiny_args, "--trainer.max_epochs", "1", "--seeds", "1", "--storage", postgres, "--name", "t"]
    finish(tmp_path / "one", args)
    other = start(tmp_path / "other", args)
    assert other.wait(timeout=60) == 2
    assert "has a study t of another folder: choose another --name" in (tmp_path / "other" / "err").read_text()


def test_a_database_that_cannot_be_reached_is_one_line(tiny_args, tmp_path):
    study = start(tmp_path / "s", [*tiny_args, "--storage", "postgresql+psycopg2://test@localhost:1/postgres"])
    assert study.wait(timeout=60) == 1
    [line] = (tmp_path / "s" / "err").read_text().splitlines()
    assert "Connection refused" in line
