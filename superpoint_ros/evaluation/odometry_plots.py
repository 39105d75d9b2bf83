"""Figures of an odometry evaluation: trajectories in top view, and errors per step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.evaluation.odometry import Odometry
from superpoint_ros.evaluation.odometry_summary import Summary
from superpoint_ros.io.files import atomic_write


def write(odometry: Odometry, summaries: list[Summary], folder: Path) -> list[Path]:
    """Write trajectory.png and errors.png to a folder.

    Raises:
        ValueError: if matplotlib is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"trajectory": trajectory(odometry, summaries), "errors": errors(odometry)}
    return [save_figure(figure, folder / f"{name}.png") for name, figure in figures.items()]


def save_figure(figure: Any, path: Path) -> Path:
    """Write a figure as PNG; return its path."""
    with atomic_write(path) as partial:
        figure.savefig(partial, format="png", dpi=150)
    return path


def trajectory(odometry: Odometry, summaries: list[Summary]) -> Any:
    """Plot trajectories in top view."""
    lines = []
    for summary in summaries:
        ate = summary.values["ate"]
        label = summary.method if np.isnan(ate) else f"{summary.method} (ATE {ate:.3g} m)"
        lines.append((label, summary.aligned))
    title = f"{odometry.sequence.name}: trajectories from above, true step lengths, Sim(3) aligned"
    return draw_trajectories(odometry.sequence.poses[:, :3, 3], lines, title)


def draw_trajectories(true: NDArray[np.float64], lines: Sequence[tuple[str, NDArray[np.float64]]], title: str) -> Any:
    """Draw (N, 3) positions in top view: the two axes along which the true path extends most.

    Args:
        true: positions of the ground truth, in metres.
        lines: label and positions of each trajectory.

    Raises:
        ValueError: if matplotlib is not installed.
    """
    figure = _figure(7, 6)
    axes = figure.add_subplot()
    first, second = _widest_axes(true)
    axes.plot(true[:, first], true[:, second], color="black", linewidth=2, label="ground truth")
    axes.plot(true[0, first], true[0, second], "o", color="black", markersize=5)
    for label, positions in lines:
        axes.plot(positions[:, first], positions[:, second], linewidth=1.2, label=label)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xlabel(f"{'xyz'[first]} (m)")
    axes.set_ylabel(f"{'xyz'[second]} (m)")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def errors(odometry: Odometry) -> Any:
    """Plot rotation and direction error of every step, in degrees on a logarithmic axis."""
    figure = _figure(9, 6)
    upper, lower = figure.subplots(2, 1, sharex=True)
    for track in odometry.tracks:
        number = np.arange(1, len(track.steps) + 1)
        for axes, name in ((upper, "rotation_error"), (lower, "direction_error")):
            values = np.array([getattr(step, name) for step in track.steps])
            # Failed steps, and those without a true direction, are gaps.
            values = np.where(np.isfinite(values), np.maximum(values, 1e-4), np.nan)
            axes.plot(number, values, ".-", linewidth=1, markersize=4, label=track.method)
    for axes, title in ((upper, "rotation error (deg)"), (lower, "direction error (deg)")):
        axes.set_ylabel(title)
        axes.grid(alpha=0.3, which="both")
    upper.set_yscale("log")
    if any(np.isfinite(step.direction_error) for track in odometry.tracks for step in track.steps):
        lower.set_yscale("log")
    else:
        reason = f"no step is {odometry.settings.min_translation:g} m or longer"
        lower.text(0.5, 0.5, reason, transform=lower.transAxes, ha="center", va="center")
    upper.set_title(f"{odometry.sequence.name}: error of each step", fontsize=10)
    upper.legend()
    lower.set_xlabel("step")
    return figure


def _widest_axes(positions: NDArray[np.float64]) -> tuple[int, int]:
    """Return the two axes along which positions extend most, in order."""
    extent = np.ptp(positions, axis=0)
    first, second = sorted(int(axis) for axis in np.argsort(-extent, kind="stable")[:2])
    return first, second


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ValueError(
            f"Python package '{error.name}' is missing, install it with: pip install 'superpoint_ros[evaluate]'"
        ) from error
    # A figure outside pyplot needs no display and leaves no global state.
    return Figure(figsize=(width, height), layout="constrained")
