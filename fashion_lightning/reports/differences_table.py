"""The comparison of variants on the screen, and it and its cells as CSV files."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from fashion_lightning.reports import screen
from fashion_lightning.reports.differences import Comparison, Verdict
from fashion_lightning.storage.cells import Cell
from fashion_lightning.storage.whole_files import replacing

HEADINGS = {
    "accuracy": "val % (seeds)",
    "mean": "val % (n)",  # as the numbers below it
    "difference": "difference, points",
    "long verdict": "verdict",
    "verdict": "verdict",
    "more seeds": "more seeds",
    "time": "time",
    "parameters": "parameters",
}
NUMBERS = ("more seeds", "time", "parameters")
# The narrower the terminal, the less is shown; what is left out last is what a verdict rests on.
LAYOUTS = (
    ("accuracy", "difference", "long verdict", *NUMBERS),
    ("accuracy", "difference", "verdict", *NUMBERS),
    ("accuracy", "difference", "verdict", "more seeds"),
    ("accuracy", "difference", "verdict"),
    ("mean", "difference", "verdict"),
)
NAME_WIDTHS = (26, 16)  # characters in a line, of longer names of variants, where they have to be folded


def print_comparisons(comparisons: Sequence[Comparison], notes: Sequence[str]) -> None:
    """`notes` as `differences_notes.notes` gives them."""
    screen.console().print("", table(comparisons), *(["", *notes] if notes else ()), sep="\n")


def table(comparisons: Sequence[Comparison]) -> screen.FirstThatFits:
    """Of a row a variant, to print or to show in a live display."""
    whole = [_table(comparisons, columns) for columns in LAYOUTS]
    folded = [_table(comparisons, LAYOUTS[-1], width) for width in NAME_WIDTHS]
    return screen.FirstThatFits([*whole, *folded, _list(comparisons)])


def _table(comparisons: Sequence[Comparison], columns: Sequence[str], name_width: int | None = None) -> Table:
    rows = [_texts(row) for row in comparisons]
    shown = [column for column in columns if any(texts[column] for texts in rows)]
    result = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    result.add_column("variant", max_width=name_width, overflow="fold")
    for column in shown:
        result.add_column(HEADINGS[column], no_wrap=True, justify="right" if column in NUMBERS else "left")
    for row, texts in zip(comparisons, rows, strict=True):
        result.add_row(Text(row.variant), *(Text(texts[column]) for column in shown))
    return result


def _list(comparisons: Sequence[Comparison]) -> Table:
    """For the narrowest terminals: what is beside a name elsewhere is below it."""
    result = Table("variant", box=None, pad_edge=False)
    for row in comparisons:
        texts = _texts(row)
        below = filter(None, [f"{texts['mean']}  {texts['difference']}".strip(), texts["verdict"]])
        result.add_row(Text("\n  ".join([row.variant, *below]), overflow="fold"))
    return result


def _texts(row: Comparison) -> dict[str, str]:
    """By column. Accuracies are in percent, differences in percentage points."""
    deviation = "" if math.isnan(row.std) else f" ± {100 * row.std:.2f}"
    interval = "" if math.isnan(row.low) else f" [{_points(row.low)}, {_points(row.high)}]"
    verdict = "" if row.verdict is Verdict.BASELINE else str(row.verdict)
    at_most = f", at most {_points(row.high)} or {_points(row.low)}" if row.verdict is Verdict.NOT_SEEN else ""
    return {
        "accuracy": f"{100 * row.mean:.2f}{deviation} ({row.finished})" if row.finished else "",
        "mean": f"{100 * row.mean:.2f} ({row.finished})" if row.finished else "",
        "difference": f"{_points(row.difference)}{interval}" if row.pairs else "",
        "long verdict": f"{verdict}{at_most}",
        "verdict": verdict,
        "more seeds": "" if row.more_seeds is None else str(row.more_seeds),
        "time": f"{row.fit_seconds:.0f} s" if row.finished else "",
        "parameters": f"{row.parameters:,}" if row.parameters else "",
    }


def _points(fraction: float) -> str:
    return f"{100 * fraction:+.2f}"


def write_cells(path: Path, cells: Sequence[Cell]) -> None:
    """A row a cell; what is not known is empty."""
    _write(path, Cell, [{**asdict(cell), "parameters": cell.parameters or None} for cell in cells])


def write_comparisons(path: Path, comparisons: Sequence[Comparison]) -> None:
    """A row a variant, with fractions; what is not known is empty."""
    _write(path, Comparison, [asdict(row) for row in comparisons])


def _write(path: Path, kind: type[Cell] | type[Comparison], rows: Sequence[dict[str, Any]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [field.name for field in fields(kind)])
    writer.writeheader()
    for row in rows:
        writer.writerow({name: None if value != value else value for name, value in row.items()})
    with replacing(path) as stream:
        stream.write(text.getvalue().encode())
