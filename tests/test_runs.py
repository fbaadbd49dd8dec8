import json
import re
from datetime import datetime
from pathlib import Path

import pytest

from fashion_lightning import fit, runs
from fashion_lightning.reports import results
from fashion_lightning.storage.run_folders import MARK


@pytest.fixture
def three_runs(tiny_args):
    """Run 0 is finished, run 1 was stopped in its second epoch, run 2 has a damaged file."""
    results = fit.main(tiny_args)
    for version in (1, 2):
        folder = Path(f"lightning_logs/version_{version}")
        folder.mkdir()
        (folder / "config.yaml").write_text(f"# {MARK}1.0\n")
    header = Path("lightning_logs/version_0/metrics.csv").read_text().splitlines()[0]
    Path("lightning_logs/version_1/metrics.csv").write_text(f"{header}\n1,10,1.0,0.5,1.0,0.125,0.01\n")
    Path("lightning_logs/version_2/results.json").write_text('{"val": ')
    return results


def test_lists_finished_unfinished_and_damaged_runs_newest_first(three_runs, capsys):
    rows = runs.main([])
    assert [(row["run"], row["status"]) for row in rows] == [
        ("version_2", "damaged"),
        ("version_1", "unfinished"),
        ("version_0", "finished"),
    ]
    assert (rows[1]["epochs"], rows[1]["val_accuracy"]) == (1, 0.125)
    assert rows[2]["test_accuracy"] == three_runs["test"]["accuracy"]
    assert rows[2]["config"] == "default"
    assert [row["checkpoint"] for row in rows] == [None, None, "run:0"]
    out = capsys.readouterr().out
    assert f"{three_runs['test']['accuracy']:.2%}" in out
    assert "damaged" in out


def test_a_run_that_may_not_be_read_is_listed_with_the_others(three_runs, monkeypatch):
    is_file = Path.is_file

    def refuse(path):
        if "version_0" in str(path):
            raise PermissionError(path)
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", refuse)  # as root, who runs the tests, may read everything
    rows = runs.main([])
    assert [row["status"] for row in rows] == ["damaged", "unfinished", "unreadable"]


def test_sorts_by_what_is_asked_for(three_runs):
    assert [row["run"] for row in runs.main(["--sort", "val_accuracy"])] == ["version_0", "version_1", "version_2"]
    assert runs.main(["--sort", "fit_seconds"])[0]["run"] == "version_0"


def test_the_config_s_name_is_kept(tiny_args):
    Path("quick.yaml").write_text("trainer:\n  max_steps: 2\n")
    fit.main([*tiny_args, "--config", "quick.yaml"])
    assert json.loads(Path("lightning_logs/version_0/results.json").read_text())["config"] == "quick"


def test_says_how_to_make_the_first(tmp_path, capsys):
    assert runs.main(["--trainer.default_root_dir", str(tmp_path)]) == []
    assert "python -m fashion_lightning.fit" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sort", "colour"], "--sort: expected when, val_accuracy, test_accuracy, fit_seconds, got colour"),
        (["--sorted", "when"], "unknown flag --sorted; did you mean --sort?"),
        (["run:1"], "unknown argument run:1"),
    ],
)
def test_bad_input_gets_one_line(flags, message, run_module):
    done = run_module("runs", *flags)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {message}\n")


def test_fits_into_a_narrow_terminal(three_runs, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    runs.main([])
    out = re.sub(r"\x1b\[\d+m", "", capsys.readouterr().out)
    assert max(map(len, out.splitlines())) <= 80
    for whole in (
        "default",
        "cpu",
        "unfinished",
        "run:0",
        f"{three_runs['test']['accuracy']:.2%}",
        datetime.now().strftime("%Y-%m-%d"),
    ):
        assert whole in out


def listed(width: int, rows: list[dict], monkeypatch, capsys) -> list[str]:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    results.print_runs(rows)
    lines = re.sub(r"\x1b\[\d+m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= width
    return lines


def test_sixty_columns_hold_all_that_matters(monkeypatch, capsys):
    when = datetime(2026, 11, 25, 13, 47).timestamp()
    row = {"run": "version_103", "when": when, "status": "finished", "config": "accurate", "epochs": 100}
    row |= {"device": "cuda (NVIDIA H100 80GB HBM3)", "fit_seconds": 12345.0, "val_accuracy": 1.0}
    row |= {"test_accuracy": 0.9211, "checkpoint": "run:103"}
    heading, line = listed(60, [row], monkeypatch, capsys)
    assert heading.split() == ["run", "when", "config", "epochs", "time", "val", "test", "checkpoint"]
    assert line.split() == ["103", "11-25", "accurate", "100", "12345", "s", "100.00%", "92.11%", "run:103"]
    assert "2026-11-25 13:47" in listed(100, [row], monkeypatch, capsys)[1]
    folded = listed(60, [{**row, "config": "fast+accurate+mine", "test_images": 600}], monkeypatch, capsys)
    for whole in ("103 11-25 ", " 12345 s 100.00% 92.11% ", " run:103"):
        assert whole in folded[1]
    assert "of 600" in folded[2]


def test_accuracies_of_some_images_only_say_of_how_many(tiny_args, capsys):
    fit.main([*tiny_args, "--trainer.limit_test_batches", "3"])
    fit.main([*tiny_args, "--trainer.max_epochs", "1"])
    saved = [json.loads(Path(f"lightning_logs/version_{run}/results.json").read_text())["test"] for run in (0, 1)]
    assert [split.get("split_images") for split in saved] == [203, None]
    capsys.readouterr()
    runs.main([])
    _, all_images, some_images = capsys.readouterr().out.splitlines()
    assert f"{saved[0]['accuracy']:.2%} of 48" in some_images
    assert " of " not in all_images
