"""Odometry as tables, JSON, CSV and Markdown."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from superpoint_ros.evaluation.odometry import Odometry, Step
from superpoint_ros.evaluation.odometry_summary import AUC_LIMITS, Summary
from superpoint_ros.evaluation.results import versions
from superpoint_ros.files import write_text

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Table:
    """Text in rows and columns, a row for each method; `best` are (row, column) of the best figures of a column."""

    heading: str
    note: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: frozenset[tuple[int, int]]


_Column = tuple[str, str, int, int]
"""Title, name of the value, digits, and whether less (-1) or more (1) is better, or neither (0)."""

_STEPS: list[_Column] = [
    ("rot. median", "rotation_median", 3, -1),
    ("rot. mean", "rotation_mean", 3, -1),
    ("dir. median", "direction_median", 2, -1),
    ("dir. mean", "direction_mean", 2, -1),
    *((f"AUC@{limit}", f"auc_{limit}", 3, 1) for limit in AUC_LIMITS),
]
_TRAJECTORY: list[_Column] = [
    ("RPE (m)", "rpe_translation", 3, -1),
    ("RPE (deg)", "rpe_rotation", 3, -1),
    ("ATE (m)", "ate", 3, -1),
    ("ATE (% of path)", "ate_percent", 2, -1),
]
_COUNTS: list[_Column] = [
    ("matches", "matches", 0, 0),
    ("inliers", "inliers", 0, 0),
    ("rotation only", "rotation_only", 0, 0),
    ("failed", "failed", 0, 0),
]


def tables(odometry: Odometry, summaries: list[Summary]) -> list[Table]:
    """Errors of the steps, errors of the trajectory, and counts."""
    numbers, steps = odometry.settings, len(odometry.sequence) - 1
    values = summaries[0].values
    moving = int(values["moving_steps"])
    short = f"{moving} of {steps} steps are {numbers.min_translation:g} m or longer and count for the direction"
    protocol = (
        f"{numbers.max_keypoints} keypoints, NMS {numbers.nms_radius}, mutual nearest neighbours, estimator "
        f"{numbers.estimator} at {numbers.threshold:g} px"
    )
    chained = (
        f"every step has its true length; RPE over {min(numbers.delta, steps)} frames, ATE after alignment by a "
        f"similarity, root mean squares; true path {values['path']:.3g} m"
    )
    return [
        _table("Error of each step (degrees)", f"{protocol}; {short}", _STEPS, summaries),
        _table("Trajectory", chained, _TRAJECTORY, summaries),
        _table("Matches", "medians over the steps, and steps without a translation or without any estimate", _COUNTS,
               summaries),
    ]  # fmt: skip


def _table(heading: str, note: str, columns: list[_Column], summaries: list[Summary]) -> Table:
    rows, best = [], set()
    for summary in summaries:
        cells = []
        for _, name, digits, _ in columns:
            value = summary.values[name]
            cells.append("-" if math.isnan(value) else "failed" if math.isinf(value) else f"{value:.{digits}f}")
        rows.append((summary.method, *cells))
    for c, (_, name, digits, sign) in enumerate(columns):
        shown = [round(summary.values[name], digits) * sign for summary in summaries]
        defined = [value for value in shown if math.isfinite(value)]
        if sign and defined and len(shown) > 1:
            best |= {(r, c + 1) for r, value in enumerate(shown) if value == max(defined)}
    return Table(heading, note, ("method", *(title for title, *_ in columns)), tuple(rows), frozenset(best))


def show(odometry: Odometry, summaries: list[Summary], console: Console) -> None:
    """Print the tables, best figures bold, and what was left out."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table as RichTable

    for table in tables(odometry, summaries):
        drawn = RichTable(
            title=table.heading, caption=table.note, title_justify="left", caption_justify="left", box=SIMPLE_HEAD
        )
        for c, title in enumerate(table.header):
            # A long method may take two lines, a figure must be whole.
            widest = max(len(row[c]) for row in table.rows)
            drawn.add_column(
                title, justify="right" if c else "left", min_width=widest if c else min(widest, 16), overflow="fold"
            )
        for r, row in enumerate(table.rows):
            cells = [escape(cell) for cell in row]
            drawn.add_row(*(f"[bold]{cell}[/]" if (r, c) in table.best else cell for c, cell in enumerate(cells)))
        console.print(drawn)
    for item in odometry.left_out:
        console.print(f"left out: {escape(f'{item.name}: {item.reason}')}", highlight=False)


def markdown(odometry: Odometry, summaries: list[Summary]) -> str:
    """The tables, best figures bold, and what was left out."""
    sequence = odometry.sequence
    lines = [f"Sequence `{sequence.name}` ({sequence.layout}), {len(sequence)} frames."]
    for table in tables(odometry, summaries):
        lines += ["", f"### {table.heading}", "", f"{table.note[0].upper()}{table.note[1:]}.", ""]
        lines += ["| " + " | ".join(table.header) + " |", "|" + "---|" * len(table.header)]
        for r, row in enumerate(table.rows):
            cells = (f"**{cell}**" if (r, c) in table.best else cell for c, cell in enumerate(row))
            lines.append("| " + " | ".join(cells) + " |")
    if odometry.left_out:
        lines += ["", "### Left out", "", *(f"* {item.name}: {item.reason}" for item in odometry.left_out)]
    return "\n".join(lines) + "\n"


def as_dict(odometry: Odometry, summaries: list[Summary]) -> dict[str, Any]:
    """Everything, as JSON can hold it: what is not defined, and infinite errors of failed steps, are null."""
    sequence = odometry.sequence
    return {
        "sequence": sequence.name,
        "layout": sequence.layout,
        "frames": len(sequence),
        "settings": asdict(odometry.settings),
        "scale": "the length of every step is taken from the ground truth",
        "versions": versions(),
        "left_out": [asdict(item) for item in odometry.left_out],
        "methods": [
            {
                "method": track.method,
                "settings": track.settings,
                "seconds": round(track.seconds, 3),
                "summary": {name: _finite(value) for name, value in summary.values.items()},
                "steps": [{name: _finite(value) for name, value in asdict(step).items()} for step in track.steps],
                "positions": track.poses[:, :3, 3].tolist(),
                "aligned_positions": summary.aligned.tolist(),
            }
            for track, summary in zip(odometry.tracks, summaries, strict=True)
        ],
        "true_positions": sequence.poses[:, :3, 3].tolist(),
    }


def as_csv(odometry: Odometry) -> str:
    """A line for each step of each method."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [field.name for field in fields(Step)]
    writer.writerow(("method", *names))
    for track in odometry.tracks:
        writer.writerows((track.method, *(getattr(step, name) for name in names)) for step in track.steps)
    return text.getvalue()


def write(odometry: Odometry, summaries: list[Summary], folder: Path) -> list[Path]:
    """odometry.json, odometry.csv and odometry.md in a folder, each written whole."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "odometry.json": json.dumps(as_dict(odometry, summaries), indent=1, allow_nan=False) + "\n",
        "odometry.csv": as_csv(odometry),
        "odometry.md": markdown(odometry, summaries),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
