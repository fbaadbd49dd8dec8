"""The promise of several processes: trained together, evaluated exactly."""

import json

import pytest

from fashion_lightning import test

TWO = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]


def test_two_processes_train_and_every_number_of_them_evaluates_alike(tiny_args, run_module, tmp_path):
    done = run_module("fit", *tiny_args, *TWO)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "2 processes" in done.stdout
    assert done.stdout.count("epoch 2/2") == 1
    results = json.loads((tmp_path / "lightning_logs" / "version_0" / "results.json").read_text())
    assert [results[split]["images"] for split in ("train", "val", "test")] == [200, 50, 203]
    assert results["images_per_second"] == pytest.approx(400 / results["fit_seconds"], rel=0.01)

    alone = test.main(["--trainer.devices", "1", "--trainer.strategy", "auto"])
    for split, values in alone.items():
        assert results[split]["accuracy"] == values["accuracy"]
        assert results[split]["loss"] == pytest.approx(values["loss"], rel=1e-12)


def test_a_batch_that_cannot_be_shared_is_refused_before_any_process_starts(tiny_args, run_module):
    done = run_module("fit", *tiny_args, *TWO, "--data.batch_size", "25")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --data.batch_size: expected a multiple of the 2 processes, got 25\n"
