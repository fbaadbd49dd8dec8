"""The promise of `make`: one command sets up, does nothing twice, and says in one line what is missing."""

import os
import re
import shutil
import subprocess

import pytest
from conftest import ROOT

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="needs make")


@pytest.fixture
def make(tmp_path):
    """Runs make in a copy of what it reads, with a stand-in for Python."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)

    def run(*args: str, python: str) -> subprocess.CompletedProcess:
        (tmp_path / "python").write_text(f"#!/bin/sh\n{python}\n")
        (tmp_path / "python").chmod(0o755)
        command = ["make", *args, f"PYTHON={tmp_path / 'python'}"]
        # Not what the make that runs these tests was told.
        env = {name: value for name, value in os.environ.items() if name != "INSTALL" and not name.startswith("MAKE")}
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=env)

    return run


# Stands for Python, and makes a .venv whose programs write down how they were called.
WORKING = """
if [ "$2" = venv ]; then
    mkdir -p .venv/bin
    for program in python pip; do
        printf '#!/bin/sh\\necho "%s $*" >>calls\\nexit $PIP_FAILS\\n' $program >.venv/bin/$program
        chmod +x .venv/bin/$program
    done
fi
"""


def test_sets_up_once_and_passes_flags_on(make, tmp_path):
    for target in ("fit", "fit", "test"):
        done = make(target, "ARGS=--trainer.max_epochs 1", python=WORKING)
        assert done.returncode == 0, done.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[0].startswith("pip install")
    assert calls[0].endswith("--editable .[dev]")
    assert calls[1:] == [
        "python -m fashion_lightning.fit --trainer.max_epochs 1",
        "python -m fashion_lightning.fit --trainer.max_epochs 1",
        "python -m pytest --trainer.max_epochs 1",
    ]


@pytest.mark.parametrize(
    ("python", "message"),
    [
        ("exit 1", r"error: expected Python 3\.11 or newer .* make PYTHON=python3\.12"),
        ('if [ "$2" = venv ]; then echo "no ensurepip"; exit 1; fi', r"error: .*apt-get install python3-venv"),
        (WORKING, r"error: pip could not install, is there a network\?"),
    ],
)
def test_says_in_one_line_what_is_missing(make, monkeypatch, tmp_path, python, message):
    monkeypatch.setenv("PIP_FAILS", "1")
    done = make("fit", python=python)
    assert done.returncode != 0
    assert not (tmp_path / "calls").exists() or "fit" not in (tmp_path / "calls").read_text()
    said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(said) == 1
    assert re.search(message, said[0])
