"""Report the whole odometry as tables, JSON, Markdown and a figure."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from superpoint_ros.evaluation.odometry_plots import draw_trajectories, save_figure
from superpoint_ros.evaluation.results import finite, versions
from superpoint_ros.evaluation.system import SystemResult
from superpoint_ros.evaluation.system_sources import SystemSequence
from superpoint_ros.evaluation.tables import Column, Table, markdown_text, method_table, show_tables
from superpoint_ros.io.files import write_texts

if TYPE_CHECKING:
    from rich.console import Console

_COLUMNS = [
    Column("ATE m", "ate", 4, less=True),
    Column("ATE %", "ate_percent", 2, less=True),
    Column("drift %", "drift_translation", 2, less=True),
    Column("drift deg/m", "drift_rotation", 4, less=True),
    Column("tracked %", "tracked_percent", 1),
    Column("lost", "losses", 0, less=True),
    Column("start", "started", 0, ranked=False),
    Column("points", "points", 0, ranked=False),
    Column("ms", "odometry_ms", 1, ranked=False),
]


def tables(sequence: SystemSequence, results: list[SystemResult]) -> list[Table]:
    """Build the table."""
    kind = "stereo, first poses made equal" if sequence.baseline else "single camera, aligned by a similarity"
    lengths = {f"{result.drift_length:.3g} m" for result in results if result.drift_length > 0}
    note = (
        f"{kind}; ATE: root mean square, and in percent of the path; drift: mean over all parts of the path of "
        f"{' or '.join(sorted(lengths))}; start: frames without a pose before it; ms: mean time of the odometry"
    )
    rows = [(result.method, {**_figures(result), "tracked_percent": 100 * result.tracked}) for result in results]
    return [method_table("Odometry", note, _COLUMNS, rows)]


def _figures(result: SystemResult) -> dict[str, Any]:
    return {name: value for name, value in asdict(result).items() if name != "positions"}


def show(sequence: SystemSequence, results: list[SystemResult], console: Console) -> None:
    """Print the table, best figures in bold."""
    show_tables(tables(sequence, results), (), console)


def as_dict(sequence: SystemSequence, results: list[SystemResult]) -> dict[str, Any]:
    """Convert everything to JSON values; undefined values become null."""
    methods = []
    for result in results:
        methods.append({**finite(_figures(result)), "positions": result.positions.tolist()})
    return {
        "sequence": sequence.name,
        "frames": len(sequence),
        "stereo": sequence.baseline > 0,
        "versions": versions(),
        "methods": methods,
        "true_positions": sequence.poses[:, :3, 3].tolist(),
    }


def write(sequence: SystemSequence, results: list[SystemResult], folder: Path) -> list[Path]:
    """Write odometry.json, odometry.md and trajectory.png to a folder; return their paths.

    Raises:
        ValueError: if matplotlib is not installed.
    """
    introduction = f"Sequence `{sequence.name}`, {len(sequence)} frames."
    texts = {
        "odometry.json": json.dumps(as_dict(sequence, results), indent=1, allow_nan=False) + "\n",
        "odometry.md": markdown_text(introduction, tables(sequence, results), ()),
    }
    written = list(write_texts(folder, texts))
    lines = [(f"{result.method} (ATE {result.ate:.3g} m)", result.positions) for result in results]
    figure = draw_trajectories(sequence.poses[:, :3, 3], lines, f"{sequence.name}: trajectories of the odometry")
    return [*written, save_figure(figure, folder / "trajectory.png")]
