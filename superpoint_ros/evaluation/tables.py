"""Text tables with the best figures highlighted, shared by all reports."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table as RichTable


@dataclass(frozen=True)
class Table:
    """Text in rows and columns; the first column labels the rows.

    Attributes:
        note: parameters of the protocol.
        best: (row, column) of the best figure of each column.
        benchmark: name of the benchmark, if there are several.
    """

    heading: str
    note: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: frozenset[tuple[int, int]] = frozenset()
    benchmark: str = ""


@dataclass(frozen=True)
class Column:
    """A metric as a column: its title, its name in a summary, digits, and whether less is better.

    Attributes:
        ranked: whether to highlight the best figures.
    """

    title: str
    metric: str
    digits: int = 3
    less: bool = False
    ranked: bool = True


def best_rows(values: Sequence[float], column: Column) -> list[int]:
    """Return the indices of a column's best values, compared at the displayed precision."""
    shown = [round(value, column.digits) for value in values]
    defined = [value for value in shown if math.isfinite(value)]
    if not column.ranked or len(values) < 2 or not defined:
        return []
    top = min(defined) if column.less else max(defined)
    return [index for index, value in enumerate(shown) if value == top]


def markdown_lines(table: Table) -> list[str]:
    """Format a table without its heading and note as lines of Markdown, best figures in bold."""
    lines = ["| " + " | ".join(table.header) + " |", "|" + "---|" * len(table.header)]
    for r, row in enumerate(table.rows):
        cells = (f"**{cell}**" if (r, c) in table.best else cell for c, cell in enumerate(row))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def add_rows(rich_table: RichTable, table: Table) -> None:
    """Add the rows to a terminal table that has the columns already, best figures in bold."""
    from rich.markup import escape

    for r, row in enumerate(table.rows):
        cells = [escape(cell) for cell in row]
        rich_table.add_row(*(f"[bold]{cell}[/]" if (r, c) in table.best else cell for c, cell in enumerate(cells)))
