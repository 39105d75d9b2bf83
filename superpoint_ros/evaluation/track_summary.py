"""Run trackers on a source, and summarise their results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.evaluation import tracks
from superpoint_ros.evaluation.track_sources import Source
from superpoint_ros.evaluation.track_truth import Truth, jacobians
from superpoint_ros.evaluation.trackers import Tracker
from superpoint_ros.evaluation.tracks import Observation, TrackTable
from superpoint_ros.two_view.geometry import transform_covariances

AFTER = (1, 5, 10, 20)
"""Numbers of frames after a track's first point at which it is evaluated."""
NMSE_AFTER = 10
"""Frames between two points of a track for its NMSE: enough for independent errors."""

Progress = Callable[[Source], Iterable[NDArray[np.uint8]]]


@dataclass(frozen=True)
class Run:
    """The results of one tracker on a source.

    Attributes:
        seconds: duration of the tracking.
        values: figures by name; NaN where one is not defined.
        errors: error of each track in pixels, by number of frames after its first.
        alive: (N,) number of points of each frame that were seen before.
        survival: fraction of surviving tracks, by number of frames after the first.
    """

    method: str
    settings: dict[str, Any]
    seconds: float
    values: dict[str, float]
    errors: dict[int, NDArray[np.float64]] = field(repr=False)
    alive: NDArray[np.int64] = field(repr=False)
    survival: dict[int, float] = field(repr=False)

    def drift(self) -> list[tuple[int, float, int]]:
        """List numbers of frames after the first, with the median error in pixels and the number of tracks."""
        return [(step, _median(errors), len(errors)) for step, errors in self.errors.items()]


def evaluate(source: Source, trackers: Sequence[Tracker], progress: Progress | None = None) -> list[Run]:
    """Run trackers on the same images, frame by frame.

    Args:
        progress: iterates over the source's images and shows the progress.
    """
    found: list[list[Observation]] = [[] for _ in trackers]
    seconds = np.zeros(len(trackers))
    for image, stamp in zip(source if progress is None else progress(source), source.times, strict=True):
        for number, tracker in enumerate(trackers):
            begin = time.perf_counter()
            found[number].append(tracker.process(image, float(stamp)))
            seconds[number] += time.perf_counter() - begin
    return [
        _run(tracker, observations, source.truth, spent)
        for tracker, observations, spent in zip(trackers, found, seconds.tolist(), strict=True)
    ]


def _run(tracker: Tracker, observations: Sequence[Observation], truth: Truth, seconds: float) -> Run:
    table = TrackTable.from_observations(observations)
    alive = tracks.alive(table)
    steps = sorted({*AFTER, *np.unique(np.geomspace(1, max(2, table.frame_count - 1), 30).astype(int)).tolist()})
    errors = {step: _lengths(_residuals(table, truth, step)) for step in steps if step < table.frame_count}
    survival = {step: tracks.survival(table, step, _visible(table, truth, step)) for step in errors}
    values = {
        **match_figures(observations, truth),
        "length": tracks.weighted_length(table.lengths),
        "alive": float(alive[1:].mean()),
        **{f"off_{step}": _median(errors.get(step, np.zeros(0))) for step in AFTER},
        **{f"survival_{step}": survival.get(step, np.nan) for step in AFTER},
        "nmse": _point_nmse(table, truth),
        "scatter": _median(tracks.scatter(table)) if truth.still else np.nan,
        "coasted": _coasted(observations),
    }
    return Run(tracker.name, tracker.settings(), seconds, values, errors, alive, survival)


def match_figures(observations: Sequence[Observation], truth: Truth) -> dict[str, float]:
    """Compute matches per frame, their error in pixels, the fraction of wrong ones, and their NMSE."""
    lengths, squares = [np.zeros(0)], [np.zeros(0)]
    for frame, one in enumerate(observations):
        if one.reference < 0 or not len(one.match_points):
            continue
        residuals = truth.residuals(one.reference_points, one.match_points, one.reference, frame)
        lengths.append(_lengths(residuals))
        if one.match_covariance is not None and truth.kind == "points" and not truth.still:
            judged = tracks.is_correct(lengths[-1])
            squares.append(tracks.normalised_squares(residuals[judged], one.match_covariance[judged]))
    errors = np.concatenate(lengths)
    errors = errors[np.isfinite(errors)]
    right = errors[tracks.is_correct(errors)]
    return {
        "matches": float(np.mean([len(one.match_points) for one in observations[1:]])),
        "match_median": _median(right),
        "match_rms": float(np.sqrt(np.mean(right**2))) if len(right) else np.nan,
        "wrong": float(1 - len(right) / len(errors)) if len(errors) else np.nan,
        "match_nmse": _mean(np.concatenate(squares)),
    }


def _residuals(table: TrackTable, truth: Truth, step: int) -> NDArray[np.float64]:
    """Compute the errors of points `step` frames after the first of their tracks, ordered as in `TrackTable.after`."""
    first, later = table.after(step)
    found = np.full((len(first), 2 if truth.kind == "points" else 1), np.nan)
    for frame in np.unique(table.frames[first]).tolist():
        own = table.frames[first] == frame
        found[own] = truth.residuals(table.points[first[own]], table.points[later[own]], frame, frame + step)
    return found


def _visible(table: TrackTable, truth: Truth, step: int) -> NDArray[np.bool_] | None:
    """Tell for each track whether its first point is visible `step` frames later, as (K,) bool; None if unknown."""
    if truth.kind != "points":
        return None
    begin = table.starts[:-1]
    born = table.frames[begin]
    seen = np.zeros(len(begin), bool)
    for frame in np.unique(born[born + step < table.frame_count]).tolist():
        own = born == frame
        moved = truth.transfer(table.points[begin[own]], frame, frame + step)
        if moved is not None:
            seen[own] = moved[1]
    return seen


def _point_nmse(table: TrackTable, truth: Truth) -> float:
    """Compute the mean NMSE of two points of a track, `NMSE_AFTER` frames apart, under the sum of their covariances."""
    first, later = table.after(NMSE_AFTER)
    # A stationary camera vibrates by more than the uncertainty of its points.
    if truth.kind != "points" or truth.still or not len(first) or np.isnan(table.covariance).all():
        return np.nan
    residuals = _residuals(table, truth, NMSE_AFTER)
    squares = []
    for frame in np.unique(table.frames[first]).tolist():
        own = np.flatnonzero((table.frames[first] == frame) & tracks.is_correct(_lengths(residuals)))
        turn = jacobians(truth, table.points[first[own]], frame, frame + NMSE_AFTER)
        both = transform_covariances(table.covariance[first[own]], turn) + table.covariance[later[own]]
        squares.append(tracks.normalised_squares(residuals[own], both))
    return _mean(np.concatenate(squares))


def _coasted(observations: Sequence[Observation]) -> float:
    """Compute the fraction of points that were not detected; NaN if the tracker does not report it."""
    reported = [one.coasted for one in observations if one.coasted is not None]
    return _mean(np.concatenate(reported)) if reported else np.nan


def _lengths(residuals: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(residuals, axis=1))


def _median(values: NDArray[np.float64]) -> float:
    defined = values[np.isfinite(values)]
    return float(np.median(defined)) if len(defined) else np.nan


def _mean(values: NDArray[np.generic]) -> float:
    numbers = np.asarray(values, float)
    defined = numbers[np.isfinite(numbers)]
    return float(defined.mean()) if len(defined) else np.nan
