"""Tables of text in which the best figures stand out: what the reports have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table as RichTable


@dataclass(frozen=True)
class Table:
    """Text in rows and columns; the first column names what a row is about.

    Attributes:
        note: numbers of the protocol.
        best: (row, column) of the best figures of their column.
        benchmark: whose figures these are, where there are several.
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
        ranked: whether its best figures stand out.
    """

    title: str
    metric: str
    digits: int = 3
    less: bool = False
    ranked: bool = True


def best_of(values: Sequence[float], column: Column) -> list[int]:
    """Which of a column's values are the best, as far as its digits tell them apart."""
    shown = [round(value, column.digits) for value in values]
    defined = [value for value in shown if math.isfinite(value)]
    if not column.ranked or len(values) < 2 or not defined:
        return []
    top = min(defined) if column.less else max(defined)
    return [index for index, value in enumerate(shown) if value == top]


def markdown_lines(table: Table) -> list[str]:
    """The lines of a table without its heading and note, best figures bold."""
    lines = ["| " + " | ".join(table.header) + " |", "|" + "---|" * len(table.header)]
    for r, row in enumerate(table.rows):
        cells = (f"**{cell}**" if (r, c) in table.best else cell for c, cell in enumerate(row))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def fill(drawn: RichTable, table: Table) -> None:
    """Put the rows into a table for the terminal that has its columns, best figures bold."""
    from rich.markup import escape

    for r, row in enumerate(table.rows):
        cells = [escape(cell) for cell in row]
        drawn.add_row(*(f"[bold]{cell}[/]" if (r, c) in table.best else cell for c, cell in enumerate(cells)))
