"""Format results as tables: for the terminal, for Markdown and for the page."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from superpoint_ros.evaluation.benchmarks import EPSILONS
from superpoint_ros.evaluation.results import Results, Summary
from superpoint_ros.evaluation.tables import Column, Table, add_rows, best_rows, markdown_lines, skipped_lines

if TYPE_CHECKING:
    from rich.console import Console


_HEADLINES = {
    "repeatability": [("Repeatability", Column("", "repeatability")),
                      ("Localisation error (px)", Column("", "localisation_error", less=True)),
                      ("Keypoints found", Column("", "keypoints", 0, ranked=False))],
    "homography": [("Homography correctness at 3 px", Column("", "correctness_3"))],
    "matching": [("Nearest-neighbour mAP", Column("", "nn_map")), ("Matching score", Column("", "matching_score")),
                 ("Mutual matches", Column("", "matches", 0, ranked=False))],
}  # fmt: skip
"""Tables with a column for each group, as in published evaluations."""

_DETAILS = {
    "homography": ("Homography estimation",
                   [*(Column(f"e={e}", f"correctness_{e}") for e in EPSILONS),
                    *(Column(f"AUC@{e}", f"auc_{e}") for e in EPSILONS)]),
    "matching": ("Mean matching accuracy", [Column(f"{t} px", f"mma_{t}") for t in (1, 2, 3, 5, 7, 10)]),
}  # fmt: skip
"""Tables with a row for each method and group."""


def tables(results: Results) -> list[Table]:
    """Build all tables of an evaluation, benchmark by benchmark."""
    found = []
    for benchmark in results.benchmarks:
        summaries = list(results.summaries(benchmark.name))
        if not summaries:
            continue
        numbers = benchmark.settings()
        note = f"{numbers.pop('framing')} pixels, " + ", ".join(
            f"{name.replace('_', ' ')} {value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool)
            else f"{name.replace('_', ' ')} {str(value).lower()}"
            for name, value in numbers.items() if name != "benchmark"
        )  # fmt: skip
        groups = results.groups(benchmark.name)
        for heading, column in _HEADLINES[benchmark.name]:
            found.append(_headline(heading, note, column, groups, summaries))
        if benchmark.name in _DETAILS:
            heading, columns = _DETAILS[benchmark.name]
            found.append(_details(heading, note, columns, groups, summaries))
    return found


def skipped(results: Results) -> list[str]:
    """Describe everything that was skipped, in one sentence each."""
    return [str(item) for item in results.skipped]


def markdown(results: Results) -> str:
    """Format the tables as Markdown, best figures in bold, and what was skipped."""
    weights = [
        f"weights of {name}: {settings['weights_sha256'][:12]}"
        for name, settings in results.methods.items()
        if "weights_sha256" in settings
    ]
    versions = [f"{name} {version}" for name, version in results.versions.items()]
    lines = [f"Dataset `{Path(results.dataset).resolve().name}`; {', '.join([*weights, *versions])}."]
    note = ""
    for table in tables(results):
        lines += ["", f"### {table.heading}", ""]
        if table.note != note:  # once for the tables of a benchmark
            note = table.note
            lines += [f"{note}.", ""]
        lines += markdown_lines(table)
    return "\n".join([*lines, *skipped_lines(skipped(results))]) + "\n"


def show(results: Results, console: Console) -> None:
    """Print the tables, best figures in bold, and what was skipped."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table as RichTable

    note = ""
    for table in tables(results):
        rich_table = RichTable(
            title=table.heading, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
        )
        if table.note != note:  # once for the tables of a benchmark
            note = table.note
            console.print(f"[dim]{escape(note)}[/]", highlight=False)
        for c, title in enumerate(table.header):
            # A long method name may wrap, a figure must not.
            widest = max(len(cells[c]) for cells in (table.header, *table.rows))
            rich_table.add_column(
                title, justify="left" if c == 0 else "right", min_width=widest if c else 8, overflow="fold"
            )
        add_rows(rich_table, table)
        console.print(rich_table)
    for sentence in skipped(results):
        console.print(f"skipped: {escape(sentence)}", highlight=False)


def _headline(heading: str, note: str, column: Column, groups: list[str], summaries: list[Summary]) -> Table:
    methods = list(dict.fromkeys(s.method for s in summaries))
    values = {(s.method, s.group): s.values[column.metric] for s in summaries}
    grid = [[values.get((method, group), math.nan) for group in groups] for method in methods]
    rows = tuple(
        (method, *(_number(value, column) for value in line)) for method, line in zip(methods, grid, strict=True)
    )
    best = {(r, c + 1) for c in range(len(groups)) for r in best_rows([line[c] for line in grid], column)}
    return Table(heading, note, ("method", *groups), rows, frozenset(best), summaries[0].benchmark)


def _details(heading: str, note: str, columns: list[Column], groups: list[str], summaries: list[Summary]) -> Table:
    ordered = sorted(summaries, key=lambda s: groups.index(s.group))
    several = len(groups) > 1
    rows = tuple(
        (
            s.method,
            *((s.group,) if several else ()),
            str(s.pairs),
            *(_number(s.values[column.metric], column) for column in columns),
        )
        for s in ordered
    )
    shift = 3 if several else 2
    best = set()
    for group in groups:
        own = [index for index, s in enumerate(ordered) if s.group == group]
        for c, column in enumerate(columns):
            ranks = best_rows([ordered[index].values[column.metric] for index in own], column)
            best |= {(own[rank], c + shift) for rank in ranks}
    header = ("method", *(("change",) if several else ()), "pairs", *(column.title for column in columns))
    return Table(heading, note, header, rows, frozenset(best), summaries[0].benchmark)


def _number(value: float, column: Column) -> str:
    return f"{value:.{column.digits}f}" if math.isfinite(value) else "-"
