import json
import re
from datetime import datetime
from pathlib import Path

import pytest

from fashion_lightning import fit, runs
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
