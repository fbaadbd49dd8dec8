"""The assignment on the real data set: a part of it always, the whole of it with `-m slow`."""

import csv

import pytest
import torch

from fashion_lightning.fit import main


@pytest.fixture
def real_args(real_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return ["--data.data_dir", str(real_data), "--trainer.accelerator", "cpu"]


def test_a_part_of_the_real_thing(real_args):
    results = main([*real_args, "--trainer.max_steps", "300"])
    assert {split: results[split]["images"] for split in ("train", "val", "test")} == {
        "train": 48000,
        "val": 12000,
        "test": 10000,
    }
    assert (results["steps"], results["parameters"], results["seed"]) == (300, 62058, 0)
    assert all(results[split]["accuracy"] > 0.8 for split in ("train", "val", "test"))


@pytest.mark.slow
def test_the_default_run_reaches_the_assignment_s_numbers_and_repeats_to_the_bit(real_args):
    first = main(real_args)
    with open("lightning_logs/version_0/metrics.csv") as stream:
        rows = list(csv.DictReader(stream))
    losses = [float(row["train/loss"]) for row in rows]
    assert len(losses) == 5
    assert losses == sorted(losses, reverse=True)
    assert first["test"]["accuracy"] >= 0.915
    assert first["train"]["accuracy"] >= 0.95
    assert float(rows[-1]["lr"]) == pytest.approx(1.828e-4, rel=1e-3)

    second = main(real_args)
    states = [torch.load(results["checkpoint"], weights_only=True)["state_dict"] for results in (first, second)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
