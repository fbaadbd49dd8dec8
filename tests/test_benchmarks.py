"""benchmarks/fit_speed.py: the command that the README names, on the real data, with all its contestants."""

import subprocess
import sys

import pytest
from conftest import ROOT

from benchmarks import fit_speed


@pytest.mark.slow
def test_one_epoch_of_every_contestant(real_data):
    command = [sys.executable, "-m", "benchmarks.fit_speed", "--runs", "1", "--epochs", "1", "--data_dir", real_data]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=1200).stdout
    rows = {line[:35].strip(): line[35:].split() for line in printed.splitlines()}
    for name in fit_speed.MODULES:
        accuracy = float(rows[name][-1].rstrip("%"))
        assert 80 < accuracy < 95, name
