"""The promise to users of older versions: their runs are evaluated, resumed and repeated as before.

`old_run` is what version 0.1.0 (commit 3870b8a) left of two epochs on this data, in one thread.
"""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from fashion_lightning import fit, runs, test
from fashion_lightning.networks import PatchWhitening

OLD = ROOT / "tests" / "old_run"
RESULTS = json.loads((OLD / "results.json").read_text())


@pytest.fixture
def old_run(tiny_data, tmp_path, monkeypatch) -> Path:
    """The folder of the old run, found by all commands in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("data").symlink_to(tiny_data)
    return Path(shutil.copytree(OLD, "lightning_logs/version_0"))


def rows(version: int) -> list[dict[str, str]]:
    return list(csv.DictReader(Path(f"lightning_logs/version_{version}/metrics.csv").read_text().splitlines()))


def test_it_is_listed_and_evaluated(old_run):
    [listed] = runs.main([])
    assert (listed["status"], listed["epochs"], listed["config"]) == ("finished", 2, "old")
    evaluated = test.main([])
    for split in ("train", "val", "test"):
        assert evaluated[split]["accuracy"] == RESULTS[split]["accuracy"]
        assert evaluated[split]["images"] == RESULTS[split]["images"]
        assert evaluated[split]["loss"] == pytest.approx(RESULTS[split]["loss"], rel=1e-5)


@pytest.mark.filterwarnings("ignore:the last bits may differ")  # on another machine or torch than the old run's
def test_it_is_resumed(old_run):
    results = fit.main(["--resume", "--trainer.max_epochs", "3"])
    assert (results["epochs"], results["steps"], results["config"]) == (3, 30, "old")
    assert rows(0)[:2] == list(csv.DictReader((OLD / "metrics.csv").read_text().splitlines()))
    # What version 0.1.0 made of the third epoch.
    assert float(rows(0)[2]["train/loss"]) == pytest.approx(0.7876304551959038, rel=1e-4)
    assert float(rows(0)[2]["val/loss"]) == pytest.approx(0.4722976063936949, rel=1e-4)
    assert results["val"]["accuracy"] == 1.0


def test_its_settings_repeat_it(old_run, monkeypatch):
    """From the same filters on, up to rounding, which moved losses by less than 1e-6 of their value on other CPUs.

    The filters are eigenvectors. On this noise their variances differ by 1 %, which magnifies the rounding of one CPU
    or another a thousand times. Training from there magnifies it again, to as much as another weight decay changes.
    """
    old_filters = torch.load(old_run / "checkpoints" / "best.ckpt")["state_dict"]["network.whitening.filters"]
    learn = PatchWhitening._learn

    def learn_the_same(whitening, images):
        learn(whitening, images)
        torch.testing.assert_close(whitening.filters, old_filters, rtol=0, atol=5e-3)
        whitening.filters.copy_(old_filters)

    monkeypatch.setattr(PatchWhitening, "_learn", learn_the_same)
    results = fit.main(["--config", str(old_run / "config.yaml")])
    for split in ("train", "val", "test"):
        assert results[split]["accuracy"] == RESULTS[split]["accuracy"]
    for row, old in zip(rows(1), rows(0), strict=True):
        assert {key: float(value) for key, value in row.items()} == pytest.approx(
            {key: float(value) for key, value in old.items()}, rel=1e-5
        )
    old, new = ((path / "config.yaml").read_text().splitlines() for path in (old_run, old_run.with_name("version_1")))
    mark, *later = [line for line in new if line not in old]  # which version 0.1.0 did not write
    assert mark.startswith("# fashion_lightning==")
    assert later == ["  shift_at_test: false", "  compile: false", "  match_checkpoint: true", "evaluate_test: true"]
