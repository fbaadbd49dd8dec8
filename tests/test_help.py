"""The promise of help: at once, short, and about flags that there are."""

import importlib
import re
import subprocess
import sys

import pytest

from fashion_lightning import fit

JOBS = ("fit", "test", "predict", "runs", "study", "verify", "export", "demo")


@pytest.mark.parametrize("job", JOBS)
def test_help_is_short_and_does_not_import_torch(job):
    code = (
        f"from fashion_lightning import {job}\ntry: {job}.main(['--help'])\nfinally: assert 'torch' not in sys.modules"
    )
    code = f"import sys\n{code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 120
    assert lines[0].startswith(f"usage: python -m fashion_lightning.{job}")
    assert "examples" in lines


@pytest.mark.parametrize("job", ["fit", "test", "predict"])
def test_help_names_only_flags_that_there_are(job, capsys):
    def printed(flag):
        with pytest.raises(SystemExit) as exit_:
            importlib.import_module(f"fashion_lightning.{job}").main([flag])
        assert exit_.value.code == 0
        return capsys.readouterr().out

    every = printed("--help_all")
    for flag in re.findall(r"--[a-z_.]+(?![a-z_.]* VALUE)", printed("--help")):
        known = re.search(rf"{re.escape(flag)}\b", every)
        assert known or flag in ("--help", "--help_all", "--version", "--model.optimizer.lr"), flag


def test_the_package_says_what_there_is():
    done = subprocess.run([sys.executable, "-m", "fashion_lightning"], capture_output=True, text=True)
    assert done.returncode == 0
    for job in JOBS:
        assert f"python -m fashion_lightning.{job}" in done.stdout


def test_version(capsys):
    with pytest.raises(SystemExit) as exit_:
        fit.main(["--version"])
    assert exit_.value.code == 0
    assert re.fullmatch(r"fashion_lightning \d+\.\d+\.\d+\n", capsys.readouterr().out)
