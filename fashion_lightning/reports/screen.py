"""Where tables are shown. Imports no torch, so that they are there at once."""

import sys
from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

WIDTH_IN_PIPE = 10_000  # nothing is folded or cut where a program reads


def console() -> Console:
    """As wide as the terminal; where there is none, as wide as any table."""
    return Console(width=None if sys.stdout.isatty() else WIDTH_IN_PIPE, markup=False, highlight=False)


def full_width(console: Console, table: Table) -> int:
    """With nothing folded or cut."""
    return console.measure(table, options=console.options.update_width(WIDTH_IN_PIPE)).maximum


class FirstThatFits:
    """Of some tables the first that is not too wide for where it is shown, or else the last."""

    def __init__(self, tables: Sequence[Table]) -> None:
        self._tables = tables

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        fitting = (table for table in self._tables if full_width(console, table) <= options.max_width)
        yield next(fitting, self._tables[-1])
