"""The promise of the probabilities: how often they are right is measured, and the temperature is that of validation."""

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from fashion_lightning import fit, test
from fashion_lightning.classifier import FashionClassifier
from fashion_lightning.command_line.settings import resolve
from fashion_lightning.data.module import FashionMNISTDataModule, normalize
from fashion_lightning.reports import calibration, results

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(2000, 10, generator=GENERATOR) * 2
LABELS = torch.multinomial(LOGITS.softmax(1), 1, generator=GENERATOR).squeeze(1)  # as often as the probabilities say
RIGHT = F.one_hot(LABELS, 10).float()
RESULTS = Path("lightning_logs/version_0/results.json")


@pytest.mark.parametrize("factor", [0.3, 1, 3])
def test_the_temperature_has_the_least_loss_of_all(factor):
    with torch.inference_mode():
        temperature = calibration.fit_temperature(LOGITS * factor, LABELS)
    assert temperature == pytest.approx(factor, rel=0.05)
    grid = torch.logspace(-1, 1, 201).tolist()
    losses = {t: F.cross_entropy(LOGITS.double() * factor / t, LABELS).item() for t in grid}
    assert temperature == pytest.approx(min(losses, key=losses.get), rel=0.02)
    assert F.cross_entropy(LOGITS.double() * factor / temperature, LABELS).item() <= min(losses.values())
    assert temperature == calibration.fit_temperature(LOGITS * factor, LABELS)


@pytest.mark.parametrize(
    ("logits", "temperature"),
    [
        (LOGITS * 1e6, calibration.HOTTEST),
        (-4 * RIGHT, calibration.HOTTEST),  # all wrong
        (LOGITS * 1e-4, calibration.COLDEST),
        (RIGHT * 1e-3, calibration.COLDEST),
        (RIGHT * 100, 1),  # the loss is zero
        (torch.full((2000, 10), 5.0), 1),
    ],
)
def test_the_temperature_of_extreme_logits_is_bounded(logits, temperature):
    assert calibration.fit_temperature(logits, LABELS) == pytest.approx(temperature)


def test_the_error_and_its_bins_are_those_counted_by_hand():
    confidence, right = torch.tensor([0.9, 0.92, 0.55, 0.52, 0.41]), torch.tensor([1, 1, 0, 1, 0])
    probabilities = ((1 - confidence) / 9).unsqueeze(1).repeat(1, 10)
    probabilities[:, 3] = confidence
    labels = torch.where(right == 1, 3, 4)
    counted = [(0.41, 0, 1), (0.52, 1, 1), (0.55, 0, 1), (0.91, 1, 2)]  # 0.5333 lies between two bins
    bins = calibration.reliability(probabilities, labels)
    assert [value for row in bins for value in row] == pytest.approx([value for row in counted for value in row])
    expected = (0.41 + 0.48 + 0.55 + 2 * 0.09) / 5
    assert calibration.calibration_error(probabilities, labels) == pytest.approx(expected)


def test_what_cannot_be_measured_is_left_out():
    both = {"val": (LOGITS * 3, LABELS), "test": (LOGITS * 3, LABELS)}
    measured = calibration.measure(both)
    assert measured["val"]["temperature"] == pytest.approx(3, rel=0.05)
    for values in measured.values():
        assert values["calibration_error_scaled"] < 0.05 < values["calibration_error"]
    alone = calibration.measure({"test": both["test"]})
    assert alone == {"test": {"calibration_error": measured["test"]["calibration_error"]}}
    assert calibration.measure({"val": (LOGITS * torch.nan, LABELS), "test": both["test"]}) == alone


def logits_of(checkpoint: str, data: FashionMNISTDataModule, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = data.splits[split][:]
    with torch.no_grad():
        return FashionClassifier.load_from_checkpoint(checkpoint).eval()(normalize(images)), labels


def test_a_run_has_the_calibration_of_its_best_checkpoint_and_predicts_with_its_temperature(tiny_args, capsys):
    found = fit.main([*tiny_args, "--trainer.max_steps", "5"])
    data = FashionMNISTDataModule(tiny_args[1], verify=False)
    evaluated = {split: logits_of(found["checkpoint"], data, split) for split in ("val", "test")}
    for split, values in calibration.measure(evaluated).items():
        assert {name: found[split][name] for name in values} == pytest.approx(values, rel=1e-4)
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("calibration ")]
    temperature = found["val"]["temperature"]
    assert line.endswith(f" with temperature {temperature:.2f} fitted on val")

    def used(*flags):
        return resolve("predict", ["picture.png", *flags]).start.temperature

    assert used() == used("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false") == temperature
    for changed in (["--ckpt_path", "last"], ["--model.mirror_at_test", "true"], ["--trainer.precision", "bf16-mixed"]):
        assert used(*changed) is None
    content = json.loads(RESULTS.read_text())
    for split in ("val", "test"):  # as an earlier version left them
        content[split] = {name: content[split][name] for name in ("loss", "accuracy", "images")}
    RESULTS.write_text(json.dumps(content))
    assert used() is None
    test.main([])
    assert json.loads(RESULTS.read_text()) == found
    RESULTS.write_text("[]")
    assert used() is None


def test_an_evaluation_of_some_images_is_not_calibrated(tiny_args, capsys):
    found = fit.main([*tiny_args, "--trainer.max_steps", "2", "--trainer.limit_test_batches", "4"])  # 64 images
    assert [set(found[split]) & {"calibration_error", "temperature"} for split in ("val", "test")] == [
        {"calibration_error", "temperature"},
        set(),
    ]
    assert "on val, " in next(line for line in capsys.readouterr().out.splitlines() if line.startswith("calibration "))


VALUES = {"loss": 1.0, "accuracy": 0.5, "images": 10, "calibration_error": 0.12345}
SCALED = {**VALUES, "calibration_error_scaled": 0.01}


@pytest.mark.parametrize(
    ("splits", "line"),
    [
        (
            {"val": {**SCALED, "temperature": 1.234}, "test": SCALED},
            "calibration error 12.35% on test, 1.00% with temperature 1.23 fitted on val",
        ),
        (
            {"val": {**SCALED, "temperature": 1.234}},
            "calibration error 12.35% on val, 1.00% with temperature 1.23 fitted on val",
        ),
        ({"test": VALUES}, "calibration error 12.35% on test; no temperature without all validation images"),
    ],
)
def test_the_table_is_followed_by_the_calibration(splits, line, capsys):
    results.print_splits(splits)
    shown = capsys.readouterr().out.splitlines()[-1]
    assert shown == line
    assert len(shown) <= 80


def test_the_standard_error_is_that_of_a_share(capsys):
    results.print_splits({"test": {"loss": 0.2279, "accuracy": 0.9181, "images": 10_000}})
    shown = capsys.readouterr().out.splitlines()
    assert shown[1].split() == ["loss", "accuracy", "std", "error", "images"]
    assert shown[2].split() == ["test", "0.2279", "91.81%", "0.27%", "10,000"]
