"""The promise of the command line: settings from flags, files and runs, and one line where they are wrong."""

import importlib.metadata
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy

from fashion_lightning import fit, test
from fashion_lightning.augmentation import Augmentation
from fashion_lightning.classifier import FashionClassifier
from fashion_lightning.command_line.checks import check_objects, check_output, warn_of_views
from fashion_lightning.command_line.settings import resolve
from fashion_lightning.data.module import FashionMNISTDataModule
from fashion_lightning.errors import UserError
from fashion_lightning.jobs.start import Start
from fashion_lightning.storage.run_folders import MARK

MISTAKES = [
    ("--data.verify false --data.data_dir nothing", "expected train-images-idx3-ubyte, .* in nothing/"),
    ("--ckpt_path best", "--ckpt_path best: expected best, last, run:N or the path"),
    ("--trainer.max_epoch 3", r"unknown flag --trainer\.max_epoch; did you mean --trainer\.max_epochs\?"),
    ("--data.batch 3", r"unknown flag --data\.batch\b"),
    ("--nonsense", "unknown flag --nonsense$"),
    ("stray", "unknown argument stray$"),
    ("--model.network FashionCN", r"--model\.network: .* got FashionCN; did you mean FashionCNN\?"),
    ("--model.network nowhere.Net", r"--model\.network: .* there is no module nowhere"),
    ("--model.network torch.nn.Identity", r"--model\.network: expected logits \(B, 10\) .*, got \(2, 1, 28, 28\)"),
    ("--model.network.num_classes 12", r"--model\.network: expected logits \(B, 10\) .*, got \(2, 12\)"),
    ("--model.network torch.nn.LazyLinear --model.network.out_features 10", r"--model\.network: expected logits"),
    (
        "--model.network torch.nn.Bilinear --model.network.in1_features 1 --model.network.in2_features 1"
        " --model.network.out_features 1",
        r"--model\.network: cannot use images \(B, 1, 28, 28\): .*input2",
    ),
    ("--model.optimizer Adamm", r"--model\.optimizer: .* got Adamm; did you mean Adam\?"),
    ("--model.lr_scheduler StepL", r"--model\.lr_scheduler: .* did you mean StepLR\?"),
    ("--model.optimizer SGD --model.optimizer.lrr 1", r"unknown flag --model\.optimizer\.lrr"),
    ("--model.lr_scheduler ReduceLROnPlateau", r"expected the path of a class, .* torch\.optim\.lr_scheduler\.Reduce"),
    (
        "--model.lr_scheduler torch.optim.lr_scheduler.ReduceLROnPlateau",
        r"--model\.lr_scheduler: expected a schedule by the step, got ReduceLROnPlateau",
    ),
    ("--model.optimizer.lr -1", r"--model\.optimizer.*: Invalid learning rate: -1"),
    ("--model.optimizer.lr x", r"--model\.optimizer\.lr: expected float.*, got x"),
    ("--data.batch_size many", r"--data\.batch_size: expected int, got many$"),
    ("--data.batch_size 0", r"--data\.batch_size: expected 1 or more, got 0$"),
    ("--data.split_seed -1", r"--data\.split_seed: expected 0 to 4294967295, got -1$"),
    ("--seed_everything true", "--seed_everything: expected int, got [Tt]rue$"),
    ("--seed_everything -1", "--seed_everything: expected 0 to 4294967295, got -1$"),
    ("--trainer.max_epochs x", r"--trainer\.max_epochs: expected int, null, got x$"),
    ("--trainer.precision bf17", r"--trainer\.precision: expected .*bf16-mixed.*, got bf17$"),
    ("--trainer.accelerator gpu", r"gpu.* use --trainer\.accelerator cpu or auto$"),
    ("--trainer.accelerator xpuu", "invalid accelerator name"),
    ("--trainer.accumulate_grad_batches 0", r"--trainer\.accumulate_grad_batches: expected more than 0, got 0$"),
    ("--trainer.val_check_interval 0", r"--trainer\.val_check_interval: expected more than 0, got 0$"),
    ("--trainer.check_val_every_n_epoch 0", r"--trainer\.check_val_every_n_epoch: expected more than 0, got 0$"),
    ("--trainer.overfit_batches 2", r"--trainer\.overfit_batches: expected 0"),
    ("--model.label_smoothing 2", r"--model\.label_smoothing: expected 0 or more, and less than 1, got 2\.0$"),
    (
        "--model.augmentation Augmentation --model.augmentation.cutout 100",
        r"^error: Augmentation\.cutout: expected 0 to 28, got 100$",
    ),
    (
        "--model.network ResidualCNN --model.network.widths []",
        r"^error: ResidualCNN\.widths: expected 1 to 4 numbers, each 1 or more, got \(\)$",
    ),
    (
        "--model.lr_scheduler RiseAndFall --model.lr_scheduler.total_steps 0",
        r"--model\.lr_scheduler: RiseAndFall\.total_steps: expected 1 or more, got 0$",
    ),
    ("--model.optimizer LBFGS", "--model.optimizer: expected one that needs the loss once a step, got LBFGS"),
    ("--model.optimizer SparseAdam", "--model.optimizer.*: a step fails with RuntimeError: SparseAdam .* dense grad"),
    ("--model.optimizer Muon", r"--model\.optimizer.*: Muon only supports 2D parameters"),
    ("--model.lr_scheduler torch.optim.lr_scheduler.LRScheduler", r"--model\.lr_scheduler: NotImplementedError$"),
    (
        "--model.lr_scheduler StepLR --model.lr_scheduler.step_size 0",
        r"--model\.lr_scheduler: a step fails with ZeroDivisionError: ",
    ),
    (
        "--trainer.callbacks EarlyStopping --trainer.callbacks.monitor val_loss",
        r"--trainer\.callbacks: EarlyStopping\.monitor: expected one of train/loss, .*, val/accuracy, got val_loss$",
    ),
    (
        "--trainer.callbacks ModelCheckpoint --trainer.callbacks.monitor val/loss --data.val_fraction 0",
        r"--trainer\.callbacks: ModelCheckpoint\.monitor: expected one of train/loss, .*, lr, got val/loss$",
    ),
    (
        "--trainer.callbacks LearningRateFinder",
        r"--trainer\.callbacks: expected settings that stay, got LearningRateFinder: use Lightning's Tuner instead$",
    ),
    ("--model.lr_scheduler StepLR", r"StepLR needs step_size: add --model\.lr_scheduler\.step_size VALUE$"),
    ("--trainer.callbacks EarlyStopping", r"EarlyStopping needs monitor: add --trainer\.callbacks\.monitor VALUE$"),
    ("--trainer.max_epochs", r"--trainer\.max_epochs: expected a value after it"),
    ("--config typo.yaml", r"typo\.yaml: unknown key trainer\.max_epoch; did you mean trainer\.max_epochs\?"),
    ("-c typo.yaml", r"typo\.yaml: unknown key"),
    ("--config class.yaml", r"class\.yaml: --model\.network: .* did you mean FashionCNN\?"),
    ("--config broken.yaml", r"broken\.yaml: line 2 is not YAML"),
    ("--config binary.yaml", r"binary\.yaml: expected a YAML file"),
    ("--config type.yaml", r"type\.yaml: --data\.batch_size: expected int, got many$"),
    ("--config good.yaml --config=type.yaml", r"error: type\.yaml: --data\.batch_size: expected int, got many$"),
    ("--config good.yaml --data.batch_size many", r"error: --data\.batch_size: expected int, got many$"),
    ("--config text.yaml", r"text\.yaml: expected settings as --print_config prints them, got no settings$"),
    ("--config empty.yaml", r"empty\.yaml: expected settings .*, got an empty file$"),
    ("--config value.yaml", "--config: expected names and values under data, as --print_config prints them"),
    ("--config number.yaml", "--config: expected names and values under model, as --print_config prints them"),
    ("--config .", "--config: expected a YAML file, but .* is not a file$"),
    ("--config gone.yaml", r"--config: expected a YAML file, but .*gone\.yaml does not exist$"),
]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """YAML files with one mistake each, in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "typo.yaml").write_text("trainer:\n  max_epoch: 3\n")
    (tmp_path / "class.yaml").write_text("model:\n  network: FashionCN\n")
    (tmp_path / "broken.yaml").write_text("a: [1,\n")
    (tmp_path / "type.yaml").write_text("data:\n  batch_size: many\n")
    (tmp_path / "text.yaml").write_text("no settings\n")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\x00")
    (tmp_path / "empty.yaml").touch()
    (tmp_path / "value.yaml").write_text("data: 3\n")
    (tmp_path / "number.yaml").write_text("model: 3\n")
    (tmp_path / "good.yaml").write_text("data:\n  batch_size: 20\n")


@pytest.mark.parametrize(("flags", "message"), MISTAKES)
@pytest.mark.usefixtures("files")
def test_bad_input_gets_one_line_and_exit_2(flags, message, capsys):
    with pytest.raises(SystemExit) as exit_:
        fit.main(flags.split())
    assert exit_.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    [line] = shown.err.splitlines()
    assert line.startswith("error: ")
    assert re.search(message, line)
    assert not Path("lightning_logs").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("flags", "message"), MISTAKES)
@pytest.mark.usefixtures("files")
def test_bad_input_gets_one_line_in_a_real_process(flags, message, run_module):
    done = run_module("fit", *flags.split())
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert re.search(message, line)


def test_errors_are_one_line_in_a_real_process_too(run_module):
    done = run_module("fit", "--trainer.acelerator", "cpu")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: unknown flag --trainer.acelerator; did you mean --trainer.accelerator?\n"


def test_a_damaged_or_foreign_checkpoint_is_named(tiny_args, capsys):
    fit.main(tiny_args)
    best = Path("lightning_logs/version_0/checkpoints/best.ckpt")
    whole = best.read_bytes()
    capsys.readouterr()
    for content in (whole[: len(whole) // 2], b"", b"text"):
        best.write_bytes(content)
        for job in (test.main, fit.main):
            with pytest.raises(SystemExit) as exit_:
                job(["--ckpt_path", str(best)])
            assert exit_.value.code == 2
            [line] = capsys.readouterr().err.splitlines()
            assert f"{best} is not a whole checkpoint" in line
            assert "whole ones beside it: lightning_logs/version_0/checkpoints/last.ckpt" in line


def test_an_optimizer_cannot_be_changed_on_the_way(tiny_args, capsys):
    fit.main([*tiny_args, "--trainer.max_epochs", "1"])
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        fit.main(["--ckpt_path", "last", "--model.optimizer.lr", "0.05"])
    assert exit_.value.code == 2
    assert "cannot resume with another optimiser, schedule or evaluation: --model.optimizer" in capsys.readouterr().err


@pytest.mark.parametrize("flags", ["--trainer.max_epochs 0", "--trainer.log_every_n_steps 0"])
def test_nothing_to_do_is_no_error(tiny_args, flags):
    assert fit.main([*tiny_args, *flags.split()])["test"]["images"] == 203


def test_what_differs_from_the_run_is_said(tiny_args, capsys):
    fit.main(tiny_args)
    capsys.readouterr()
    test.main(["--data.eval_batch_size", "10", "--trainer.precision", "bf16-mixed"])
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("differs")]
    assert said == [
        "differs     --trainer.precision: bf16-mixed, in the run: null",
        "differs     --data.eval_batch_size: 10, in the run: 16",
    ]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--model.optimizer SGD --model.optimizer.momentum 0.9", ["--model.optimizer: SGD, in the run: AdamW"]),
        ("--model.optimizer.lr 0.5", ["--model.optimizer.lr: 0.5, in the run: 0.015"]),
        ("--model.optimizer.betas [0.8,0.9]", ["--model.optimizer.betas: [0.8, 0.9], in the run: [0.9, 0.999]"]),
        (
            "--model.network ResidualCNN --model.network.widths [3,4] --trainer.deterministic false",
            [
                "--trainer.deterministic: false, in the run: true",
                "--model.network: ResidualCNN, in the run: WhitenedCNN",
            ],
        ),
        (
            "--trainer.callbacks+=LearningRateMonitor",
            ["--trainer.callbacks: [pytorch_lightning.callbacks.LearningRateMonitor], in the run: null"],
        ),
        (
            "--trainer.logger CSVLogger --trainer.logger.save_dir .",
            ["--trainer.logger: pytorch_lightning.loggers.CSVLogger, in the run: null"],
        ),
    ],
)
@pytest.mark.usefixtures("two_runs")
def test_what_differs_is_said_as_it_is_typed(flags, said):
    assert list(resolve("test", ["--ckpt_path", "run:0", *flags.split()]).start.departures) == said


def test_printed_settings_are_accepted_and_win_from_left_to_right(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def printed(*flags):
        with pytest.raises(SystemExit) as exit_:
            fit.main([*flags, "--print_config"])
        assert exit_.value.code == 0
        return capsys.readouterr().out

    (tmp_path / "a.yaml").write_text(printed("--trainer.max_epochs", "7", "--data.batch_size", "30"))
    (tmp_path / "b.yaml").write_text("trainer:\n  max_epochs: 8\n")
    assert printed("--config", "a.yaml") == (tmp_path / "a.yaml").read_text()
    both = printed("--config", "a.yaml", "--config", "b.yaml", "--data.batch_size", "20")
    assert "max_epochs: 8\n" in both
    assert "batch_size: 20\n" in both


def test_a_count_of_batches_is_no_share_whatever_was_imported_before(monkeypatch):
    # As where rich.console was imported before Lightning: `typing` takes equal Unions for the same.
    monkeypatch.setitem(Trainer.__init__.__annotations__, "limit_train_batches", float | int | None)
    for flag, limit in (("1", 1), ("1.0", 1.0), ("null", None)):
        found = resolve("fit", ["--trainer.limit_train_batches", flag]).config.trainer.limit_train_batches
        assert (found, type(found)) == (limit, type(limit))


def test_the_assignment_is_the_default(capsys):
    with pytest.raises(SystemExit):
        fit.main(["--print_config"])
    out = capsys.readouterr().out
    for setting in (
        "seed_everything: 0",
        "max_epochs: 5",
        "accelerator: auto",
        "deterministic: true",
        "class_path: fashion_lightning.FashionCNN",
        "class_path: torch.optim.Adam",
        "lr: 0.01",
        "gamma: 0.999",
        "batch_size: 60",
        "split_seed: 0",
    ):
        assert f"{setting}\n" in out


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_precision_is_a_flag(tiny_args, precision):
    assert fit.main([*tiny_args, "--trainer.precision", precision])["test"]["accuracy"] > 0.5


@pytest.mark.parametrize("name", ["p.csv", "p.CSV", "p.Json"])
def test_the_ending_of_an_output_may_be_in_any_case(name):
    assert check_output("--out", name, (".csv", ".json")) == Path(name)


@pytest.fixture
def two_runs(tmp_path, monkeypatch) -> Path:
    """Run 0 is finished, the newer run 1 has lost its last checkpoint, but not the one before."""
    monkeypatch.chdir(tmp_path)
    for version in (0, 1):
        shutil.copytree(ROOT / "tests" / "old_run", f"lightning_logs/version_{version}")
    checkpoints = Path("lightning_logs/version_1/checkpoints")
    (checkpoints / "last.ckpt").rename(checkpoints / "previous.ckpt")
    (checkpoints / "last.ckpt").write_bytes(b"half")
    return tmp_path


def test_what_to_start_from_is_resolved_without_a_trainer(two_runs):
    new = resolve("fit", [])
    assert (new.start, new.recipe, new.root) == (Start(), "", Path("."))

    best = resolve("test", [])
    assert best.start.checkpoint.path == Path("lightning_logs/version_1/checkpoints/best.ckpt")
    assert best.start.run.number == 1
    assert best.start.departures == ()
    assert best.config.data.batch_size == 20  # of the run

    with pytest.warns(
        UserWarning, match=r"last\.ckpt is not a whole checkpoint .*; resuming from the checkpoint before"
    ):
        resumed = resolve("fit", ["--resume", "--data.batch_size", "40"])
    assert resumed.start.checkpoint.path == Path("lightning_logs/version_1/checkpoints/previous.ckpt")
    assert resumed.start.checkpoint.content["global_step"] == 20
    assert resumed.start.departures == ("--data.batch_size: 40, in the run: 20",)

    named = resolve("fit", ["--ckpt_path", "run:0"])
    assert named.start.checkpoint.path == Path("lightning_logs/version_0/checkpoints/last.ckpt")
    assert named.start.run.number == 0


def test_a_run_without_a_checkpoint_is_started_from_the_beginning(two_runs):
    shutil.rmtree("lightning_logs/version_1/checkpoints")
    start = resolve("fit", ["--resume"]).start
    assert (start.checkpoint, start.run.number) == (None, 1)


def test_the_settings_of_a_run_are_those_that_it_writes(two_runs):
    written = Path("lightning_logs/version_0/config.yaml").read_text().splitlines()
    mark = f"# {MARK}{importlib.metadata.version('fashion_lightning')}"
    # Which version 0.1.0 did not have.
    later = [mark, "  shift_at_test: false", "  compile: false", "  match_checkpoint: true", "evaluate_test: true"]
    for flags in (["--config", "lightning_logs/version_0/config.yaml"], ["--ckpt_path", "run:0"]):
        settings = resolve("fit", flags)
        assert [line for line in settings.yaml.splitlines() if line not in later] == written
        assert settings.recipe == ""  # a file that a run wrote is no recipe


def test_a_checkpoint_is_read_once_per_command(tiny_args, monkeypatch):
    fit.main([*tiny_args, "--trainer.max_epochs", "1"])
    loaded: list[str] = []
    load = torch.load

    def recorded(path, **kwargs):
        loaded.append(Path(path).name)
        return load(path, **kwargs)

    monkeypatch.setattr(torch, "load", recorded)
    fit.main([*tiny_args, "--resume"])
    assert loaded == ["last.ckpt", "best.ckpt"]  # the second one is evaluated at the end
    loaded.clear()
    test.main([])
    assert loaded == ["best.ckpt"]


class Logging(Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        pl_module.log("own", 1.0)


@pytest.mark.parametrize(
    "callbacks",
    [
        [{"class_path": "EarlyStopping", "init_args": {"monitor": "val/loss"}}],
        [{"class_path": "ModelCheckpoint", "init_args": {"monitor": "step", "mode": "max"}}],
        [{"class_path": "EarlyStopping", "init_args": {"monitor": "own"}}, {"class_path": "test_settings.Logging"}],
    ],
)
def test_what_is_logged_may_be_monitored(tiny_args, callbacks):
    fit.main([*tiny_args, f"--trainer.callbacks={json.dumps(callbacks)}", "--trainer.max_epochs", "1"])


@pytest.mark.parametrize("strategy", [FSDPStrategy, DeepSpeedStrategy, ModelParallelStrategy])
def test_strategies_that_divide_a_network_are_refused(strategy):
    trainer = SimpleNamespace(strategy=strategy.__new__(strategy), world_size=1, precision="32-true")
    with pytest.raises(UserError, match=f"--trainer.strategy: expected .* got {strategy.__name__}, which divides"):
        check_objects(trainer, FashionClassifier(), FashionMNISTDataModule())


NOT_TRAINED = "--model.mirror_at_test: .* the network is not trained on mirror images, and loses accuracy"
NOT_SHIFTED = "--model.shift_at_test: .* the network is not trained on shifted images, and loses accuracy"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--trainer.limit_train_batches", "0.01"], "--trainer.limit_train_batches: expected 0.1 or more, got 0.01"),
        (["--trainer.limit_val_batches", "0.1"], "--trainer.limit_val_batches: expected 0.25 or more, got 0.1"),
        (
            ["--trainer.limit_train_batches", "0.5", "--trainer.val_check_interval", "6"],
            "--trainer.val_check_interval: expected at most 5, the batches of an epoch, or "
            "--trainer.check_val_every_n_epoch null, got 6",
        ),
        (["--trainer.limit_test_batches", "0.1"], "--trainer.limit_test_batches: expected 0.25 or more, got 0.1"),
    ],
)
def test_limits_that_the_data_cannot_meet_are_refused(tiny_args, capsys, flags, message):
    with pytest.raises(SystemExit, match="2"):
        fit.main([*tiny_args, *flags])
    assert capsys.readouterr().err == f"error: {message}\n"
    assert not Path("lightning_logs").exists()


@pytest.mark.parametrize(
    "flags", [["--trainer.val_check_interval", "00:00:01:00"], ["--trainer.limit_train_batches", "0.1"]]
)
def test_limits_that_the_data_can_just_meet_are_accepted(tiny_args, flags):
    assert fit.main([*tiny_args, *flags])["epochs"] == 2


@pytest.mark.parametrize("augmentation", [torch.nn.Identity(), Augmentation(mirror=False)])
def test_mirrors_that_are_not_trained_on_are_warned_of(augmentation):
    trainer = Trainer(accelerator="cpu", logger=False)
    with pytest.warns(UserWarning, match=NOT_TRAINED):
        warn_of_views(trainer, FashionClassifier(augmentation=augmentation, mirror_at_test=True))
    for warns_of_nothing in (Augmentation(), torch.nn.ReLU()):  # who knows what a user's own does
        warn_of_views(trainer, FashionClassifier(augmentation=warns_of_nothing, mirror_at_test=True))


@pytest.mark.parametrize("augmentation", [torch.nn.Identity(), Augmentation(shift=0)])
def test_shifts_that_are_not_trained_on_are_warned_of(augmentation):
    trainer = Trainer(accelerator="cpu", logger=False)
    with pytest.warns(UserWarning, match=NOT_SHIFTED):
        warn_of_views(trainer, FashionClassifier(augmentation=augmentation, shift_at_test=True))
    warn_of_views(trainer, FashionClassifier(augmentation=Augmentation(), shift_at_test=True))


@pytest.mark.filterwarnings("always:--model.mirror_at_test")
def test_mirrors_are_warned_of_by_every_command(tiny_args, capsys):
    fit.main([*tiny_args, "--trainer.max_epochs", "1"])
    for job, flags in ((fit, [*tiny_args, "--trainer.max_epochs", "1"]), (test, ["--ckpt_path", "run:0"])):
        assert capsys.readouterr().err == ""
        job.main([*flags, "--model.mirror_at_test", "true"])
        [line] = capsys.readouterr().err.splitlines()
        assert re.fullmatch(f"warning: {NOT_TRAINED} on them", line)
