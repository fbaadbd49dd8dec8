"""benchmarks/fit_speed.py: the command that the README names, on the real data, with all its contestants."""

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
