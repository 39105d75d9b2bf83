"""Report odometry as tables, JSON, CSV and Markdown."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from superpoint_ros.evaluation.odometry import Odometry, Step
from superpoint_ros.evaluation.odometry_summary import AUC_LIMITS, Summary
from superpoint_ros.evaluation.results import versions
from superpoint_ros.evaluation.tables import Column, Table, add_rows, best_rows, markdown_lines
from superpoint_ros.io.files import write_text

if TYPE_CHECKING:
    from rich.console import Console


_STEPS = [
    Column("rot. median", "rotation_median", less=True),
    Column("rot. mean", "rotation_mean", less=True),
    Column("dir. median", "direction_median", 2, less=True),
    Column("dir. mean", "direction_mean", 2, less=True),
    *(Column(f"AUC@{limit}", f"auc_{limit}") for limit in AUC_LIMITS),
]
_TRAJECTORY = [
    Column("RPE (m)", "rpe_translation", less=True),
    Column("RPE (deg)", "rpe_rotation", less=True),
    Column("ATE (m)", "ate", less=True),
    Column("ATE (% of path)", "ate_percent", 2, less=True),
]
_COUNTS = [
    Column("matches", "matches", 0, ranked=False),
    Column("inliers", "inliers", 0, ranked=False),
    Column("rotation only", "rotation_only", 0, ranked=False),
    Column("failed", "failed", 0, ranked=False),
]


def tables(odometry: Odometry, summaries: list[Summary]) -> list[Table]:
    """Build the tables: errors per step, errors of the trajectory, and counts."""
    numbers, steps = odometry.settings, len(odometry.sequence) - 1
    values = summaries[0].values
    moving = int(values["moving_steps"])
    short = f"{moving} of {steps} steps are {numbers.min_translation:g} m or longer and count for the direction"
    protocol = (
        f"{numbers.max_keypoints} keypoints, NMS {numbers.nms_radius}, mutual nearest neighbours, estimator "
        f"{numbers.estimator} at {numbers.threshold:g} px"
    )
    chained = (
        f"steps are scaled to their true length; RPE over {min(numbers.delta, steps)} frames, ATE after alignment by a "
        f"similarity, root mean squares; true path {values['path']:.3g} m"
    )
    return [
        _table("Error of each step (degrees)", f"{protocol}; {short}", _STEPS, summaries),
        _table("Trajectory", chained, _TRAJECTORY, summaries),
        _table("Matches", "medians over the steps, and steps without a translation or without any estimate", _COUNTS,
               summaries),
    ]  # fmt: skip


def _table(heading: str, note: str, columns: list[Column], summaries: list[Summary]) -> Table:
    rows = tuple((s.method, *(_number(s.values[column.metric], column) for column in columns)) for s in summaries)
    best = {
        (r, c)
        for c, column in enumerate(columns, 1)
        for r in best_rows([summary.values[column.metric] for summary in summaries], column)
    }
    return Table(heading, note, ("method", *(column.title for column in columns)), rows, frozenset(best))


def _number(value: float, column: Column) -> str:
    return "-" if math.isnan(value) else "failed" if math.isinf(value) else f"{value:.{column.digits}f}"


def show(odometry: Odometry, summaries: list[Summary], console: Console) -> None:
    """Print the tables, best figures in bold, and what was skipped."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table as RichTable

    for table in tables(odometry, summaries):
        rich_table = RichTable(
            title=table.heading, caption=table.note, title_justify="left", caption_justify="left", box=SIMPLE_HEAD
        )
        for c, title in enumerate(table.header):
            # A long method name may wrap, a figure must not.
            widest = max(len(row[c]) for row in table.rows)
            rich_table.add_column(
                title, justify="right" if c else "left", min_width=widest if c else min(widest, 16), overflow="fold"
            )
        add_rows(rich_table, table)
        console.print(rich_table)
    for item in odometry.skipped:
        console.print(f"skipped: {escape(f'{item.name}: {item.reason}')}", highlight=False)


def markdown(odometry: Odometry, summaries: list[Summary]) -> str:
    """Format the tables as Markdown, best figures in bold, and what was skipped."""
    sequence = odometry.sequence
    lines = [f"Sequence `{sequence.name}` ({sequence.layout}), {len(sequence)} frames."]
    for table in tables(odometry, summaries):
        lines += ["", f"### {table.heading}", "", f"{table.note[0].upper()}{table.note[1:]}.", ""]
        lines += markdown_lines(table)
    if odometry.skipped:
        lines += ["", "### Skipped", "", *(f"* {item.name}: {item.reason}" for item in odometry.skipped)]
    return "\n".join(lines) + "\n"


def as_dict(odometry: Odometry, summaries: list[Summary]) -> dict[str, Any]:
    """Convert everything to JSON values; undefined values and infinite errors of failed steps become null."""
    sequence = odometry.sequence
    return {
        "sequence": sequence.name,
        "layout": sequence.layout,
        "frames": len(sequence),
        "settings": asdict(odometry.settings),
        "scale": "the length of every step is taken from the ground truth",
        "versions": versions(),
        "left_out": [asdict(item) for item in odometry.skipped],
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
    """Format as CSV, a line for each step of each method."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [field.name for field in fields(Step)]
    writer.writerow(("method", *names))
    for track in odometry.tracks:
        writer.writerows((track.method, *(getattr(step, name) for name in names)) for step in track.steps)
    return text.getvalue()


def write(odometry: Odometry, summaries: list[Summary], folder: Path) -> list[Path]:
    """Write odometry.json, odometry.csv and odometry.md to a folder; return their paths."""
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
