"""What to know of a comparison before it is believed: the lines below its table."""

import math
from collections.abc import Sequence

from fashion_lightning.reports.differences import BASELINE, Comparison, Verdict, pairs
from fashion_lightning.reports.statistics import LEVEL, POWER
from fashion_lightning.storage.cells import Cell

# Share of variants that are equal to the baseline and get a verdict, if one is looked for after each of 3 to 10 seeds.
LOOKING_EARLY = 0.165  # simulated, as in tests/test_statistics.py


def notes(cells: Sequence[Cell], comparisons: Sequence[Comparison], points: float, looks: int = 0) -> list[str]:
    """Those that apply, each a line.

    Args:
        points: The difference that matters to the user, in percentage points, as for `compare`.
        looks: How often seeds were added after a table was seen.
    """
    variants = [row for row in comparisons if row.verdict is not Verdict.BASELINE]
    found = [
        _intervals(variants),
        _no_interval(variants),
        *failures(cells),
        _left_out(cells),
        _without_accuracy(cells),
        _unfinished(cells),
        _best(variants),
        _looks(looks),
        _plan(variants, points),
        _unlike(cells, variants, "device", "on different devices", "which alone changes accuracies"),
        _unlike(cells, variants, "software", "by different code or torch", "which may be the whole difference"),
    ]
    return [note for note in found if note]


def failures(cells: Sequence[Cell]) -> list[str]:
    seeds: dict[tuple[str, str], list[int]] = {}
    for cell in cells:
        if cell.status == "failed":
            seeds.setdefault((cell.variant, cell.reason), []).append(cell.seed)
    return [f"failed: {variant} with {_seeds(own)}: {reason}" for (variant, reason), own in seeds.items()]


def _left_out(cells: Sequence[Cell]) -> str:
    failed = {(cell.variant, cell.seed) for cell in cells if cell.status == "failed"}
    variants = [cell for cell in cells if cell.variant != BASELINE]
    count = sum(bool(failed & {(cell.variant, cell.seed), (BASELINE, cell.seed)}) for cell in variants)
    return f"{_count(count, 'pair')} left out, since the baseline or the variant failed" if count else ""


def _without_accuracy(cells: Sequence[Cell]) -> str:
    count = sum(cell.status == "finished" and not math.isfinite(cell.val_accuracy) for cell in cells)
    return f"{_count(count, 'finished cell')} without a validation accuracy, so not in the table" if count else ""


def _unfinished(cells: Sequence[Cell]) -> str:
    count = sum(not cell.has_ended for cell in cells)
    return f"{count} of {_count(len(cells), 'cell')} not finished yet" if count else ""


def _intervals(variants: Sequence[Comparison]) -> str:
    compared = [row for row in variants if row.low == row.low]
    if not compared:
        return ""
    together = f", which holds for all {len(variants)} variants together" if len(variants) > 1 else ""
    return f"difference: to the baseline with the same seeds, mean and {LEVEL:.0%} interval{together}"


def _no_interval(variants: Sequence[Comparison]) -> str:
    few = [row.variant for row in variants if row.verdict is Verdict.NO_INTERVAL and row.pairs < 2]
    equal = [row.variant for row in variants if row.verdict is Verdict.NO_INTERVAL and row.pairs > 1]
    reasons = [f"at least 2 pairs are needed ({', '.join(few)})"] * bool(few)
    reasons += [f"the difference is the same with every seed ({', '.join(equal)})"] * bool(equal)
    return f"no interval: {'; '.join(reasons)}" if reasons else ""


def _best(variants: Sequence[Comparison]) -> str:
    better = [row for row in variants if row.verdict is Verdict.BETTER]
    if len(variants) < 2 or not better:
        return ""
    best = max(better, key=lambda row: row.difference)
    return (
        f"{best.variant} is the best of {len(variants)}, in part by luck: its mean is too high on average, its "
        "interval holds; to know how much better it is, compare it alone, with new seeds"
    )


def _looks(looks: int) -> str:
    if not looks:
        return ""
    return (
        f"seeds were added {_count(looks, 'time')} after a table was seen, but the intervals hold for a number of "
        f"seeds chosen before: with a look after each of 3 to 10 seeds, {LOOKING_EARLY:.1%} of equal variants "
        "get a verdict"
    )


def _plan(variants: Sequence[Comparison], points: float) -> str:
    """A study has the same seeds for all variants, so as many as the one needs that needs most."""
    seeds = max((row.pairs + row.more_seeds for row in variants if row.more_seeds), default=0)
    if not seeds:
        return ""
    return (
        f"more seeds: a new study with about {seeds} would see a difference of {points:g} points {POWER:.0%} of "
        "the time; adding them to this one, to look again, is no fair test"
    )


def _unlike(cells: Sequence[Cell], variants: Sequence[Comparison], name: str, how: str, effect: str) -> str:
    """Of pairs whose cells differ in the field `name`."""

    def differ(row: Comparison) -> bool:
        return any(getattr(a, name) != getattr(b, name) for a, b in pairs(cells, row.variant))

    found = [row.variant for row in variants if differ(row)]
    values = "; ".join(dict.fromkeys(getattr(cell, name) for cell in cells if getattr(cell, name)))
    return f"pairs trained {how} ({values}), {effect}: {', '.join(found)}" if found else ""


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
