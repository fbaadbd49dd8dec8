"""The command by which a user tries the promises, on tiny data."""

import subprocess
import sys

import pytest

from fashion_lightning import comparison, verify


def test_what_holds_is_said(tiny_args):
    done = subprocess.run(
        [sys.executable, "-m", "fashion_lightning.verify", *tiny_args, "--trainer.limit_train_batches", "10"],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split("  ") for line in done.stdout.splitlines()]
    assert [line[0] for line in lines if " holds " in f"{' '.join(line)} "] == [
        "two runs are one",
        "killed and resumed, a run is one never killed",
        "two processes count as one does",
    ]


def test_what_does_not_hold_is_said_and_exit_1(monkeypatch, capsys):
    def contents(run):
        results = {key: {"accuracy": 1.0, "images": 2} for key in ("train", "val", "test")}
        return {"weights": "others" if run.parts[-3] == "again" else "these", "results.json": results}

    monkeypatch.setattr(comparison, "contents", contents)
    monkeypatch.setattr(verify, "_fit", lambda *args: None)
    monkeypatch.setattr(verify, "_finish", lambda *args: None)
    monkeypatch.setattr(verify, "_kill", lambda *args: None)
    monkeypatch.setattr(verify.shutil, "copytree", lambda *args: None)
    with pytest.raises(SystemExit) as exit_:
        verify.main([])
    assert exit_.value.code == 1
    shown = capsys.readouterr()
    assert "two runs are one                               differs  weights" in shown.out
    assert shown.err == "error: not every promise holds on this machine\n"


def test_a_fit_that_fails_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        verify.main(["--data.batch_sizes", "3"])
    assert exit_.value.code == 1
    assert "a fit ended with exit 2: unknown flag --data.batch_sizes" in capsys.readouterr().err
