"""The promise of a study about damage: it goes on, or says what is wrong; nothing that was finished is lost."""

import shutil
import subprocess
from pathlib import Path

import pytest
from test_study_kills import VARIANTS, finish, result, start, table

pytestmark = pytest.mark.slow


@pytest.fixture
def finished(tiny_args, tmp_path) -> tuple[Path, list[str]]:
    args = [*tiny_args, *VARIANTS, "--workers", "2"]
    finish(tmp_path / "s", args)
    return tmp_path / "s", args


def test_what_is_damaged_is_said_or_made_again(finished):
    folder, args = finished
    study, expected = folder / "studies" / "s", result(folder)
    cell = study / "cells" / "sgd" / "seed_1"

    shutil.rmtree(cell)  # its numbers are in the storage
    finish(folder, args)
    assert table(study / "cells.csv") == expected["cells.csv"]
    assert not cell.exists()

    database = study / "study.db"
    database.write_bytes(database.read_bytes()[:5000])
    assert start(folder, args).wait(timeout=60) == 1
    [line] = (folder / "err").read_text().splitlines()
    assert "study.db: " in line
    assert "close what uses it, or remove it" in line
    database.unlink()
    other = study / "cells" / "sgd" / "seed_0" / "lightning_logs" / "version_0" / "results.json"
    other.write_text('{"val": ')
    (study / "study.lock").write_text("1 elsewhere\n")  # left by a killed program
    finish(folder, args)  # trains one again, and evaluates the other again
    assert result(folder) == expected


def test_a_full_disk_ends_it_and_nothing_is_lost(tiny_args, small_disk):
    args = [*tiny_args, *VARIANTS, "--seeds", "3", "--workers", "2"]
    finish(small_disk.parent / "whole", args)
    root = ["--trainer.default_root_dir", str(small_disk)]
    folder = small_disk.parent / "out"
    study = start(folder, [*args, *root])
    assert study.wait(timeout=120) == 1
    *_, line = (folder / "err").read_text().splitlines()
    assert line.startswith("error: No space left on device: free some space"), line
    subprocess.run(["mount", "-o", "remount,size=200m", small_disk], check=True)
    finish(folder, [*args, *root])
    whole, found = small_disk.parent / "whole" / "studies" / "s", small_disk / "studies" / "s"
    for name in ("cells.csv", "comparison.csv"):
        assert table(found / name) == table(whole / name)
