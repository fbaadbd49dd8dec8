"""What each variant of a study came to, and whether it differs from the baseline by more than chance."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import fmean, median, stdev

from fashion_lightning.reports.statistics import holm, paired_interval, paired_p, pairs_needed
from fashion_lightning.storage.cells import Cell

BASELINE = "baseline"
NO_SPREAD = 1e-6  # more than the rounding of float32, less than one image of all


class Verdict(StrEnum):
    BASELINE = "baseline"
    BETTER = "better"
    WORSE = "worse"
    NOT_SEEN = "no difference seen"
    SAME = "the same to the bit"
    NO_INTERVAL = "no interval"


@dataclass(frozen=True)
class Comparison:
    """A variant and its difference to the baseline; accuracies are fractions, and what is not known is nan or None."""

    variant: str
    finished: int  # cells
    failed: int
    mean: float  # of the validation accuracy, over the finished cells
    std: float
    pairs: int  # seeds with which both this variant and the baseline are finished
    difference: float  # mean over the pairs
    low: float  # the intervals of all variants hold together, see `paired_interval`
    high: float
    p: float
    p_holm: float
    verdict: Verdict
    more_seeds: int | None  # than these pairs, about, to see the difference that matters; None if there is a verdict
    fit_seconds: float  # median
    parameters: int | None


def pairs(cells: Sequence[Cell], variant: str) -> list[tuple[Cell, Cell]]:
    """Baseline and variant, for every seed with which both are finished."""
    first, second = ({cell.seed: cell for cell in _finished(cells, name)} for name in (BASELINE, variant))
    return [(first[seed], second[seed]) for seed in first if seed in second]


def differences(found: Sequence[tuple[Cell, Cell]]) -> list[float]:
    """Of validation accuracies, variant minus baseline."""
    return [variant.val_accuracy - baseline.val_accuracy for baseline, variant in found]


def have_no_spread(values: Sequence[float]) -> bool:
    return max(values) - min(values) < NO_SPREAD


def compare(cells: Sequence[Cell], points: float) -> list[Comparison]:
    """Of each variant, in their order. `points` is the difference that matters to the user, in percentage points."""
    variants = list(dict.fromkeys(cell.variant for cell in cells))
    comparisons = len(set(variants) - {BASELINE})
    found = [_comparison(cells, variant, comparisons, points) for variant in variants]
    adjusted = iter(holm([row.p for row in found if not math.isnan(row.p)], comparisons))
    return [row if math.isnan(row.p) else replace(row, p_holm=next(adjusted)) for row in found]


def _comparison(cells: Sequence[Cell], variant: str, comparisons: int, points: float) -> Comparison:
    finished = _finished(cells, variant)
    accuracies = [cell.val_accuracy for cell in finished]
    found = [] if variant == BASELINE else pairs(cells, variant)
    values = differences(found)
    low = high = p = math.nan
    if len(values) > 1 and not have_no_spread(values):
        (low, high), p = paired_interval(values, comparisons), paired_p(values)
    verdict = Verdict.BASELINE if variant == BASELINE else _verdict(found, low, high)
    return Comparison(
        variant=variant,
        finished=len(finished),
        failed=sum(cell.variant == variant and cell.status == "failed" for cell in cells),
        mean=fmean(accuracies) if accuracies else math.nan,
        std=stdev(accuracies) if len(accuracies) > 1 else math.nan,
        pairs=len(found),
        difference=fmean(values) if values else math.nan,
        low=low,
        high=high,
        p=p,
        p_holm=math.nan,
        verdict=verdict,
        more_seeds=_more_seeds(values, points, comparisons) if verdict is Verdict.NOT_SEEN else None,
        fit_seconds=median(cell.fit_seconds for cell in finished) if finished else math.nan,
        parameters=finished[0].parameters if finished else None,
    )


def _finished(cells: Sequence[Cell], variant: str) -> list[Cell]:
    """A cell without a number is not one of them, whatever its status says."""
    own = [cell for cell in cells if cell.variant == variant and cell.status == "finished"]
    return [cell for cell in own if math.isfinite(cell.val_accuracy)]


def _verdict(found: Sequence[tuple[Cell, Cell]], low: float, high: float) -> Verdict:
    if found and all(a.val_accuracy == b.val_accuracy and a.val_loss == b.val_loss for a, b in found):
        return Verdict.SAME
    if math.isnan(low):
        return Verdict.NO_INTERVAL
    return Verdict.BETTER if low > 0 else Verdict.WORSE if high < 0 else Verdict.NOT_SEEN


def _more_seeds(values: Sequence[float], points: float, comparisons: int) -> int:
    return max(0, pairs_needed(stdev(values), points / 100, comparisons) - len(values))
