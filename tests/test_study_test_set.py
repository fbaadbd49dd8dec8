"""The promise of a study about the test set: no cell and no choice knows it; it is evaluated once, for the winner."""

import json
import shutil
import time
from pathlib import Path

import pytest
from conftest import write_data
from test_study_kills import VARIANTS, finish, result, start

pytestmark = pytest.mark.slow


def evaluated(folder: Path) -> dict[str, dict]:
    """Variant and seed to the results on the test set, of the cells that have some."""
    found = {
        "/".join(path.parts[-5:-3]): json.loads(path.read_text())
        for path in folder.glob("studies/s/cells/*/*/*/*/results.json")
    }
    return {name: results["test"] for name, results in found.items() if "test" in results}


def test_it_is_missing_until_the_winner_is_evaluated(tiny_args, tiny_data, tmp_path):
    args = [*tiny_args, *VARIANTS, "--workers", "2"]
    finish(tmp_path / "with", args)
    expected = result(tmp_path / "with")
    data = shutil.copytree(tiny_data, tmp_path / "without" / "data")
    files = {path: path.read_bytes() for path in data.glob("t10k*")}
    for path in files:
        path.unlink()
    folder = tmp_path / "without"
    own = [*args, "--data.data_dir", "data"]
    finish(folder, own)
    found = result(folder)
    assert {n: found[n] for n in ("cells.csv", "comparison.csv")} == {
        n: expected[n] for n in ("cells.csv", "comparison.csv")
    }
    assert evaluated(folder) == {}
    for path in [*folder.rglob("log.txt"), *folder.rglob("events.out.tfevents.*")]:
        assert b"test/" not in path.read_bytes(), path

    write_data(data, test=203)  # the test files are there again
    for path, content in files.items():
        path.write_bytes(content)
    study = start(folder, [*own, "--test_winner"])
    while not evaluated(folder):  # killed after the first of two
        assert study.poll() is None
        time.sleep(0.02)
    study.kill()
    study.wait()
    before = {
        path: path.read_bytes()
        for path in folder.glob("studies/s/cells/*/*/*/*/results.json")
        if b'"test"' in path.read_bytes()
    }
    finish(folder, [*own, "--test_winner"])
    after = {path for path in folder.glob("studies/s/cells/*/*/*/*/results.json") if b'"test"' in path.read_bytes()}
    assert {path: path.read_bytes() for path in before} == before
    assert len({path.parts[-5] for path in after}) == 1
    assert len(after) == 2
    assert (folder / "out").read_text().splitlines()[-1].startswith("test        ")
