"""Text tables with the best figures highlighted, shared by all reports."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
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


def method_table(
    heading: str, note: str, columns: Sequence[Column], methods: Sequence[tuple[str, Mapping[str, float]]]
) -> Table:
    """Build a table with a row for each method and its figures by metric; undefined ones are "-", infinite "failed"."""
    rows = tuple((name, *(_number(values[column.metric], column) for column in columns)) for name, values in methods)
    best = {
        (r, c)
        for c, column in enumerate(columns, 1)
        for r in best_rows([values[column.metric] for _, values in methods], column)
    }
    return Table(heading, note, ("method", *(column.title for column in columns)), rows, frozenset(best))


def _number(value: float, column: Column) -> str:
    return "-" if math.isnan(value) else "failed" if math.isinf(value) else f"{value:.{column.digits}f}"


def show_tables(tables: Sequence[Table], skipped: Sequence[str], console: Console) -> None:
    """Print tables with their headings and notes, best figures in bold, and what was skipped."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table as RichTable

    for table in tables:
        drawn = RichTable(
            title=table.heading, caption=table.note, title_justify="left", caption_justify="left", box=SIMPLE_HEAD
        )
        for c, title in enumerate(table.header):
            # A long method name may wrap, a figure must not.
            widest = max(len(row[c]) for row in table.rows)
            drawn.add_column(
                title, justify="right" if c else "left", min_width=widest if c else min(widest, 16), overflow="fold"
            )
        add_rows(drawn, table)
        console.print(drawn)
    for sentence in skipped:
        console.print(f"skipped: {escape(sentence)}", highlight=False)


def markdown_text(introduction: str, tables: Sequence[Table], skipped: Sequence[str]) -> str:
    """Format tables with their headings and notes as Markdown, best figures in bold, and what was skipped."""
    lines = [introduction]
    for table in tables:
        lines += ["", f"### {table.heading}", "", f"{table.note[0].upper()}{table.note[1:]}.", ""]
        lines += markdown_lines(table)
    return "\n".join([*lines, *skipped_lines(skipped)]) + "\n"


def skipped_lines(skipped: Sequence[str]) -> list[str]:
    """Format what was skipped as lines of Markdown; none if nothing was."""
    return ["", "### Skipped", "", *(f"* {sentence}" for sentence in skipped)] if skipped else []


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
