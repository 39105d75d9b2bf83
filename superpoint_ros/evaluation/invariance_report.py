"""Tables and curves of matching by angle and by scale."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from superpoint_ros.evaluation import page
from superpoint_ros.evaluation.invariance import Protocol, Summary, Transform
from superpoint_ros.evaluation.pairs import Skipped
from superpoint_ros.evaluation.tables import Column, Table, add_rows, best_rows, markdown_lines

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

_COLUMNS = (
    Column("matching accuracy", "accuracy"),
    Column("correct matches", "right", digits=0),
)


def tables(summaries: Sequence[Summary], protocol: Protocol) -> list[Table]:
    """Share and number of correct matches: a row for each transform, a column for each method."""
    methods = list(dict.fromkeys(s.method for s in summaries))
    result = []
    for heading, transforms in _groups(summaries):
        for column in _COLUMNS:
            values = [[_value(summaries, method, t, column.metric) for method in methods] for t in transforms]
            best = {(row, 1 + place) for row, own in enumerate(values) for place in best_rows(own, column)}
            rows = tuple(
                (_short(t, heading), *(f"{value:.{column.digits}f}" for value in own))
                for t, own in zip(transforms, values, strict=True)
            )
            header = (heading.lower(), *methods)
            note = (
                f"{summaries[0].images} images, {protocol.size} x {protocol.size}, {protocol.max_keypoints} keypoints, "
                f"suppression within {protocol.nms_radius} px, correct to {protocol.epsilon:g} px, "
                f"rotation {protocol.rotation}"
            )
            result.append(Table(f"{heading}: {column.title}", note, header, rows, frozenset(best)))
    return result


def show(found: Sequence[Table], skipped: Sequence[Skipped], console: Console) -> None:
    """Print the tables and the skipped items."""
    from rich.table import Table as Drawn

    for table in found:
        drawn = Drawn(title=table.heading, caption=table.note)
        for place, title in enumerate(table.header):
            drawn.add_column(title, justify="right" if place else "left")
        add_rows(drawn, table)
        console.print(drawn)
    for item in skipped:
        console.print(f"skipped: {item}", markup=False)


def markdown(found: Sequence[Table]) -> str:
    """The tables as Markdown."""
    return "\n".join(
        line for table in found for line in (f"## {table.heading}", "", table.note, "", *markdown_lines(table), "")
    )


def write_page(path: Path, title: str, found: Sequence[Table], summaries: Sequence[Summary]) -> Path:
    """Write a page with the tables, and with the curves where matplotlib is installed."""
    drawn = importlib.util.find_spec("matplotlib") is not None
    figures = list(_figures(summaries)) if drawn else []
    hint = "" if drawn else "Figures need matplotlib: pip install 'superpoint_ros[plot]'"
    sections = [page.Section("Curves", hint, figures=figures)]
    sections += [page.Section(t.heading, t.note, page.Table(t.header, t.rows)) for t in found]
    page.write(path, title, sections)
    return path


def _figures(summaries: Sequence[Summary]) -> list[Figure]:
    from superpoint_ros.evaluation import figures

    methods = list(dict.fromkeys(s.method for s in summaries))
    result = []
    for heading, transforms in _groups(summaries)[:2]:
        turned = heading == "Rotation"
        x = [t.angle if turned else t.factor for t in transforms]
        label = "rotation (degrees)" if turned else "factor by which the second image is smaller"
        for column in _COLUMNS:
            lines = {method: [_value(summaries, method, t, column.metric) for t in transforms] for method in methods}
            limits = (0, 1.02) if column.metric == "accuracy" else None
            result.append(
                figures.curves(
                    lines, x, label, column.title, title=f"{heading}: {column.title}", limits=limits, marker="o"
                )
            )
    return result


def _groups(summaries: Sequence[Summary]) -> list[tuple[str, list[Transform]]]:
    """Rotation alone, scale alone, both; each beginning with no transform where that was measured."""
    measured = list(dict.fromkeys(s.transform for s in summaries))
    groups = {
        "Rotation": [t for t in measured if t.factor == 1],
        "Scale": [t for t in measured if t.angle == 0],
        "Rotation and scale": [t for t in measured if t.angle and t.factor != 1],
    }
    return [(heading, transforms) for heading, transforms in groups.items() if transforms]


def _short(transform: Transform, heading: str) -> str:
    if heading == "Rotation":
        return f"{transform.angle:g}°"
    return f"1/{transform.factor:g}" if heading == "Scale" else f"{transform.angle:g}°, 1/{transform.factor:g}"


def _value(summaries: Sequence[Summary], method: str, transform: Transform, metric: str) -> float:
    (found,) = (s for s in summaries if s.method == method and s.transform == transform)
    return float(getattr(found, metric))
