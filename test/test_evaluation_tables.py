"""Tables of the reports: highlighted figures."""

from __future__ import annotations

import io
import math

import pytest

from superpoint_ros.evaluation.tables import Column, Table, add_rows, best_rows, markdown_lines

TABLE = Table(
    "Errors", "three frames", ("method", "error"), (("mine[x]", "0.10"), ("theirs", "0.25")), frozenset({(0, 1)})
)


@pytest.mark.parametrize(
    ("values", "column", "expected"),
    [
        ([0.1, 0.3, 0.2], Column("", ""), [1]),
        ([0.1, 0.3, 0.2], Column("", "", less=True), [0]),
        ([0.5001, 0.5002, 0.4], Column("", ""), [0, 1]),  # indistinguishable
        ([0.5001, 0.5002, 0.4], Column("", "", 4), [1]),
        ([math.nan, math.inf, 0.2], Column("", ""), [2]),
        ([math.nan, math.inf, 0.2], Column("", "", less=True), [2]),
        ([math.nan, math.nan], Column("", ""), []),
        ([0.3], Column("", ""), []),  # nothing to be better than
        ([1.0, 2.0], Column("", "", ranked=False), []),
    ],
)
def test_the_best_figures_are_the_best_as_displayed(values, column, expected):
    assert best_rows(values, column) == expected


def test_markdown_has_the_best_figures_bold():
    assert markdown_lines(TABLE) == ["| method | error |", "|---|---|", "| mine[x] | **0.10** |", "| theirs | 0.25 |"]


def test_the_terminal_has_the_best_figures_bold_and_brackets_as_they_are():
    rich = pytest.importorskip("rich.table", reason="rich, which draws tables, is not installed")
    from rich.console import Console

    drawn = rich.Table(*TABLE.header)
    add_rows(drawn, TABLE)
    console = Console(file=io.StringIO(), width=60, force_terminal=True, color_system="standard")
    console.print(drawn)
    text = console.file.getvalue()
    assert "mine[x]" in text
    assert "\x1b[1m0.10\x1b[0m" in text
    assert "\x1b[1m0.25" not in text
