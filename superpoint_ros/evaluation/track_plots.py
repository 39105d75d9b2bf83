"""Plot an evaluation of tracks: drift, survival and number of points."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from superpoint_ros.evaluation.track_sources import Source
from superpoint_ros.evaluation.track_summary import Run
from superpoint_ros.io.files import atomic_write

_FEWEST = 20
"""Minimum number of tracks for plotting a median."""


def write(source: Source, runs: Sequence[Run], folder: Path) -> list[Path]:
    """Write tracks.png to a folder, atomically; do nothing if matplotlib is not installed."""
    try:
        drawn = figure(source, runs)
    except ModuleNotFoundError:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tracks.png"
    with atomic_write(path) as partial:
        drawn.savefig(partial, format="png", dpi=150)
    return [path]


def figure(source: Source, runs: Sequence[Run]) -> Any:
    """Create a matplotlib figure with drift, survival and number of tracked points of every method."""
    from matplotlib.figure import Figure

    # A figure without pyplot needs no display and leaves no state behind.
    drawn = Figure(figsize=(12, 4), layout="constrained")
    drift, survival, alive = drawn.subplots(1, 3)
    for run in runs:
        known = np.array([(step, median) for step, median, count in run.drift() if count >= _FEWEST]).reshape(-1, 2)
        drift.plot(known[:, 0], known[:, 1], ".-", label=run.method)
        survival.plot(list(run.survival), list(run.survival.values()), ".-", label=run.method)
        alive.plot(np.arange(len(run.alive)), run.alive, linewidth=1, label=run.method)
    target = {"points": "truth", "lines": "epipolar line"}[source.truth.kind]
    for axes, across, up in (
        (drift, "frames after the first", f"distance from the {target} (px, median)"),
        (survival, "frames after the first", "fraction of surviving tracks"),
        (alive, "frame", "tracked points seen before"),
    ):
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        axes.grid(alpha=0.3)
    drift.set_ylim(bottom=0)
    survival.set_ylim(0, 1)
    drift.legend()
    drawn.suptitle(f"{source.name}: tracks over {len(source)} frames", fontsize=10)
    return drawn
