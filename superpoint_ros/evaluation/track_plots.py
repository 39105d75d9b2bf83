"""Images of an evaluation of tracks: how far they are off over their life, how many survive, how many are alive."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from superpoint_ros.evaluation.track_sources import Source
from superpoint_ros.evaluation.track_summary import Run
from superpoint_ros.io.files import atomic_write

_FEWEST = 20
"""Tracks below which a median is not drawn."""


def write(source: Source, runs: Sequence[Run], folder: Path) -> list[Path]:
    """tracks.png in a folder, written whole; nothing where matplotlib is not installed."""
    try:
        picture = figure(source, runs)
    except ModuleNotFoundError:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tracks.png"
    with atomic_write(path) as partial:
        picture.savefig(partial, format="png", dpi=150)
    return [path]


def figure(source: Source, runs: Sequence[Run]) -> Any:
    """A matplotlib figure with drift, survival and points alive of every method."""
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
        (survival, "frames after the first", "share of tracks still there"),
        (alive, "frame", "points whose track was there before"),
    ):
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        axes.grid(alpha=0.3)
    drift.set_ylim(bottom=0)
    survival.set_ylim(0, 1)
    drift.legend()
    drawn.suptitle(f"{source.name}: tracks over {len(source)} frames", fontsize=10)
    return drawn
