"""The promise of a checkpoint: it is evaluated as in its run, wherever it is, and only on its split and data."""

import shutil
from enum import Enum
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from conftest import write_data
from torch import nn

from fashion_lightning import FashionClassifier, FashionMNISTDataModule, fit, predict, test
from fashion_lightning.storage.run_folders import Run

RUN = Run(Path("lightning_logs/version_0"))
OTHER_FLAGS = [
    *("--model.network", "ResidualCNN", "--model.network.widths", "[4,8]", "--model.mirror_at_test", "true"),
    *("--model.shift_at_test", "true", "--model.augmentation", "Augmentation"),
    *("--data.split_seed", "1", "--data.val_fraction", "0.4"),
    *("--trainer.precision", "bf16-mixed", "--trainer.max_epochs", "1"),
]


@pytest.fixture
def data_args(tiny_data) -> list[str]:
    return ["--data.data_dir", str(tiny_data), "--data.verify", "false", "--data.eval_batch_size", "16"]


def test_a_copy_is_evaluated_as_in_its_run(tiny_args, data_args, capsys):
    results = fit.main([*tiny_args, *OTHER_FLAGS])
    shutil.copy(RUN.best, "mine.ckpt")
    shutil.rmtree("lightning_logs")
    evaluated = test.main([*data_args, "--ckpt_path", "mine.ckpt"])
    assert evaluated == {split: results[split] for split in ("train", "val", "test")}
    assert evaluated["val"]["images"] == 100
    differs = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("differs")]
    assert differs == []


def test_a_copy_in_another_run_is_evaluated_as_in_its_own(tiny_args, data_args):
    both = [fit.main([*tiny_args, *flags]) for flags in (OTHER_FLAGS, ["--trainer.max_epochs", "1"])]
    runs = [RUN, Run(Path("lightning_logs/version_1"))]
    for results, own, other in zip(both, runs, reversed(runs), strict=True):
        copy = str(shutil.copy(own.best, other.checkpoints / "other.ckpt"))
        assert test.main([*data_args, "--ckpt_path", copy])["val"] == results["val"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data.split_seed", "1"], "expected the checkpoint's split_seed 0, got 1: its training images may be"),
        (["--data.val_fraction", "0.4"], "expected the checkpoint's val_fraction 0.2, got 0.4: its training images"),
        (["--data.data_dir", "other"], "expected the data set that the checkpoint was trained on, got another"),
    ],
)
def test_other_images_are_refused_unless_asked_for(flags, message, tiny_args, capsys):
    write_data(Path("other"), test=100)
    fit.main([*tiny_args, "--trainer.max_epochs", "1"])
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        test.main(flags)
    assert exit_.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {message}")
    assert line.endswith("to evaluate all the same: --data.match_checkpoint false")
    assert test.main([*flags, "--data.match_checkpoint", "false"])["test"]["images"] in (203, 100)


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks")  # those of a fit
@pytest.mark.parametrize("evaluate", ["validate", "test"])
def test_a_plain_trainer_refuses_them_too(evaluate, tiny_args, tiny_data):
    fit.main([*tiny_args, "--trainer.max_epochs", "1"])
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    paths = {"ckpt_path": RUN.best, "weights_only": True, "verbose": False}

    def run(**arguments):
        data = FashionMNISTDataModule(tiny_data, verify=False, **arguments)
        return getattr(trainer, evaluate)(FashionClassifier(), data, **paths)

    with pytest.raises(ValueError, match="expected the checkpoint's split_seed 0, got 1"):
        run(split_seed=1)
    assert run(split_seed=1, match_checkpoint=False)
    assert run()


def test_a_network_of_one_s_own_has_to_be_named(tiny_args, data_args, capsys):
    Path("their_networks.py").write_text("raise SystemExit('imported')\n")
    fit.main([*tiny_args, "--trainer.max_epochs", "1"])
    content = torch.load(RUN.best, weights_only=True)
    network = {"class_path": "their_networks.Net", "init_args": {"width": 8}}
    content["callbacks"]["RunRecord"]["settings"]["model"]["network"] = network
    torch.save(content, "theirs.ckpt")
    capsys.readouterr()
    for job in (test, predict):
        with pytest.raises(SystemExit) as exit_:
            job.main([*data_args, "--ckpt_path", "theirs.ckpt"])
        assert exit_.value.code == 2
        expected = "if you trust its code, add --model.network their_networks.Net --model.network.width 8\n"
        assert capsys.readouterr().err.endswith(expected)


class Kind(Enum):
    PLAIN = 1


class Sized(nn.Sequential):
    """Takes what is not a plain value: a path and an enumeration."""

    def __init__(self, source: Path = Path("weights"), kind: Kind = Kind.PLAIN) -> None:
        super().__init__(nn.Flatten(), nn.Linear(784, 10))


def make_network() -> nn.Module:
    return Sized()


@pytest.mark.parametrize("network", ["Sized", "make_network"])
def test_any_network_has_checkpoints_that_can_be_read(network, tiny_args, data_args):
    results = fit.main([*tiny_args, "--model.network", f"{__name__}.{network}", "--trainer.max_epochs", "1"])
    assert test.main([])["val"] == results["val"]
    copy = shutil.copy(RUN.best, "mine.ckpt")
    named = ["--model.network", f"{__name__}.{network}"]
    assert test.main([*data_args, *named, "--ckpt_path", copy])["val"]["accuracy"] == results["val"]["accuracy"]


@pytest.mark.parametrize("name", ["mirror_at_test", "shift_at_test"])
def test_weights_loaded_in_a_notebook_see_the_images_as_in_their_run(tiny_args, name):
    flags = [f"--model.{name}", "true", "--model.augmentation", "Augmentation"]
    fit.main([*tiny_args, *flags, "--trainer.max_epochs", "1"])
    assert getattr(FashionClassifier.load_from_checkpoint(RUN.best), name)
    assert not getattr(FashionClassifier.load_from_checkpoint(RUN.best, **{name: False}), name)


@pytest.mark.parametrize(
    ("flags", "changed"),
    [
        (["--model.optimizer", "SGD"], "--model.optimizer: SGD, in the run: Adam"),
        (["--model.mirror_at_test", "true"], "--model.mirror_at_test: true, in the run: false"),
        (["--model.shift_at_test", "true"], "--model.shift_at_test: true, in the run: false"),
    ],
)
def test_training_resumes_outside_the_run_with_its_settings_only(flags, changed, tiny_args, capsys):
    fit.main([*tiny_args, "--trainer.max_epochs", "1"])
    copy = shutil.copy(RUN.last, "mine.ckpt")
    shutil.rmtree("lightning_logs")
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        fit.main([*tiny_args, *flags, "--ckpt_path", copy])
    assert f"schedule or evaluation: {changed}; drop that flag" in capsys.readouterr().err
    assert fit.main([*tiny_args, "--ckpt_path", copy])["changes"] == [
        "after step 10: --trainer.max_epochs: 2, in the run: 1"
    ]
