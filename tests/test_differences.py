"""The promise of a study: whole pairs alone are compared, noise gets no verdict, and what is not known is said."""

import csv
import math
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from fashion_lightning.reports import screen
from fashion_lightning.reports.differences import Comparison, Verdict, compare, pairs
from fashion_lightning.reports.differences_notes import notes
from fashion_lightning.reports.differences_table import print_comparisons, write_cells, write_comparisons
from fashion_lightning.reports.statistics import paired_interval, paired_p
from fashion_lightning.storage.cells import Cell

BASELINE = (0.921, 0.922, 0.924, 0.925)
FIELDS = [field.name for field in fields(Comparison)]


def cells_of(variant: str, accuracies: tuple[float | None, ...], first_seed: int = 0, **values) -> list[Cell]:
    """Finished ones; where there is no accuracy, a failed one."""
    facts = {
        "status": "finished",
        "val_loss": 0.25,
        "fit_seconds": 60.0,
        "parameters": 1000,
        "device": "cpu (1 thread)",
    }
    found = []
    for seed, accuracy in enumerate(accuracies, first_seed):
        cell = Cell(variant, seed, Path("cells", variant, f"seed_{seed}"))
        failed = {"status": "failed", "reason": "the loss is not a number"}
        found.append(replace(cell, **(failed if accuracy is None else facts | {"val_accuracy": accuracy} | values)))
    return found


def study(**variants: tuple[float | None, ...]) -> list[Cell]:
    """With a baseline."""
    every = {"baseline": BASELINE, **variants}
    return [cell for variant, accuracies in every.items() for cell in cells_of(variant, accuracies)]


def shifted(*points: float) -> tuple[float, ...]:
    """The accuracies of the baseline, and these percentage points more."""
    return tuple(accuracy + value / 100 for accuracy, value in zip(BASELINE, points, strict=True))


def test_a_row_is_what_is_counted_by_hand():
    baseline, row = compare(study(wide=shifted(0.5, 0.7, 0.6, 0.6)), points=0.1)
    assert (baseline.variant, baseline.verdict, baseline.pairs, baseline.finished) == ("baseline", "baseline", 0, 4)
    assert baseline.mean == pytest.approx(0.923)
    assert baseline.std == pytest.approx(math.sqrt((4 + 1 + 1 + 4) / 3) / 1000)
    assert (row.variant, row.verdict, row.pairs, row.finished, row.failed) == ("wide", "better", 4, 4, 0)
    assert (row.mean, row.difference) == (pytest.approx(0.929), pytest.approx(0.006))
    # The standard deviation is 0.0816 points, its standard error half of it; times 3.182 of t's table.
    assert (row.low, row.high) == (pytest.approx(0.0047, abs=1e-6), pytest.approx(0.0073, abs=1e-6))
    assert row.p == row.p_holm == pytest.approx(paired_p([0.5, 0.7, 0.6, 0.6]))
    assert (row.fit_seconds, row.parameters, row.more_seeds) == (60, 1000, None)


@pytest.mark.parametrize(
    ("points", "verdict"),
    [
        ((0.5, 0.7, 0.6, 0.6), "better"),
        ((-0.5, -0.7, -0.6, -0.6), "worse"),
        ((0.5, -0.7, 0.6, -0.6), "no difference seen"),
        ((0.5, 0.5, 0.5, 0.5), "no interval"),
        ((math.nan, math.nan, math.nan, 0.5), "no interval"),
        ((math.inf, math.nan, math.nan, math.nan), "no interval"),
    ],
)
def test_verdicts(points, verdict):
    _, row = compare(study(wide=shifted(*points)), points=0.1)
    assert row.verdict == verdict
    assert math.isnan(row.low) == math.isnan(row.p) == (verdict == "no interval")


def test_a_flag_without_effect_is_the_same_to_the_bit():
    cells = study(same=BASELINE)
    assert compare(cells, 0.1)[1].verdict is Verdict.SAME
    assert compare(cells[::4], 0.1)[1].verdict is Verdict.SAME  # also with one pair
    other_loss = [*cells[:-1], replace(cells[-1], val_loss=0.26)]
    assert compare(other_loss, 0.1)[1].verdict is Verdict.NO_INTERVAL
    no_loss = [replace(cell, val_loss=math.nan) for cell in cells]
    assert compare(no_loss, 0.1)[1].verdict is Verdict.NO_INTERVAL


def test_accuracies_in_float32_have_no_spread_by_rounding():
    cells = study(a=shifted(*[0.2] * 4))
    rounded = [replace(cell, val_accuracy=torch.tensor(cell.val_accuracy).item()) for cell in cells]
    assert len({b.val_accuracy - a.val_accuracy for a, b in pairs(rounded, "a")}) > 1
    assert compare(rounded, 0.1)[1].verdict is Verdict.NO_INTERVAL


def test_only_whole_pairs_count():
    cells = study(wide=(0.93, None, 0.93, 0.94, 0.95))  # the baseline has no seed 4
    cells[0] = replace(cells[0], status="failed", val_accuracy=math.nan, reason="killed")
    cells[2] = replace(cells[2], status="running", val_accuracy=math.nan)
    assert [(a.seed, b.seed) for a, b in pairs(cells, "wide")] == [(3, 3)]
    baseline, row = compare(cells, 0.1)
    assert (baseline.finished, baseline.failed) == (2, 1)
    assert (row.finished, row.failed, row.pairs) == (4, 1, 1)
    assert row.difference == pytest.approx(0.015)
    assert row.verdict is Verdict.NO_INTERVAL


def test_pairs_are_found_by_seed_and_not_by_order():
    cells = study(wide=shifted(0.5, 0.7, 0.6, 0.6))
    assert compare([*cells[:4], *reversed(cells[4:])], 0.1) == compare(cells, 0.1)


def test_more_variants_make_wider_intervals_even_if_they_failed():
    points = (0.1, 0.4, 0.3, 0.2)
    values = [a - b for a, b in zip(shifted(*points), BASELINE, strict=True)]
    alone = compare(study(wide=shifted(*points)), 0.1)[1]
    _, one, two, _ = compare(study(wide=shifted(*points), deep=shifted(0.5, 0.4, 0.6, 0.5), bad=(None,) * 4), 0.1)
    assert (alone.low, alone.high) == pytest.approx(paired_interval(values, 1))
    assert (one.low, one.high) == pytest.approx(paired_interval(values, 3))
    assert (alone.verdict, one.verdict) == (Verdict.BETTER, Verdict.NOT_SEEN)
    assert (one.p_holm, two.p_holm) == pytest.approx((2 * one.p, 3 * two.p))


def test_more_seeds_are_what_the_difference_that_matters_needs_beyond_the_pairs():
    """The differences have a standard deviation of 0.1 points: 10 pairs show a difference of 0.1, by study's table."""
    points = [0.1 * math.sqrt(3 / 4) * sign for sign in (1, -1, 1, -1)]
    cells = study(wide=shifted(*points))
    assert compare(cells, 0.1)[1].more_seeds == 10 - 4
    assert compare(cells, 0.5)[1].more_seeds == 0


def told(cells: list[Cell], looks: int = 0) -> str:
    return "\n".join(notes(cells, compare(cells, 0.1), 0.1, looks))


def test_a_plain_study_has_one_note():
    cells = study(wide=shifted(0.5, 0.7, 0.6, 0.6))
    assert told(cells) == "difference: to the baseline with the same seeds, mean and 95% interval"


def test_failures_are_told_with_their_reason_and_what_they_cost():
    cells = study(wide=(None, 0.93, None, 0.94), deep=shifted(0.5, 0.7, 0.6, 0.6))
    cells[1] = replace(cells[1], status="failed", reason="out of memory")
    assert told(cells).splitlines()[1:4] == [
        "no interval: at least 2 pairs are needed (wide)",
        "failed: baseline with seed 1: out of memory",
        "failed: wide with seeds 0, 2: the loss is not a number",
    ]
    assert "4 pairs left out, since the baseline or the variant failed" in told(cells)


def test_what_is_not_finished_is_counted():
    cells = study(wide=shifted(0.5, 0.7, 0.6, 0.6))
    cells[0], cells[5] = replace(cells[0], status="waiting"), replace(cells[5], status="running")
    assert "2 of 8 cells not finished yet" in told(cells)


def test_finished_cells_without_validation_are_counted():
    cells = cells_of("baseline", (math.nan, math.nan, math.nan))
    assert told(cells) == "3 finished cells without a validation accuracy, so not in the table"


def test_the_best_of_several_was_lucky_too():
    better = {"wide": shifted(0.5, 0.7, 0.6, 0.6), "deep": shifted(0.8, 0.9, 0.8, 0.9)}
    worse = shifted(-0.5, -0.7, -0.6, -0.6)
    assert "deep is the best of 2, in part by luck" in told(study(**better))
    assert "luck" not in told(study(wide=better["wide"]))
    assert "luck" not in told(study(wide=worse, deep=worse))


def test_looking_early_and_adding_seeds_are_warned_of():
    points = [0.1 * math.sqrt(3 / 4) * sign for sign in (1, -1, 1, -1)]  # as above: 10 pairs
    cells = study(wide=shifted(*points))
    assert "seeds were added 2 times after a table was seen" in told(cells, looks=2)
    assert "16.5% of equal variants" in told(cells, looks=1)
    assert "seeds were added" not in told(cells)
    assert "a new study with about 10 would see a difference of 0.1 points 80% of the time" in told(cells)


def test_other_devices_within_a_pair_are_told():
    cells = study(wide=shifted(0.5, 0.7, 0.6, 0.6))
    assert "devices" not in told(cells)
    cells[5] = replace(cells[5], device="cuda (NVIDIA H100)")
    assert "pairs trained on different devices (cpu (1 thread); cuda (NVIDIA H100))" in told(cells)
    assert "devices" not in told([replace(cell, device="cuda") if cell.seed == 1 else cell for cell in cells])


def test_code_that_changed_within_a_pair_is_told():
    cells = [replace(cell, software="1234567, torch 2.14.1") for cell in study(wide=shifted(0.5, 0.7, 0.6, 0.6))]
    assert "code" not in told(cells)
    cells[5] = replace(cells[5], software="1234567-dirty, torch 2.14.1")
    assert "pairs trained by different code or torch (1234567, torch 2.14.1; 1234567-dirty, torch 2.14.1)" in told(
        cells
    )


def test_equal_differences_are_told():
    assert "no interval: the difference is the same with every seed (wide)" in told(study(wide=shifted(*[0.5] * 4)))


LONG = "data.batch_size=128,trainer.max_epochs=10"


def printed(width: int, cells: list[Cell], capsys, monkeypatch) -> list[str]:
    monkeypatch.setattr(screen, "console", lambda: Console(width=width, markup=False, highlight=False))
    comparisons = compare(cells, 0.1)
    print_comparisons(comparisons, notes(cells, comparisons, 0.1))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    return lines


@pytest.mark.parametrize("width", [40, 60, 80, 100, 10_000])
def test_the_table_fits_and_says_what_a_verdict_rests_on(width, capsys, monkeypatch):
    names = [f"model.optimizer.lr=0.00{digit}" for digit in range(1, 9)]
    cells = study(**{name: shifted(0.4, -0.2, 0.7, -0.5) for name in [*names, LONG]})
    lines = printed(width, cells, capsys, monkeypatch)
    assert sum("+0.10 [-1.87, +2.07]" in line for line in lines) == 9
    assert sum("no difference seen" in line for line in lines) == 9
    assert sum("92.30 (4)" in line or "92.30 ± 0.18 (4)" in line for line in lines) == 1
    for name in names:
        assert sum(name in line for line in lines) == 1 or width < 80
    assert any("at most +2.07 or -1.87" in line for line in lines) == any("parameters" in line for line in lines)
    assert ("".join(lines).count("1,000") == 10) == (width == 10_000)


def test_in_eighty_columns_a_row_is_a_line(capsys, monkeypatch):
    cells = study(**{"model.optimizer.lr=0.003": shifted(0.5, 0.7, 0.6, 0.6), "[bold]": (None,) * 4})
    _, heading, *rows = printed(80, cells, capsys, monkeypatch)[:5]
    assert heading.split("  ")[0] == "variant"
    assert [re.split(r"\s{2,}", row.strip()) for row in rows] == [
        ["baseline", "92.30 ± 0.18 (4)"],
        ["model.optimizer.lr=0.003", "92.90 ± 0.22 (4)", "+0.60 [+0.43, +0.77]", "better"],
        ["[bold]", "no interval"],
    ]


def test_csv_files_hold_everything_and_are_the_same_bytes_again(tmp_path):
    cells = study(wide=(0.93, None, 0.95, 0.94))
    cells[-1] = replace(cells[-1], status="waiting", val_accuracy=math.nan, val_loss=math.nan, parameters=0)
    comparisons = compare(cells, 0.1)
    for folder in ("one", "two"):
        write_cells(tmp_path / folder / "cells.csv", cells)
        write_comparisons(tmp_path / folder / "comparison.csv", comparisons)
    for name in ("cells.csv", "comparison.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    with open(tmp_path / "one" / "cells.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["variant"], int(row["seed"]), row["status"], row["folder"]) for row in rows] == [
        (cell.variant, cell.seed, cell.status, str(cell.folder)) for cell in cells
    ]
    assert [row["val_accuracy"] for row in rows[4:]] == ["0.93", "", "0.95", ""]
    assert (rows[5]["reason"], rows[5]["parameters"], rows[4]["parameters"]) == ("the loss is not a number", "", "1000")
    with open(tmp_path / "one" / "comparison.csv", newline="") as stream:
        baseline, wide = csv.DictReader(stream)
    assert list(wide) == FIELDS
    assert (float(wide["difference"]), float(wide["p"])) == (comparisons[1].difference, comparisons[1].p)
    assert (wide["verdict"], wide["pairs"], wide["failed"]) == ("no difference seen", "2", "1")
    assert (baseline["verdict"], baseline["difference"], baseline["more_seeds"]) == ("baseline", "", "")
