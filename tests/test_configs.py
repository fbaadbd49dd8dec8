"""The promise of configs/: each recipe is a file that says what it is, and trains."""

import re

import pytest
import yaml
from conftest import ROOT

from fashion_lightning import fit

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def test_there_are_some():
    assert CONFIGS


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_begins_with_what_it_shows_how_and_what_to_expect(config):
    shows, command, expect, after = config.read_text().splitlines()[:4]
    assert shows.startswith("# Shows: ")
    assert command == f"# Command: python -m fashion_lightning.fit --config configs/{config.name}"
    assert re.match(r"# Expect: .*\d\d\.\d+ ± 0\.\d+ %.* \d+(\.\d)? s ", expect)
    assert not after.startswith("#")


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_trains_and_its_schedule_ends_with_it(config, tiny_args):
    settings = yaml.safe_load(config.read_text())
    results = fit.main([*tiny_args, "--config", str(config), "--trainer.max_steps", "2", "--trainer.max_epochs", "2"])
    assert results["steps"] == 2
    assert results["config"] == config.stem
    assert results["test"]["images"] == 203
    assert settings["model"]["lr_scheduler"]["init_args"]["total_steps"] == settings["trainer"]["max_steps"]
