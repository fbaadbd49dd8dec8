"""The promise of the main command: a run that repeats, and a folder that explains itself."""

import csv
import json
import os
import pty
import re
import select
import shlex
import subprocess
import sys
import termios
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from pytorch_lightning.callbacks import RichProgressBar
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fashion_lightning import fit, runs, test
from fashion_lightning.classifier import FashionClassifier
from fashion_lightning.data.module import FashionMNISTDataModule
from fashion_lightning.storage import run_folders
from fashion_lightning.training.checkpointing import Checkpointing
from fashion_lightning.training.record import ProgressBar, short


def run_folder(version: int = 0) -> Path:
    return Path("lightning_logs") / f"version_{version}"


def weights(version: int = 0, name: str = "best") -> dict[str, torch.Tensor]:
    return torch.load(run_folder(version) / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def rows(version: int = 0) -> list[dict[str, str]]:
    return list(csv.DictReader((run_folder(version) / "metrics.csv").read_text().splitlines()))


def test_two_runs_are_equal_to_the_bit(tiny_args):
    first, second, other = fit.main(tiny_args), fit.main(tiny_args), fit.main([*tiny_args, "--seed_everything", "1"])
    assert equal(weights(0), weights(1))
    assert equal(weights(0, "last"), weights(1, "last"))
    assert not equal(weights(0), weights(2))
    assert rows(0) == rows(1)
    assert [first[split] for split in ("train", "val", "test")] == [second[split] for split in ("train", "val", "test")]
    assert first["val"] != other["val"]
    assert (first["seed"], other["seed"]) == (0, 1)


def test_the_run_folder_explains_itself(tiny_args):
    results = fit.main(tiny_args)
    folder = run_folder()
    assert json.loads((folder / "results.json").read_text()) == results
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt", "previous.ckpt"}
    assert results["checkpoint"] == str(folder / "checkpoints" / "best.ckpt")
    assert {split: results[split]["images"] for split in ("train", "val", "test")} == {
        "train": 200,
        "val": 50,
        "test": 203,
    }
    assert (results["epochs"], results["steps"], results["parameters"]) == (2, 20, 62058)
    assert results["device"].startswith("cpu")
    assert results["versions"]["torch"] == torch.__version__.split("+")[0]
    assert results["fit_seconds"] > 0
    assert results["images_per_second"] == pytest.approx(400 / results["fit_seconds"], rel=0.01)

    table = rows()
    assert list(table[0]) == ["epoch", "step", "train/loss", "train/accuracy", "val/loss", "val/accuracy", "lr"]
    assert [(row["epoch"], row["step"]) for row in table] == [("1", "10"), ("2", "20")]
    assert [float(row["lr"]) for row in table] == pytest.approx([0.01 * 0.999**10, 0.01 * 0.999**20])
    best = max(table, key=lambda row: float(row["val/accuracy"]))
    assert results["val"]["accuracy"] == pytest.approx(float(best["val/accuracy"]))
    assert results["val"]["loss"] == pytest.approx(float(best["val/loss"]))


def test_the_curves_in_tensorboard_are_the_table_s(tiny_args):
    fit.main([*tiny_args, "--trainer.log_every_n_steps", "5"])
    events = EventAccumulator(str(run_folder())).Reload()
    tags = {"train/loss", "train/accuracy", "val/loss", "val/accuracy", "lr", "train/loss_step"}
    assert set(events.Tags()["scalars"]) == tags | {"trained/val_accuracy", "trained/test_accuracy"}
    for column in ("train/loss", "train/accuracy", "val/loss", "val/accuracy"):
        assert [e.value for e in events.Scalars(column)] == pytest.approx([float(row[column]) for row in rows()])
    steps = [5, 10, 15, 20]
    assert [e.value for e in events.Scalars("lr")] == pytest.approx([0.01 * 0.999**step for step in steps])
    assert [e.step for e in events.Scalars("train/loss_step")] == [step - 1 for step in steps]


def test_the_saved_config_runs_again_as_it_is(tiny_args):
    fit.main([*tiny_args, "--model.optimizer", "SGD", "--model.optimizer.lr", "0.1", "--seed_everything", "3"])
    fit.main(["--config", str(run_folder() / "config.yaml")])
    assert equal(weights(0), weights(1))
    first, second = (yaml.safe_load((run_folder(v) / "config.yaml").read_text()) for v in (0, 1))
    assert first == second


def test_evaluating_the_best_of_the_newest_run_repeats_its_results(tiny_args, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "wide.py").write_text(
        "from torch import nn\nclass Wide(nn.Sequential):\n    def __init__(self, width=8):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(784, width), nn.Linear(width, 10))\n"
    )
    settings = ["--model.network", "wide.Wide", "--model.network.width", "9", "--data.split_seed", "5"]
    results = fit.main([*tiny_args, *settings])
    fit_table = re.findall(r"^(?:train|val|test) .*", capsys.readouterr().out, re.M)
    before = sorted(Path("lightning_logs").rglob("*"))
    evaluated = test.main([])
    assert evaluated == {split: results[split] for split in ("train", "val", "test")}
    assert sorted(Path("lightning_logs").rglob("*")) == before
    out = capsys.readouterr().out
    assert re.findall(r"^(?:train|val|test) .*", out, re.M) == fit_table
    assert "version_0/checkpoints/best.ckpt" in out


def test_the_test_set_can_be_left_alone(tiny_args, monkeypatch, capsys):
    evaluated: list[int] = []
    step = FashionClassifier.test_step

    def test_step(self, batch, batch_idx, dataloader_idx=0):
        evaluated.append(len(batch[1]))
        return step(self, batch, batch_idx, dataloader_idx)

    monkeypatch.setattr(FashionClassifier, "test_step", test_step)
    results = fit.main([*tiny_args, "--evaluate_test", "false", "--trainer.max_epochs", "1"])
    assert sum(evaluated) == 200 + 50
    assert "test" not in results
    assert results == json.loads(Path("lightning_logs/version_0/results.json").read_text())
    card = capsys.readouterr().out
    assert "\ntest " not in card
    resumed = fit.main(["--resume", "--trainer.max_epochs", "2"])  # it is a setting of the run
    assert "test" not in resumed
    Path("link").symlink_to(tiny_args[1])
    later = test.main(["--data.data_dir", "link"])  # the same data
    assert later["test"]["images"] == 203
    saved = json.loads(Path("lightning_logs/version_0/results.json").read_text())
    assert list(saved)[:3] == ["train", "val", "test"]
    assert saved == {**resumed, "test": later["test"]}
    assert runs.main([])[0]["test_accuracy"] == later["test"]["accuracy"]


@pytest.mark.parametrize("flags", [["--trainer.limit_test_batches", "0"], ["--trainer.barebones", "true"]])
def test_less_than_everything_is_no_error(flags, tiny_args, capsys):
    results = fit.main([*tiny_args, *flags])
    assert results["epochs"] == 2
    if "--trainer.barebones" in flags:
        assert results["test"]["images"] == 203
        assert not Path("lightning_logs").exists()
    else:
        assert "test" not in results
        assert Path(results["checkpoint"]).is_file()
    printed = capsys.readouterr().out
    assert "epoch 2/2" in printed


def test_the_flags_of_a_test_win_over_the_run_s_settings(tiny_args):
    fit.main(tiny_args)
    other_split = ["--data.split_seed", "1", "--data.match_checkpoint", "false"]
    assert test.main(other_split)["val"] != test.main([])["val"]
    assert test.main(["--ckpt_path", "run:0"]) == test.main([])


def test_training_resumes_from_a_checkpoint(tiny_args):
    fit.main([*tiny_args, "--trainer.max_epochs", "1"])
    fit.main(["--ckpt_path", "last", "--trainer.max_epochs", "2"])
    fit.main(tiny_args)
    assert equal(weights(0, "last"), weights(1, "last"))
    assert rows(0) == rows(1)
    assert len(run_folders.runs(Path())) == 2


def test_training_resumes_wherever_the_run_has_moved(tiny_args, tmp_path, monkeypatch):
    fit.main([*tiny_args, "--trainer.max_epochs", "1"])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    last = tmp_path / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt"
    results = fit.main(["--ckpt_path", str(last), "--trainer.max_epochs", "3"])
    assert sorted(path.name for path in last.parent.iterdir()) == ["best.ckpt", "last.ckpt", "previous.ckpt"]
    evaluated = test.main(["--ckpt_path", str(last.with_name("best.ckpt"))])
    assert evaluated["val"] == results["val"]


def test_training_resumes_from_a_checkpoint_without_its_run(tiny_args, tmp_path, monkeypatch):
    fit.main([*tiny_args, "--trainer.max_epochs", "1"])
    Path("lightning_logs/version_0/checkpoints/last.ckpt").rename("loose.ckpt")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    results = fit.main([*tiny_args, "--ckpt_path", "../loose.ckpt", "--trainer.max_epochs", "3"])
    assert Path(results["checkpoint"]).is_file()
    assert results["epochs"] == 3


def test_a_run_may_end_within_an_epoch(tiny_args):
    results = fit.main([*tiny_args, "--trainer.max_steps", "2"])
    assert (results["steps"], results["test"]["images"]) == (2, 203)
    assert [row["step"] for row in rows()] == ["2"]
    assert float(rows()[0]["val/loss"]) == pytest.approx(results["val"]["loss"])


@pytest.mark.parametrize(
    "flags", [["--trainer.logger", "false"], ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "."]]
)
def test_works_without_tensorboard(tiny_args, flags, capsys):
    results = fit.main([*tiny_args, *flags])
    assert "tensorboard" not in capsys.readouterr().out
    assert json.loads((run_folder() / "results.json").read_text()) == results
    assert not list(Path().rglob("events*"))
    assert len(rows()) >= 2
    assert test.main([])["test"] == results["test"]


def test_a_run_folder_may_have_another_name(tiny_args, capsys):
    logger = ["TensorBoardLogger", "--trainer.logger.save_dir", ".", "--trainer.logger.version", "mine"]
    fit.main([*tiny_args, "--trainer.logger", *logger])
    assert "test --ckpt_path lightning_logs/mine/checkpoints/best.ckpt\n" in capsys.readouterr().out


@pytest.mark.parametrize("flags", [["--data.val_fraction", "0"], ["--trainer.limit_val_batches", "0"]])
def test_without_validation_the_best_weights_are_those_of_the_end(tiny_args, flags):
    results = fit.main([*tiny_args, *flags])
    assert results["checkpoint"] == str(run_folder() / "checkpoints" / "best.ckpt")
    assert equal(weights(name="best"), weights(name="last"))
    assert ("val" in results) == ("--data.val_fraction" not in flags)
    assert results["train"]["images"] == (200 if "val" in results else 250)
    assert test.main([]) == {split: results[split] for split in ("train", "val", "test") if split in results}
    [listed] = runs.main([])
    assert listed["test_accuracy"] == results["test"]["accuracy"]
    assert listed.get("val_accuracy") == results.get("val", {}).get("accuracy")


def test_the_test_set_is_evaluated_once_and_after_training(tiny_args, monkeypatch):
    events: list[str] = []
    loader, end = FashionMNISTDataModule.evaluation_dataloader, Checkpointing.on_train_end

    def evaluation_dataloader(self, name):
        events.append(name)
        return loader(self, name)

    def on_train_end(self, *args):
        end(self, *args)
        events.append("end of training")

    monkeypatch.setattr(FashionMNISTDataModule, "evaluation_dataloader", evaluation_dataloader)
    monkeypatch.setattr(Checkpointing, "on_train_end", on_train_end)
    fit.main(tiny_args)
    training, evaluation = events[: events.index("end of training")], events[events.index("end of training") + 1 :]
    assert set(training) == {"val"}
    assert evaluation == ["train", "val", "test"]


def test_training_may_be_limited_by_time(tiny_args):
    results = fit.main([*tiny_args, "--trainer.max_epochs", "100000", "--trainer.max_time", "00:00:00:01"])
    assert 1 <= results["fit_seconds"] < 30
    assert results["steps"] == int(rows()[-1]["step"])
    assert results["test"]["images"] == 203


def test_works_without_checkpoints(tiny_args, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        results = fit.main([*tiny_args, "--trainer.enable_checkpointing", "false"])
    assert not capsys.readouterr().err
    assert results["checkpoint"] is None
    assert results["test"]["images"] == 203


def test_a_development_run_leaves_nothing_behind(tiny_args, capsys):
    results = fit.main([*tiny_args, "--trainer.fast_dev_run", "true"])
    assert (results["steps"], results["test"]["images"], results["checkpoint"]) == (1, 16, None)
    assert "run      none\n" in capsys.readouterr().out
    assert not list(Path().iterdir())


def test_says_what_it_does_in_a_pipe_and_warns_of_nothing(tiny_args, run_module):
    done = run_module("fit", *tiny_args)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"device   cpu \((1 thread|\d\d* threads)\)", lines[0])
    assert "(1 threads)" not in done.stdout
    assert lines[1] == "data     200 train, 50 val, 203 test images"
    assert lines[2] == "network  FashionCNN, 62,058 parameters"
    epochs = [line for line in lines if line.startswith("epoch")]
    assert len(epochs) == 2
    assert re.fullmatch(r"epoch 2/2 +\d\.\d{4} +\d+\.\d\d% +\d\.\d{4} +\d+\.\d\d% +9\.80e-03 +\d+", epochs[1])
    assert "\x1b" not in done.stdout
    assert max(len(line) for line in lines[4 : lines.index("", 5)]) <= 60
    assert max(len(line) for line in lines) <= 80
    assert "tensorboard --logdir" in done.stdout


def on_the_screen(shown: str, width: int) -> list[str]:
    """Lines of a terminal of that width after `shown`, which must not wrap."""
    lines, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[[\d;?]*[A-Za-z]|[^\x1b]", shown):
        if token == "\r":
            column = 0
        elif token == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif token == "\x1b[2K":
            lines[row] = ""
        elif token == "\x1b[1A":
            row -= 1
        elif not token.startswith("\x1b"):
            assert column < width, lines[row]
            lines[row] = f"{lines[row][:column]:{column}}{token}{lines[row][column + 1 :]}"
            column += 1
    return lines


@pytest.mark.parametrize(("loss", "shown"), [(0.42771, "0.4277"), (999.5, "999.5000"), (5.322e23, "5.32e+23")])
def test_a_loss_fits_its_column(loss, shown):
    assert short(loss) == shown


def test_shows_a_progress_bar_on_a_terminal(tiny_args, tmp_path):
    main_end, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (40, 80))
    command = [sys.executable, "-m", "fashion_lightning.fit", *tiny_args, "--trainer.log_every_n_steps", "5"]
    env = {**os.environ, "TERM": "xterm-256color"}
    env.pop("COLUMNS", None)
    process = subprocess.Popen(command, cwd=tmp_path, stdout=terminal, stderr=terminal, stdin=terminal, env=env)
    os.close(terminal)
    received = b""
    while select.select([main_end], [], [], 60)[0]:
        try:
            received += os.read(main_end, 65536)
        except OSError:
            break
    os.close(main_end)
    assert process.wait() == 0
    shown = received.decode()
    for word in ("epoch 1 ", "/10", "loss: ", "lr: ", "val: ", "━", "test"):
        assert word in shown
    assert "Epoch " not in shown  # Lightning's own count of them, from 0
    lines = on_the_screen(shown, width=80)
    assert not [line for line in lines if "━" in line or "/10" in line]
    [heading] = [at for at, line in enumerate(lines) if "train loss" in line]
    assert lines[heading - 1] == ""
    assert [line[:9] for line in lines[heading + 1 : heading + 4]] == ["epoch 1/2", "epoch 2/2", ""]
    assert lines[heading + 4].startswith(" ")  # the heading of the next table


@pytest.mark.parametrize("flags", [["--trainer.max_steps", "5"], ["--trainer.max_epochs", "3"]])
def test_what_a_run_ends_with_is_validated(flags, tiny_args, capsys):
    results = fit.main([*tiny_args, "--trainer.check_val_every_n_epoch", "2", *flags])
    assert float(rows()[-1]["val/loss"]) > 0
    if len(rows()) == 1:
        assert results["val"]["accuracy"] == pytest.approx(float(rows()[0]["val/accuracy"]))
    else:
        assert rows()[0]["val/loss"] == ""
        assert re.search(r"^epoch 1/3 +\S+ +\S+% +- +- +9\.90e-03", capsys.readouterr().out, re.M)


def test_the_next_commands_can_be_pasted(tiny_args, tmp_path, capsys):
    root = tmp_path / "my runs"
    fit.main([*tiny_args, "--trainer.default_root_dir", str(root)])
    out = capsys.readouterr().out
    [curves] = re.findall(r"^curves +(.*)", out, re.M)
    assert shlex.split(curves) == ["tensorboard", "--logdir", str(root / "lightning_logs")]
    [evaluate] = re.findall(r"^evaluate +python -m fashion_lightning\.test (.*)", out, re.M)
    assert test.main(shlex.split(evaluate))["test"]["images"] == 203


def test_a_profiler_reports(tiny_args, run_module):
    done = run_module("fit", *tiny_args, "--trainer.profiler", "simple", "--trainer.max_steps", "1")
    assert done.returncode == 0
    assert "FIT Profiler Report" in done.stderr
    assert "run_training_epoch" in done.stderr
    assert "TPU" not in done.stderr  # of Lightning's other information


def test_the_progress_bar_reads_metrics_only_when_it_is_drawn(monkeypatch):
    drawn: list[int] = []
    monkeypatch.setattr(RichProgressBar, "on_train_batch_end", lambda bar, *args: drawn.append(args[-1]))
    bar = ProgressBar(refresh_rate=3)
    for batch in range(8):
        bar.on_train_batch_end(SimpleNamespace(is_last_batch=batch == 7), None, None, None, batch)
    assert drawn == [2, 5, 7]
