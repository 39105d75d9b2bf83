"""Report odometry as tables, JSON, CSV and Markdown."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from superpoint_ros.evaluation.odometry import RIGHT, Odometry, Step
from superpoint_ros.evaluation.odometry_summary import AUC_LIMITS, Summary
from superpoint_ros.evaluation.results import finite, versions
from superpoint_ros.evaluation.tables import Column, Table, markdown_text, method_table, show_tables
from superpoint_ros.io.files import write_texts

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
_KNOWN = [
    Column("accuracy", "accuracy"),
    Column("error (px)", "match_error", less=True),
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
    methods = [(summary.method, summary.values) for summary in summaries]
    known = [
        method_table(
            "Matches against the true depth",
            f"means over the steps: matches of visible points that are right to {RIGHT:g} px, and their median error",
            _KNOWN,
            methods,
        )
    ] * (odometry.sequence.transfer is not None)
    return [
        method_table("Error of each step (degrees)", f"{protocol}; {short}", _STEPS, methods),
        method_table("Trajectory", chained, _TRAJECTORY, methods),
        method_table("Matches", "medians over the steps, and steps without a translation or without any estimate",
                     _COUNTS, methods),
        *known,
    ]  # fmt: skip


def show(odometry: Odometry, summaries: list[Summary], console: Console) -> None:
    """Print the tables, best figures in bold, and what was skipped."""
    show_tables(tables(odometry, summaries), list(map(str, odometry.skipped)), console)


def markdown(odometry: Odometry, summaries: list[Summary]) -> str:
    """Format the tables as Markdown, best figures in bold, and what was skipped."""
    sequence = odometry.sequence
    introduction = f"Sequence `{sequence.name}` ({sequence.layout}), {len(sequence)} frames."
    return markdown_text(introduction, tables(odometry, summaries), list(map(str, odometry.skipped)))


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
                "summary": finite(summary.values),
                "steps": [finite(asdict(step)) for step in track.steps],
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
    texts = {
        "odometry.json": json.dumps(as_dict(odometry, summaries), indent=1, allow_nan=False) + "\n",
        "odometry.csv": as_csv(odometry),
        "odometry.md": markdown(odometry, summaries),
    }
    return write_texts(folder, texts)
