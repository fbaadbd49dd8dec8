import json
import warnings
from pathlib import Path

import forked
import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.plugins.pr_curve import metadata as pr_metadata
from tensorboard.util.tensor_util import make_ndarray

from fashion_lightning import fit, test
from fashion_lightning.classifier import FashionClassifier
from fashion_lightning.command_line.settings import resolve
from fashion_lightning.data.labels import CLASSES
from fashion_lightning.data.module import FashionMNISTDataModule, normalize
from fashion_lightning.reports import tensorboard

DURING_FIT = {"train_images", "loss", "accuracy"}
OF_TEST = {"predictions", "mistakes", "confusion_matrix", "class_accuracy", "calibration"}
FOLDER = Path("lightning_logs/version_0")


def pictures() -> set[str]:
    return {path.stem for path in FOLDER.glob("figures/*.png")}


def events() -> EventAccumulator:
    return EventAccumulator(str(FOLDER), size_guidance={"images": 0, "tensors": 0}).Reload()


def texts(accumulator) -> dict[str, str]:
    tags = [tag for tag in accumulator.Tags()["tensors"] if tag.endswith("/text_summary")]
    return {tag.split("/")[0]: accumulator.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in tags}


def test_every_figure_is_a_file_and_in_tensorboard(inspected_args):
    fit.main(inspected_args)
    assert pictures() == DURING_FIT | OF_TEST
    accumulator = events()
    assert set(accumulator.Tags()["images"]) == {f"figures/{name}" for name in DURING_FIT | OF_TEST}
    for name in pictures():
        [event] = accumulator.Images(f"figures/{name}")
        with Image.open(FOLDER / "figures" / f"{name}.png") as image:
            assert (event.width, event.height) == image.size
            assert len(np.unique(np.asarray(image))) > 10


def test_tensorboard_has_all_that_answers_questions(inspected_args):
    results = fit.main(inspected_args)
    accumulator = events()
    tags = accumulator.Tags()

    data = FashionMNISTDataModule(inspected_args[1], verify=False)
    data.setup()
    images, labels = data.splits["test"][:]
    model = FashionClassifier.load_from_checkpoint(results["checkpoint"]).eval()
    with torch.no_grad():
        probabilities = model(normalize(images)).softmax(1)
    for index, name in enumerate(CLASSES):
        [curve] = accumulator.Tensors(f"test/{name}")
        values = make_ndarray(curve.tensor_proto)
        positives = values[pr_metadata.TRUE_POSITIVES_INDEX][0], values[pr_metadata.FALSE_NEGATIVES_INDEX][0]
        assert positives == ((labels == index).sum(), 0)
        half = values[pr_metadata.TRUE_POSITIVES_INDEX][values.shape[1] // 2]  # those of a probability of 0.5 and more
        assert half == (probabilities[labels == index, index] >= 0.5).sum()

    assert "custom_scalars__config__" in tags["tensors"]
    assert tags["graph"]
    shown = texts(accumulator)
    assert yaml.safe_load(shown["config"].strip("`").removeprefix("yaml"))["trainer"]["max_epochs"] == 2
    assert f"| torch | {results['versions']['torch']} |" in shown["environment"]
    assert f"| device | {results['device']} |" in shown["environment"]
    assert f"| git_commit | {results['git_commit']} |" in shown["environment"]


def test_every_run_has_one_row_of_its_settings(inspected_args):
    results = [
        fit.main(inspected_args),
        fit.main([*inspected_args, "--model.optimizer", "SGD", "--model.optimizer.lr", "0.1"]),
    ]
    keys = set()
    for version, result in enumerate(results):
        accumulator = EventAccumulator(f"lightning_logs/version_{version}").Reload()
        content = accumulator.summary_metadata["_hparams_/session_start_info"].plugin_data.content
        hparams = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
        assert hparams["optimizer"].string_value == ("Adam", "SGD")[version]
        assert hparams["optimizer.lr"].number_value == (0.01, 0.1)[version]
        assert ("optimizer.betas" in hparams) == (version == 0)
        keys.add(tuple(sorted(name for name in hparams if not name.startswith("optimizer."))))
        for split in ("val", "test"):
            [event] = accumulator.Scalars(f"trained/{split}_accuracy")
            assert event.value == pytest.approx(result[split]["accuracy"])
    assert len(keys) == 1
    assert not list(Path("lightning_logs").rglob("version_*/*/events*"))


@pytest.mark.parametrize("recipe", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_row_has_every_setting_of_a_recipe(recipe):
    settings = resolve("fit", ["--config", str(recipe), "--seed_everything", "3"])
    row = tensorboard.hyperparameters(settings.yaml, settings.recipe, torch.nn.Linear(2, 3))
    assert (row["config"], row["seed"], row["parameters"]) == (recipe.stem, 3, 9)
    content = yaml.safe_load(recipe.read_text())
    for name, value in (content["trainer"] | content["data"]).items():
        assert row[name] == value
    for name, value in content["model"].items():
        chosen = value if isinstance(value, dict) else {"class_path": value}
        assert row[name] == chosen["class_path"]
        for argument, given in chosen.get("init_args", {}).items():
            assert row[f"{name}.{argument}"] == (json.dumps(given) if isinstance(given, list) else given)
    assert {"optimizer.weight_decay", "lr_scheduler.rise", "val_fraction", "mirror_at_test"} <= row.keys()
    assert all(isinstance(value, int | float | str) for value in row.values())


@pytest.mark.slow
def test_a_run_with_averaged_weights_is_resumed_with_its_row(tiny_args, tmp_path):
    averaging = ["--trainer.callbacks", "StochasticWeightAveraging", "--trainer.callbacks.swa_lrs", "0.01"]
    kill = ("torch.optim.Adam.step", 15, "after")
    assert forked.run(tmp_path, [*tiny_args, *averaging], kill=kill) == -9
    assert forked.run(tmp_path, ["--resume"]) == 0, (tmp_path / "err").read_text()


def test_a_row_has_no_accuracy_of_some_images_only(inspected_args):
    fit.main([*inspected_args, "--trainer.limit_test_batches", "3", "--trainer.max_epochs", "1"])
    assert not [tag for tag in events().Tags()["scalars"] if tag.startswith("trained/")]


def test_the_scalars_are_curves_but_for_the_two_that_a_row_needs(inspected_args):
    fit.main([*inspected_args, "--trainer.log_every_n_steps", "5"])
    accumulator = events()
    points = {tag: len(accumulator.Scalars(tag)) for tag in accumulator.Tags()["scalars"]}
    alone = {tag for tag, count in points.items() if count == 1}
    assert alone == {"trained/val_accuracy", "trained/test_accuracy"}
    assert sorted(points)[:2] == ["lr", "train/accuracy"]  # of the two groups that TensorBoard opens


def test_inspecting_changes_no_weight(inspected_args):
    off = [f"--inspect.{part}=false" for part in ("figures", "graph", "pr_curves")]
    first, second = fit.main([*inspected_args, "--inspect.projector", "true"]), fit.main([*inspected_args, *off])
    a, b = (torch.load(r["checkpoint"], weights_only=True)["state_dict"] for r in (first, second))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_the_heavy_parts_can_be_turned_off(inspected_args):
    fit.main(
        [*inspected_args, "--inspect.figures", "false", "--inspect.graph", "false", "--inspect.pr_curves", "false"]
    )
    tags = events().Tags()
    assert pictures() == set()
    assert tags["images"] == []
    assert not tags["graph"]
    assert not any(tag.startswith("test/") for tag in tags["tensors"])


def test_the_projector_is_for_those_who_ask(inspected_args):
    fit.main([*inspected_args, "--inspect.projector", "true"])
    [vectors] = FOLDER.rglob("tensors.tsv")
    table = np.loadtxt(vectors)
    assert table.shape == (203, 576)
    assert len(vectors.with_name("metadata.tsv").read_text().splitlines()) == 203
    assert vectors.with_name("sprite.png").exists()


def test_a_network_of_another_kind_is_inspected_too(inspected_args, tmp_path, monkeypatch):
    (tmp_path / "plain.py").write_text(
        "from torch import nn\nclass Plain(nn.Sequential):\n"
        "    def __init__(self):\n        super().__init__(nn.Conv2d(1, 10, 28), nn.Flatten())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    fit.main([*inspected_args, "--model.network", "plain.Plain", "--inspect.projector", "true"])
    assert pictures() == DURING_FIT | OF_TEST
    [vectors] = FOLDER.rglob("tensors.tsv")
    assert np.loadtxt(vectors).shape == (203, 10)


@pytest.mark.parametrize("logger", [["false"], ["CSVLogger", "--trainer.logger.save_dir", "."]])
def test_figures_need_no_tensorboard(inspected_args, logger):
    fit.main([*inspected_args, "--trainer.logger", *logger])
    assert pictures() == DURING_FIT | OF_TEST


def test_tensorboard_may_be_one_of_several_loggers(inspected_args):
    Path("loggers.yaml").write_text(
        "trainer:\n  logger:\n"
        "  - {class_path: CSVLogger, init_args: {save_dir: .}}\n"
        "  - {class_path: TensorBoardLogger, init_args: {save_dir: ., default_hp_metric: false}}\n"
    )
    fit.main([*inspected_args, "--config", "loggers.yaml"])
    assert pictures() == DURING_FIT | OF_TEST


def test_a_run_of_two_steps_has_its_figures(inspected_args):
    fit.main([*inspected_args, "--trainer.max_steps", "2"])
    assert pictures() == DURING_FIT | OF_TEST


def test_a_test_redraws_its_own_figures_and_nothing_else(inspected_args):
    fit.main(inspected_args)
    originals = {name: (FOLDER / "figures" / f"{name}.png").read_bytes() for name in OF_TEST}
    others = sorted(path for path in Path().rglob("*") if path.is_file() and path.stem not in OF_TEST)
    times = [path.stat().st_mtime_ns for path in others]
    for name in OF_TEST:
        (FOLDER / "figures" / f"{name}.png").unlink()
    test.main([])
    assert {name: (FOLDER / "figures" / f"{name}.png").read_bytes() for name in OF_TEST} == originals
    assert sorted(path for path in Path().rglob("*") if path.is_file() and path.stem not in OF_TEST) == others
    assert [path.stat().st_mtime_ns for path in others] == times


def test_an_evaluation_of_some_images_draws_nothing(inspected_args):
    fit.main([*inspected_args, "--trainer.limit_test_batches", "2"])
    assert pictures() == DURING_FIT


def test_figures_of_a_run_are_those_of_its_best_checkpoint_and_settings(inspected_args, capsys):
    fit.main(inspected_args)
    before = {path: path.stat().st_mtime_ns for path in FOLDER.rglob("*") if path.is_file()}
    for flags in (["--ckpt_path", "last"], ["--ckpt_path", str(FOLDER / "checkpoints" / "last.ckpt")]):
        test.main(flags)
        assert "figures     left as they are" in capsys.readouterr().out
    test.main(["--trainer.precision", "bf16-mixed"])
    assert {path: path.stat().st_mtime_ns for path in FOLDER.rglob("*") if path.is_file()} == before


def test_a_run_that_cannot_be_written_is_evaluated(inspected_args, capsys):
    fit.main(inspected_args)
    (FOLDER / "figures" / "predictions.png").unlink()
    (FOLDER / "figures" / "predictions.png").mkdir()  # which no file can replace, also for root
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert test.main([])["test"]["images"] == 203
    assert capsys.readouterr().err == f"warning: cannot draw {FOLDER}/figures/predictions.png: Is a directory\n"


@pytest.mark.slow
def test_two_processes_draw_the_pictures_of_one(inspected_args, tmp_path):
    fit.main(inspected_args)
    alone = {name: (FOLDER / "figures" / f"{name}.png").read_bytes() for name in OF_TEST}
    for path in FOLDER.glob("figures/*"):
        path.unlink()
    assert forked.run_ranks(tmp_path, [], 2, job="test") == [0, 0]
    assert {name: (FOLDER / "figures" / f"{name}.png").read_bytes() for name in OF_TEST} == alone
