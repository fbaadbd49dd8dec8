"""The promise of `--evaluate_test false`: the test set has no part in training, since its files are not read."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import write_data, write_idx
from pytorch_lightning.trainer.states import TrainerFn

from fashion_lightning import fit, test
from fashion_lightning.data.module import FashionMNISTDataModule
from fashion_lightning.reports import inspection
from fashion_lightning.storage.run_folders import Run

WITHOUT = ["--evaluate_test", "false"]


@pytest.fixture
def data_dir(tiny_data, tmp_path) -> Path:
    return shutil.copytree(tiny_data, tmp_path / "files")


def spoil(path: Path, damage: str) -> None:
    path.unlink()
    if damage == "replaced":
        write_idx(path, np.ones((7, 28, 28) if "images" in path.name else 7, np.uint8))
    elif damage == "unreadable":
        path.mkdir()


def bits_of(number: int) -> tuple[bytes, dict[str, torch.Tensor]]:
    run = Run(Path(f"lightning_logs/version_{number}"))
    return run.metrics.read_bytes(), torch.load(run.last, weights_only=True)["state_dict"]


def test_training_gives_the_same_bits_whatever_the_test_files_are(tiny_args, data_dir, tmp_path, capsys):
    expected = fit.main([*tiny_args, "--data.data_dir", str(data_dir)])
    rows, weights = bits_of(0)
    for number, damage in enumerate(("missing", "replaced", "unreadable"), 1):
        folder = shutil.copytree(data_dir, tmp_path / damage)
        for path in list(folder.glob("t10k*")):
            spoil(path, damage)
        capsys.readouterr()
        found = fit.main([*tiny_args, "--data.data_dir", str(folder), *WITHOUT])
        assert "data     200 train, 50 val images\n" in capsys.readouterr().out
        assert list(found) == [name for name in expected if name != "test"]
        assert (found["train"], found["val"]) == (expected["train"], expected["val"])
        assert bits_of(number)[0] == rows
        assert all(torch.equal(values, weights[name]) for name, values in bits_of(number)[1].items())
    test.main(["--data.data_dir", str(data_dir)])
    assert json.loads(Path("lightning_logs/version_3/results.json").read_text())["test"] == expected["test"]


def test_the_graph_in_tensorboard_needs_no_test_set(inspected_args, data_dir, monkeypatch):
    for path in data_dir.glob("t10k*"):
        path.unlink()
    graphs = []
    monkeypatch.setattr(inspection.tensorboard, "add_graph", lambda writer, network, image: graphs.append(image))
    parts = ["--inspect.figures=false", "--data.data_dir", str(data_dir), "--trainer.max_epochs", "1"]
    fit.main([*inspected_args, *parts, *WITHOUT])
    assert [image.shape for image in graphs] == [(1, 1, 28, 28)]


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
    data.check_match(alone._order())
    with pytest.raises(ValueError, match="expected the data set that the checkpoint was trained on"):
        data.check_match({**alone._order(), "training_data": "of others"})
    alone.trainer = SimpleNamespace(state=SimpleNamespace(fn=TrainerFn.FITTING), is_global_zero=True)
    with pytest.warns(match="not known whether the training images are those of the checkpoint"):
        alone.load_state_dict({**old, "seed": 0})
