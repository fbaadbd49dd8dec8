"""benchmarks/fit_speed.py, exported.py: the commands that the README names."""

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT

from benchmarks import fit_speed


@pytest.mark.slow
def test_one_epoch_of_every_contestant(real_data):
    command = [sys.executable, "-m", "benchmarks.fit_speed", "--runs", "1", "--epochs", "1", "--data_dir", real_data]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=1200).stdout
    rows = [re.split(r"\s{2,}", line.strip()) for line in printed.splitlines()]
    accuracies = {row[0]: float(row[-1].rstrip("%")) for row in rows if row[-1].endswith("%")}
    assert set(fit_speed.MODULES) <= set(accuracies)
    assert all(80 < accuracy < 95 for accuracy in accuracies.values())


@pytest.mark.slow
def test_the_exported_network_is_timed(wardrobe):
    command = [sys.executable, "-m", "benchmarks.exported", "--runs", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    assert re.search(r"^ +1 +1 +[\d.]+ ms +[\d.]+ ms +[\d.]+ +[\d,]+$", printed, re.M)
    assert re.search(r"^demo, to its page: median [\d.]+ s of [\d.]+$", printed, re.M)
