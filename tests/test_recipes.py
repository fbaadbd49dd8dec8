"""benchmarks/recipes.py: a row is what its runs say, and the README says no more than the rows."""

import csv

import pytest
from conftest import ROOT

from benchmarks import recipes

ROWS = list(csv.DictReader(recipes.TABLE.read_text().splitlines()))


def result(test, seconds, **others):
    splits = {"test": {"accuracy": test}, "test_one_view": {"accuracy": test - 0.001}, "train": {"images": 48000}}
    return {**splits, "fit_seconds": seconds, "parameters": 1234, "git_commit": "abc", **others}


def test_a_row_by_hand():
    runs = [result(0.92, 8.0), result(0.93, 12.0), result(0.94, 9.0)]
    row = recipes.summarize("fast", runs, notebook_seconds=90.0)
    expected = {"test_mean": "93.00", "test_std": "1.00", "test_one_view_mean": "92.90", "val_mean": "", "n": "3"}
    assert {key: row[key] for key in expected} == expected
    assert (row["fit_seconds"], row["ratio"]) == ("9.0", "0.100")
    assert recipes.render(row) == "| `configs/fast.yaml` | 93.00 ± 1.00 (3) | 92.90 | 1,234 | 48,000 | 9.0 s | 1/10.0 |"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["recipe"])
def test_the_readme_and_the_recipe_say_what_was_measured(row):
    assert recipes.render(row) in (ROOT / "README.md").read_text().splitlines()
    head = (ROOT / "configs" / f"{row['recipe']}.yaml").read_text().splitlines()[2]
    assert f"{row['test_mean']} ± {row['test_std']} %" in head
    assert len(row["git_commit"].split()) == 1
