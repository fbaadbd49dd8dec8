"""The promise of `--evaluate_test false`: the test set has no part in training, since its files are not read."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import write_data
from pytorch_lightning.trainer.states import TrainerFn

from fashion_lightning import fit, test
from fashion_lightning.data.module import FashionMNISTDataModule

WITHOUT = ["--evaluate_test", "false"]


@pytest.fixture
def data_dir(tiny_data, tmp_path) -> Path:
    return shutil.copytree(tiny_data, tmp_path / "files")


def test_training_without_test_files_gives_the_same_bits_and_they_can_be_evaluated_later(tiny_args, data_dir, capsys):
    args = [*tiny_args, "--data.data_dir", str(data_dir)]
    expected = fit.main(args)
    files = {path: path.read_bytes() for path in data_dir.glob("t10k*")}
    for path in files:
        path.unlink()
    capsys.readouterr()
    found = fit.main([*args, *WITHOUT])
    assert "200 train, 50 val images" in capsys.readouterr().out
    assert (found["train"], found["val"], found.get("test")) == (expected["train"], expected["val"], None)
    first, second = (Path(f"lightning_logs/version_{number}") for number in (0, 1))
    assert (first / "metrics.csv").read_bytes() == (second / "metrics.csv").read_bytes()
    weights = [torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for run in (first, second)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    for path, content in files.items():
        path.write_bytes(content)
    test.main([])
    assert json.loads((second / "results.json").read_text())["test"] == expected["test"]


@pytest.mark.parametrize(("before", "after"), [(WITHOUT, ["--evaluate_test", "true"]), ([], WITHOUT)])
def test_a_run_is_resumed_with_or_without_the_test_set(before, after, tiny_args):
    fit.main([*tiny_args, *before, "--trainer.max_epochs", "1"])
    longer = fit.main([*tiny_args, *after, "--trainer.max_epochs", "2", "--resume"])
    assert (longer["steps"], "test" in longer) == (20, after != WITHOUT)


def test_other_training_images_are_refused_all_the_same(tiny_args, tmp_path, capsys):
    fit.main([*tiny_args, *WITHOUT, "--trainer.max_epochs", "1"])
    other = write_data(tmp_path / "other", train=260)
    args = [*tiny_args, "--data.data_dir", str(other), "--trainer.max_epochs", "2", "--resume"]
    for flags in ([], WITHOUT):
        with pytest.raises(SystemExit) as exit_:
            fit.main([*args, *flags])
        assert exit_.value.code == 2
        assert "cannot resume: training_data was" in capsys.readouterr().err


def test_what_cannot_be_known_of_a_checkpoint_of_an_older_version_is_said(tiny_data):
    data = FashionMNISTDataModule(tiny_data, verify=False)
    old = {name: value for name, value in data._order().items() if name != "training_data"}
    data.check_match(old)
    with pytest.raises(ValueError, match="expected the data set that the checkpoint was trained on"):
        data.check_match({**old, "data": "of others"})
    alone = FashionMNISTDataModule(tiny_data, verify=False)
    alone.with_test = False
    alone.trainer = SimpleNamespace(state=SimpleNamespace(fn=TrainerFn.FITTING))
    with pytest.warns(match="not known whether the training images are those of the checkpoint"):
        alone.load_state_dict({**old, "seed": 0})
