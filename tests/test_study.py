"""python -m fashion_lightning.study: what is compared, what is printed, written and refused. Cells end at once."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from jsonargparse import Namespace

from fashion_lightning import runs, study
from fashion_lightning.command_line import build_study
from fashion_lightning.jobs import child_process
from fashion_lightning.training.turns import CHOSEN

STUDY = Path("studies/s")
# Writes the results of a run, or fails, by what the variant and its seed are; a seed is 0.1 points, wide 1 point.
CELL = """
import json, os, sys
from pathlib import Path
flags = dict(zip(sys.argv[2::1], sys.argv[3::1]))
variant, seed = Path(flags["--config"]).stem, int(flags["--seed_everything"])
print("trains", variant, seed, os.environ["OMP_NUM_THREADS"])
if variant in os.environ.get("BAD_TRIALS", "").split(","):
    variant = "bad"
if variant == "bad":
    sys.exit("error: training stopped: the loss of step 3 is nan")
if variant == "killed":
    os.kill(os.getpid(), 9)
if variant == "full" and Path("disk_is_full").exists():
    sys.exit("error: No space left on device: free some space, then use --resume")
accuracy = 0.9 + 0.001 * seed + {"wide": 0.01 + 0.0001 * (seed % 2), "noise": 0.001 * (-1) ** seed}.get(variant, 0)
run = Path(flags["--trainer.default_root_dir"]) / "lightning_logs" / "version_0"
run.mkdir(parents=True, exist_ok=True)
(run / "config.yaml").write_text(Path(flags["--config"]).read_text())
results = {"val": {"accuracy": accuracy, "loss": 1 - accuracy, "images": 50}, "fit_seconds": 2.0, "parameters": 10}
(run / "results.json").write_text(json.dumps({**results, "device": "cpu (1 thread)", "versions": {"torch": "2.14"}}))
"""


@pytest.fixture
def started(monkeypatch) -> list[list[str]]:
    """The commands of all processes, which are those of CELL."""
    commands = []

    def start(command, variables, log):
        commands.append(list(command))
        with open(log, "ab") as output:
            words = [sys.executable, "-u", "-c", CELL, *command]  # lines arrive in their order
            options = {"stdout": output, "stderr": output, "env": {**os.environ, **variables}}
            return subprocess.Popen(words, stdin=subprocess.PIPE, **options)

    monkeypatch.setattr(child_process, "start_tied", start)
    return commands


@pytest.fixture
def args(tiny_args, started) -> list[str]:
    return [*tiny_args, "--name", "s", "--workers", "1"]


WIDE, BAD = "wide=--model.optimizer.lr 0.1", "bad=--model.optimizer.lr 0.2"


def table(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((STUDY / name).read_text().splitlines()))


def refused(args: list[str], capsys, status: int = 2) -> str:
    with pytest.raises(SystemExit) as exit_:
        study.main(args)
    assert exit_.value.code == status
    *_, line = capsys.readouterr().err.splitlines()
    return line


def test_variants_are_trained_with_the_same_seeds_and_compared(args, started, capsys):
    baseline, wide = study.main([*args, "--seeds", "4", "--variant", WIDE, "--threads", "3"])
    assert (baseline["finished"], wide["pairs"], wide["verdict"]) == (4, 4, "better")
    assert wide["difference"] == pytest.approx(0.01005)
    # Seed by seed, and each an ordinary run in its own folder, which leaves the test set alone.
    assert [(Path(words[2]).stem, words[5]) for words in started][:3] == [
        ("baseline", "0"),
        ("wide", "0"),
        ("baseline", "1"),
    ]
    assert started[1] == [
        *("fashion_lightning.fit", "--config", str(STUDY / "variants/wide.yaml"), "--resume", "--seed_everything", "0"),
        *("--trainer.default_root_dir", str(STUDY / "cells/wide/seed_0")),
    ]
    settings = yaml.safe_load((STUDY / "variants/wide.yaml").read_text())
    assert (settings["evaluate_test"], settings["model"]["optimizer"]["init_args"]["lr"]) == (False, 0.1)
    assert (STUDY / "cells/wide/seed_0/log.txt").read_text() == "trains wide 0 3\n"
    cells = table("cells.csv")
    assert [(row["variant"], row["seed"], row["status"]) for row in cells[:2]] == [
        ("baseline", "0", "finished"),
        ("wide", "0", "finished"),
    ]
    assert list(cells[0]) == [
        *("variant", "seed", "folder", "status", "reason"),
        *("val_accuracy", "val_loss", "fit_seconds", "parameters", "device", "software"),
    ]
    assert table("comparison.csv")[1]["verdict"] == "better"
    assert (STUDY / "comparison.png").read_bytes()[:4] == b"\x89PNG"
    assert cells[1]["folder"] == "cells/wide/seed_0/lightning_logs/version_0"
    assert len(list(STUDY.glob("tensorboard/*/seed_*/events.out.tfevents.*"))) == 8
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1/8  baseline seed 0  val 90.00% in 2 s"
    assert lines[8] == ""
    assert lines[9].split() == [
        *("variant", "val", "%", "(seeds)", "difference,", "points", "verdict", "time", "parameters")
    ]
    assert lines[-2:] == [f"study       {STUDY}", f"curves      tensorboard --logdir {STUDY}/tensorboard"]
    runs.main([])
    assert capsys.readouterr().out.startswith("no runs in lightning_logs yet")


def test_the_same_command_trains_nothing_again(args, started, capsys):
    command = [*args, "--seeds", "2", "--variant", WIDE]
    study.main(command)
    files = {path: path.read_bytes() for path in STUDY.rglob("*") if path.suffix in (".csv", ".yaml", ".json")}
    del started[:]
    study.main(command)
    assert started == []
    (STUDY / "study.db").unlink()
    study.main(command)
    assert len(started) == 4  # each finds that it is finished
    assert {path: path.read_bytes() for path in files} == files


def test_seeds_and_variants_may_be_added_and_a_look_is_said(args, started, capsys):
    study.main([*args, "--seeds", "2"])
    study.main([*args, "--seeds", "2", "--variant", WIDE])
    assert "seeds were added" not in capsys.readouterr().out
    study.main([*args, "--seeds", "3", "--variant", WIDE])
    assert len(started) == 6
    assert "seeds were added 1 time after a table was seen" in capsys.readouterr().out


def test_anything_else_is_another_study(args, started, capsys):
    study.main([*args, "--seeds", "2", "--variant", WIDE])
    del started[:]
    changed = [*args, "--trainer.max_epochs", "3", "--seeds", "1,2", "--threads", "2"]
    line = refused(changed, capsys)
    assert line.startswith(f"error: {STUDY} is another study: ")
    for part in (
        "baseline: --trainer.max_epochs: 3, in the study: 2",
        "variant wide is missing",
        "of its seeds, 0 are missing",
        "--threads 2, in the study: 1",
    ):
        assert part in line
    other = [*args, "--seeds", "2", "--variant", "wide=--model.optimizer.lr 0.3"]
    assert "wide: --model.optimizer.lr: 0.3, in the study: 0.1" in refused(other, capsys)
    (STUDY / "study.yaml").write_text("- no study")
    assert f"{STUDY}: its definition cannot be read" in refused(args, capsys)
    assert started == []


def test_a_cell_that_fails_is_said_and_left_out_and_the_others_go_on(args, started, capsys):
    command = [
        *args,
        "--seeds",
        "2",
        "--variant",
        BAD,
        "--variant",
        "killed=--model.optimizer.lr 0.3",
        "--variant",
        WIDE,
    ]
    assert "4 of 8 cells failed; to train them again, add --retry_failed" in refused(command, capsys, status=1)
    failed = {row["variant"]: row["reason"] for row in table("cells.csv") if row["status"] == "failed"}
    assert failed == {
        "bad": "training stopped: the loss of step 3 is nan",
        "killed": "SIGKILL ended it twice, is there enough memory?",
    }
    assert {row["variant"]: row["pairs"] for row in table("comparison.csv")}["wide"] == "2"
    count = len(started)
    assert count == 2 + 2 + 4 + 2  # the killed ones twice
    refused(command, capsys, status=1)
    assert len(started) == count
    refused([*command, "--retry_failed"], capsys, status=1)
    assert len(started) == count + 2 + 4


def test_a_full_disk_ends_the_study_which_then_goes_on(args, started, capsys):
    command = [*args, "--seeds", "1", "--variant", "full=--model.optimizer.lr 0.3"]
    Path("disk_is_full").touch()
    assert (
        refused(command, capsys, 1)
        == "error: No space left on device: free some space, then give the same command again"
    )
    Path("disk_is_full").unlink()
    study.main(command)
    assert [row["status"] for row in table("cells.csv")] == ["finished", "finished"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--vary", "model.optimizer.lrr=1,2"], "variant lrr=1: unknown flag --model.optimizer.lrr"),
        (["--vary", "model.optimizer.lr=a,b"], "variant lr=a: --model.optimizer.lr: expected float"),
        (["--variant", "x=--model.optimizer.lr=-1"], "variant x: --model.optimizer, --model.lr_scheduler: Invalid"),
        (["--variant", "x=--data.val_fraction 0.1"], "variant x: expected the validation images of the baseline"),
        (["--variant", "x=--seed_everything 3"], "variant x: expected no --seed_everything"),
        (["--variant", WIDE, "--data.val_fraction", "0"], "--data.val_fraction: expected more than 0"),
        (["--search", "model.optimizer.lr=-1..1.5"], "with --model.optimizer.lr=-1.0: "),
        (["--search", "model.optimizer.lr=0.1..1", "--variant", WIDE], "--search: expected no --variant or --vary"),
        (["--search", "model.optimizer.lr=0.1..1", "--sampler", "grid"], "--sampler: expected random or tpe, got grid"),
        (["--varaint", WIDE], "unknown flag --varaint; did you mean --variant?"),
        (["--workers", "0"], "--workers: expected 1 or more, got 0"),
        (["--difference", "0"], "--difference: expected more than 0 percentage points, got 0.0"),
        (["--storage", "sqlite:///x.db"], "--storage: expected the URL of a database server"),
        (["--storage", "postgresql://u@h:port/d"], "--storage: expected the URL of a database server"),
        (["--variant", "x=--threads 4"], "variant x: expected flags of fit, got --threads"),
        (["--vary", "workers=1,2"], "variant workers=2: expected flags of fit, got --workers"),
        (["--search", "workers=1..4"], "with --workers=4: expected flags of fit, got --workers"),
        (["--vary", "model.optimizer.lr=1,2", "--vary", "model.optimizer.lr=3"], "--vary: expected model.optimizer.lr"),
        (["--variant", "x=--trainer.limit_test_batches 1"], "variant x: expected the validation images"),
        (["--trainer.limit_test_batches", "0"], "--trainer.limit_test_batches: expected more than 0 in a study"),
        (["--trainer.enable_checkpointing", "false"], "--trainer.enable_checkpointing: expected true in a study"),
        (["--seeds", "3000000000"], "--seeds: expected 1 to 10,000, each once"),
        (["--ckpt_path", "best"], "--ckpt_path: expected none"),
        (["--trainer.barebones", "true"], "--trainer.barebones: expected none in a study"),
        (["--variant", "x=--trainer.fast_dev_run 2"], "variant x: --trainer.fast_dev_run: expected none in a study"),
        (
            ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "x"],
            "--trainer.logger: expected none of your own in a study",
        ),
        (["--name", "../x"], "--name: expected a name for the study"),
    ],
)
def test_what_is_wrong_is_one_line_before_anything_is_trained(flags, message, args, started, capsys):
    assert refused([*args, *flags], capsys).startswith(f"error: {message}")
    assert (started, Path("studies").exists()) == ([], False)


def given(monkeypatch, gpus: list[int], **config) -> list[str | None]:
    """The GPU of each worker, on a machine with 4 cores and with the GPUs a and b."""
    monkeypatch.setattr(build_study, "available_cores", lambda: [0, 1, 2, 3])
    monkeypatch.setattr(build_study, "available_memory", lambda: 3e9)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "a,b")
    variables = build_study._variables(Namespace(**{"workers": None, "threads": 1, **config}), gpus)
    assert {own["OMP_NUM_THREADS"] for own in variables} == {str(config.get("threads", 1))}
    is_crowded = len(variables) * config.get("threads", 1) > 4
    assert {own.get("OMP_WAIT_POLICY") for own in variables} == {"PASSIVE" if is_crowded else None}
    return [own.get("CUDA_VISIBLE_DEVICES") for own in variables]


def test_workers_are_as_many_as_gpus_or_as_cores_and_memory_allow(monkeypatch):
    assert given(monkeypatch, []) == [None] * 2  # 1.2 GB each
    assert given(monkeypatch, [], threads=3) == [None]
    assert given(monkeypatch, [], threads=9) == [None]
    assert given(monkeypatch, [], workers=5) == [None] * 5
    assert given(monkeypatch, [0]) == ["a", "b"]
    assert given(monkeypatch, [0], workers=3) == ["a", "b", "a"]
    assert given(monkeypatch, [0], threads=3) == ["a", "b"]
    assert given(monkeypatch, [1]) == [None]  # --trainer.devices [1]
    assert given(monkeypatch, [0, 1], workers=2) == [None] * 2


@pytest.mark.parametrize("variable", CHOSEN)
def test_how_threads_wait_is_the_user_s_own_setting(monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    crowd = Namespace(workers=2, threads=99)
    assert build_study._variables(crowd, []) == [{"OMP_NUM_THREADS": "99"}] * 2


def test_variants_that_are_the_same_are_said(args, capsys):
    study.main([*args, "--seeds", "2", "--vary", "model.optimizer.lr=0.01,0.02", "--variant", "same="])
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == "same has the same settings as baseline"
    assert second == "lr=0.01 is the same as baseline, and is left out"
    assert [row["variant"] for row in table("comparison.csv")] == ["baseline", "same", "lr=0.02"]
    assert table("comparison.csv")[1]["verdict"] == "the same to the bit"


def test_a_dry_run_trains_nothing(args, started, capsys):
    names = study.main([*args, "--seeds", "2", "--variant", WIDE, "--dry_run"])
    *listed, _, total = capsys.readouterr().out.splitlines()
    assert listed == names == ["baseline seed 0", "wide seed 0", "baseline seed 1", "wide seed 1"]
    assert total.startswith("4 of 4 cells to train, 1 at a time, 1 thread each: about ")
    assert (started, Path("studies").exists()) == ([], False)
    command = [*args, "--seeds", "1", "--variant", BAD]
    refused(command, capsys, status=1)
    assert study.main([*command, "--seeds", "2", "--dry_run"]) == ["baseline seed 1", "bad seed 1"]
    assert capsys.readouterr().out.startswith("baseline seed 0  finished\nbad seed 0  failed\n")
    assert study.main([*command, "--retry_failed", "--dry_run"]) == ["bad seed 0"]


def test_the_best_of_a_search_is_compared_on_seeds_that_no_trial_had(args, started, capsys):
    flags = ["--search", "model.optimizer.lr=0.001..0.1:log", "--trials", "3", "--seeds", "2"]
    study.main([*args, *flags])
    cells = [(row["variant"], row["seed"]) for row in table("cells.csv")]
    trials, compared = cells[:3], cells[3:]
    assert trials == [("trial_0", "0"), ("trial_1", "0"), ("trial_2", "0")]
    assert compared == [("baseline", "1"), ("winner", "1"), ("baseline", "2"), ("winner", "2")]
    texts = [(STUDY / f"variants/trial_{number}.yaml").read_text() for number in range(3)]
    assert len(set(texts)) == 3
    assert (STUDY / "variants/winner.yaml").read_text() == texts[0]  # all are as good, and the first is taken
    out = capsys.readouterr().out
    assert "winner: trial_0, --model.optimizer.lr 0." in out
    assert "the best of 3, so too high on average; only the new seeds count" in out
    line = refused([*args, *flags, "--trials", "4"], capsys)
    assert "its winner is compared already" in line
    other = [*args, *flags[2:], "--search", "model.optimizer.lr=0.001..0.2:log"]
    assert "space of the search {'model.optimizer.lr': '0.001..0.2:log'}, in the study: " in refused(other, capsys)
    assert refused([*args, "--seeds", "1,2"], capsys).count("no --search") == 1


def test_trials_that_fail_are_said_and_counted(args, started, monkeypatch, capsys):
    monkeypatch.setenv("BAD_TRIALS", "trial_0,trial_2")
    flags = ["--search", "model.optimizer.lr=0.001..0.1:log", "--trials", "3", "--seeds", "2"]
    assert "2 of 7 cells failed; to train them again" in refused([*args, *flags], capsys, status=1)
    assert [row["status"] for row in table("cells.csv")] == ["failed", "finished", "failed", *["finished"] * 4]
    monkeypatch.delenv("BAD_TRIALS")
    study.main([*args, *flags, "--retry_failed"])
    assert [row["status"] for row in table("cells.csv")] == ["finished"] * 7


@pytest.mark.slow
def test_a_storage_that_was_removed_costs_no_trial(args, started, capsys):
    flags = ["--search", "model.optimizer.lr=0.001..0.1:log", "--trials", "12", "--sampler", "tpe", "--seeds", "1"]
    study.main([*args, *flags, "--workers", "3"])
    before = {path: path.read_bytes() for path in STUDY.rglob("*") if path.suffix in (".csv", ".yaml")}
    (STUDY / "study.db").unlink()
    study.main([*args, *flags])
    assert {path: path.read_bytes() for path in before} == before


def test_settings_that_a_kill_has_left_are_not_taken(args, capsys):
    (STUDY / "variants").mkdir(parents=True)
    (STUDY / "variants/wide.yaml").write_text("model: of another time")
    study.main([*args, "--seeds", "1", "--variant", WIDE])
    settings = yaml.safe_load((STUDY / "variants/wide.yaml").read_text())
    assert settings["model"]["optimizer"]["init_args"]["lr"] == 0.1
    (STUDY / "study.yaml").unlink()
    assert refused([*args, "--seeds", "1"], capsys).startswith(f"error: {STUDY} has cells, but lost study.yaml")


def test_a_variant_that_comes_to_be_another_stays(args, capsys):
    vary = ["--seeds", "1", "--vary", "model.optimizer.lr=0.02,0.03"]
    study.main([*args, *vary])
    study.main([*args, *vary, "--variant", "fast=--model.optimizer.lr 0.02"])
    assert "lr=0.02 has the same settings as fast" in capsys.readouterr().out
    assert {row["variant"] for row in table("comparison.csv")} == {"baseline", "fast", "lr=0.02", "lr=0.03"}


def test_where_it_cannot_be_is_said(args, started, capsys):
    Path("studies").write_text("a file")
    assert refused(args, capsys).startswith("error: --trainer.default_root_dir: expected a folder to write to")
    Path("odd?x").mkdir()
    study.main([*args, "--seeds", "1", "--trainer.default_root_dir", "odd?x"])
    assert Path("odd?x", STUDY, "study.db").is_file()


def test_the_test_set_is_evaluated_once_for_the_winner_and_ends_the_study(args, started, monkeypatch, capsys):
    flags = ["--seeds", "2", "--variant", WIDE]
    study.main([*args, *flags])
    assert "test" not in capsys.readouterr().out.replace("test_winner", "")
    tested, start = [], child_process.start_tied

    def evaluate(command, variables, log):
        if command[0] != "fashion_lightning.test":
            return start(command, variables, log)
        tested.append(command[2])
        path = Path(command[2]).parents[1] / "results.json"
        found = json.loads(path.read_text())
        path.write_text(json.dumps({**found, "test": {"accuracy": 0.9 + 0.02 * len(tested), "images": 10_000}}))
        return subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.PIPE)

    monkeypatch.setattr(child_process, "start_tied", evaluate)
    for _ in range(2):
        study.main([*args, *flags, "--test_winner"])
        line = capsys.readouterr().out.splitlines()[-1]
        assert line == "test        wide: 93.00 ± 1.41 % (2 seeds, standard error of each 0.26 on 10,000 images)"
    folders = [str(STUDY / f"cells/wide/seed_{seed}/lightning_logs/version_0/checkpoints/best.ckpt") for seed in (0, 1)]
    assert tested == folders
    # Texts of settings name versions of packages: those of others are no other study.
    path = STUDY / "variants/wide.yaml"
    path.write_text("# of another version\n" + path.read_text())
    study.main([*args, *flags])
    capsys.readouterr()
    line = refused([*args, "--seeds", "3", "--variant", WIDE], capsys)
    assert line == f"error: {STUDY} has ended with its test set: to compare more, choose another --name"
