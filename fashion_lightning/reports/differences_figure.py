"""The figure of a comparison: every pair, and the mean differences with their intervals. Drawn without a display."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fashion_lightning.reports.differences import Comparison, Verdict, differences, pairs
from fashion_lightning.reports.figures import BLUE, GREEN, ORANGE, RED, empty_figure
from fashion_lightning.reports.statistics import LEVEL
from fashion_lightning.storage.cells import Cell
from fashion_lightning.storage.whole_files import replacing

COLORS = {Verdict.BETTER: GREEN, Verdict.WORSE: RED}  # of others BLUE
ABOVE, BELOW = -0.2, 0.2  # where baseline and variant are in a row, whose height is 1
NAME_WIDTH = 28  # characters in a line
FAR = 5  # times the usual distance from the baseline: what is farther away does not squeeze the rest


def write_figure(path: Path, cells: Sequence[Cell], comparisons: Sequence[Comparison]) -> None:
    with replacing(path) as stream:
        paired_differences(cells, comparisons).savefig(stream, format="png")


def paired_differences(cells: Sequence[Cell], comparisons: Sequence[Comparison]) -> Figure:
    """A row a variant: the accuracies of its pairs, joined by a line, and beside them their differences."""
    variants = [row for row in comparisons if row.verdict is not Verdict.BASELINE]
    found = [pairs(cells, row.variant) for row in variants]
    figure = empty_figure(10, 1.7 + 0.6 * len(variants))
    left, right = figure.subplots(1, 2, sharey=True)
    limits = _limits(variants, [differences(own) for own in found])
    for place, (row, own) in enumerate(zip(variants, found, strict=True)):
        _draw_pairs(left, place, own)
        _draw_differences(right, place, [100 * value for value in differences(own)], row, limits)
        for ax in (left, right):
            ax.axhspan(place - 0.5, place + 0.5, color="black", alpha=0.04 * (place % 2), linewidth=0)
    left.set_yticks(range(len(variants)), [textwrap.fill(row.variant, NAME_WIDTH) for row in variants])
    left.set_ylim(len(variants) - 0.5, -0.5)
    left.set(xlabel="validation accuracy, %", title="pairs with the same seed")
    right.set(xlim=limits, xlabel="percentage points", title="difference to the baseline")
    right.axvline(0, color=ORANGE, linewidth=1, zorder=0)
    _limit_accuracies(left, found, limits)
    for ax in (left, right):
        ax.grid(axis="x", alpha=0.3)
        ax.xaxis.set_major_locator(MaxNLocator(7))
        ax.tick_params(axis="y", length=0)
    _add_legend(figure, left, right)
    return figure


def _limits(variants: Sequence[Comparison], values: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Of the differences shown, in percentage points."""
    reach = [max(map(abs, own)) for own in values if any(own)]
    far = FAR * median(reach) if reach else 0.0
    ends = [end for row in variants for end in (row.low, row.high) if not math.isnan(end)]
    every = [0.0, *ends, *(value for own in values for value in own)]
    low, high = max(-far, min(every)), min(far, max(every))
    margin = 0.08 * (high - low) or 1e-3
    return 100 * (low - margin), 100 * (high + margin)


def _limit_accuracies(ax: Axes, found: Sequence[Sequence[tuple[Cell, Cell]]], limits: tuple[float, float]) -> None:
    """As far from the baseline as the differences shown."""
    baseline = [100 * pair[0].val_accuracy for own in found for pair in own]
    if baseline:
        low, high = ax.get_xlim()
        ax.set_xlim(max(low, min(baseline) + limits[0]), min(high, max(baseline) + limits[1]))


def _draw_pairs(ax: Axes, place: int, found: Sequence[tuple[Cell, Cell]]) -> None:
    for pair in found:
        baseline, variant = (100 * cell.val_accuracy for cell in pair)
        ax.plot([baseline, variant], [place + ABOVE, place + BELOW], color="gray", linewidth=0.8, zorder=1)
        ax.scatter(baseline, place + ABOVE, s=18, color=ORANGE, marker="s", zorder=2)
        ax.scatter(variant, place + BELOW, s=18, color=BLUE, marker="o", zorder=2)


def _draw_differences(
    ax: Axes, place: int, values: Sequence[float], row: Comparison, limits: tuple[float, float]
) -> None:
    """Values in percentage points. An interval that goes on beyond the limits has no end mark."""
    color = COLORS.get(row.verdict, BLUE)
    ax.scatter(values, [place + ABOVE] * len(values), s=14, color="gray")
    if not math.isnan(row.low):
        ax.plot([100 * row.low, 100 * row.high], [place + BELOW] * 2, color=color, marker="|", linewidth=2)
    ax.plot(100 * row.difference, place + BELOW, color=color, marker="D", linestyle="none")
    if row.difference < limits[0] / 100 or row.difference > limits[1] / 100:
        arrow, end, side = "\N{LEFTWARDS ARROW}", limits[0], "left"
        if row.difference > 0:
            arrow, end, side = "\N{RIGHTWARDS ARROW}", limits[1], "right"
        text = f" {arrow} {100 * row.difference:+.2f} "
        ax.text(end, place + BELOW, text, color=color, ha=side, va="center", fontsize=9)
    text = f"{row.verdict}\n{row.pairs} pair{'s' * (row.pairs != 1)}"
    ax.text(1.03, place, text, color=color, va="center", fontsize=9, transform=ax.get_yaxis_transform())


def _add_legend(figure: Figure, left: Axes, right: Axes) -> None:
    """Of empty points, since a row may have none."""
    marks = {
        "baseline": left.plot([], [], color=ORANGE, marker="s", linestyle="none"),
        "variant": left.plot([], [], color=BLUE, marker="o", linestyle="none"),
        "difference of a pair": right.plot([], [], color="gray", marker="o", markersize=4, linestyle="none"),
        f"mean and simultaneous {LEVEL:.0%} interval": right.plot([], [], color=BLUE, marker="D", linewidth=2),
    }
    handles = [handle for [handle] in marks.values()]
    figure.legend(handles, list(marks), loc="outside lower center", ncols=len(marks), frameon=False, fontsize=9)
