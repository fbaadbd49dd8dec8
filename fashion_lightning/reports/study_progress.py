"""A study while it works: on a terminal what each worker does and the comparison so far, elsewhere a line a cell."""

import contextlib
import math
import time
from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fashion_lightning.reports import screen
from fashion_lightning.reports.differences import compare
from fashion_lightning.reports.differences_table import table
from fashion_lightning.reports.results import progress_of
from fashion_lightning.storage.cells import Cell
from fashion_lightning.storage.study_folders import StudyFolder

SECONDS_BETWEEN_DRAWINGS = 0.5


class Progress:
    """Args:
    points: The difference that matters, in percentage points.
    """

    def __init__(self, place: StudyFolder, points: float) -> None:
        self._place, self._points = place, points
        self._cells: dict[tuple[str, int], Cell] = {}
        self._running: list[tuple[Cell, float]] = []
        self._live: Live | None = None
        self._next_drawing = 0.0

    @contextlib.contextmanager
    def shown(self, cells: Sequence[Cell]) -> Iterator[None]:
        """Of these cells, as far as they have come."""
        self._cells = {(cell.variant, cell.seed): cell for cell in cells}
        console = screen.console()
        if not console.is_terminal:
            yield
            return
        with Live(console=console, auto_refresh=False, transient=True) as self._live:
            yield
        self._live = None

    def show_running(self, running: list[tuple[Cell, float]]) -> None:
        """Cells that are trained, and since when, by time.monotonic()."""
        self._running = running
        if self._live and time.monotonic() >= self._next_drawing:
            self._next_drawing = time.monotonic() + SECONDS_BETWEEN_DRAWINGS
            self._live.update(self._drawing(), refresh=True)

    def print_ended(self, cell: Cell) -> None:
        self._cells[cell.variant, cell.seed] = cell
        if not cell.has_ended:  # another machine has taken it for that of a killed program
            return
        ended = sum(other.has_ended for other in self._cells.values())
        accuracy = f"val {cell.val_accuracy:.2%} " if math.isfinite(cell.val_accuracy) else ""
        result = f"{accuracy}in {cell.fit_seconds:.0f} s" if cell.status == "finished" else f"failed: {cell.reason}"
        line = f"{ended:>{len(str(len(self._cells)))}}/{len(self._cells)}  {cell.variant} seed {cell.seed}  {result}"
        (self._live.console if self._live else screen.console()).print(line)

    def _drawing(self) -> Group:
        workers = Table("cell", "epochs", "val", "time", box=None, padding=(0, 2, 0, 0), pad_edge=False)
        for cell, since in self._running:
            done = progress_of(self._place.run(cell))
            accuracy = done.get("val_accuracy")
            workers.add_row(
                Text(f"{cell.variant} seed {cell.seed}"),
                str(done.get("epochs", 0)),
                "" if accuracy is None else f"{accuracy:.2%}",
                f"{time.monotonic() - since:.0f} s",
            )
        parts: list[RenderableType] = ["", workers]
        if any(cell.status == "finished" for cell in self._cells.values()):
            parts += ["", table(compare(list(self._cells.values()), self._points))]
        return Group(*parts)
