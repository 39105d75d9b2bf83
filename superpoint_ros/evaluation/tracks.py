"""Metrics of tracks on arrays: length, error, and consistency of covariances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WRONG = 3.0
"""Error in pixels above which a match counts as wrong, not imprecise."""

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Observation:
    """The output of a tracker for one frame: the points of its tracks, and matches with an earlier frame.

    Attributes:
        points: (N, 2) pixels.
        ids: (N,) int64 of the tracks.
        covariance: (N, 3) of each point in px^2, as xx, xy, yy; None if the tracker estimates none.
        coasted: (N,) bool, points tracked without a detection; None if the tracker does not report it.
        reference: index of the frame that the matches refer to; -1 if there is none.
        reference_points, match_points: (M, 2) positions of the matches in that frame and in this one.
        match_covariance: (M, 3) of each match's displacement in px^2, as xx, xy, yy; None if not estimated.
    """

    points: Points
    ids: NDArray[np.int64]
    covariance: NDArray[np.float64] | None
    coasted: NDArray[np.bool_] | None
    reference: int
    reference_points: Points
    match_points: Points
    match_covariance: NDArray[np.float64] | None

    @staticmethod
    def empty() -> Observation:
        """Create an observation without tracks and matches."""
        none = np.zeros((0, 2))
        return Observation(none, np.zeros(0, np.int64), None, None, -1, none, none, None)


@dataclass(frozen=True)
class TrackTable:
    """All points of all tracks of a sequence, ordered by track and then by frame.

    Attributes:
        ids, frames: (T,) int64.
        points: (T, 2) pixels.
        covariance: (T, 3) in px^2, NaN if not estimated.
        starts: (K + 1,) int64, first row of each of the K tracks, and T.
        frame_count: number of frames of the sequence.
    """

    ids: NDArray[np.int64]
    frames: NDArray[np.int64]
    points: Points
    covariance: NDArray[np.float64]
    starts: NDArray[np.int64]
    frame_count: int

    @staticmethod
    def from_observations(observations: Sequence[Observation]) -> TrackTable:
        """Build the table from the observations of all frames of a sequence, in order."""
        parts = [(np.full(len(o.ids), i), o.ids, o.points, _covariance_or_nan(o)) for i, o in enumerate(observations)]
        empty = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 2)), np.zeros((0, 3)))
        frames, ids, points, covariance = (np.concatenate(column) for column in zip(empty, *parts, strict=True))
        order = np.lexsort((frames, ids))
        ids = ids[order]
        starts = np.flatnonzero(np.diff(ids, prepend=ids[0] - 1, append=ids[-1] + 1)) if len(ids) else np.zeros(1, int)
        return TrackTable(ids, frames[order], points[order], covariance[order], starts, len(observations))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Return the (K,) number of points of each track."""
        return np.diff(self.starts)

    def after(self, frames: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows of each track's first point and of its point `frames` later, for tracks with both."""
        first = np.repeat(self.starts[:-1], self.lengths)
        later = np.flatnonzero(self.frames - self.frames[first] == frames)
        return first[later], later


def _covariance_or_nan(observation: Observation) -> NDArray[np.float64]:
    return np.full((len(observation.ids), 3), np.nan) if observation.covariance is None else observation.covariance


def weighted_length(lengths: NDArray[np.int64]) -> float:
    """Compute the mean length of tracks weighted by their points: the expected length for a random point.

    NaN without tracks.
    """
    return float((lengths.astype(float) ** 2).sum() / lengths.sum()) if len(lengths) else np.nan


def alive(table: TrackTable) -> NDArray[np.int64]:
    """Count the points of each frame that were seen before, as (frames,)."""
    old = np.ones(len(table.frames), bool)
    old[table.starts[:-1]] = False
    return np.bincount(table.frames[old], minlength=table.frame_count)


def survival(table: TrackTable, frames: int, visible: NDArray[np.bool_] | None = None) -> float:
    """Compute the fraction of tracks still published after `frames`; NaN if there can be none.

    Tracks that start too late in the sequence do not count.

    Args:
        visible: (K,) whether each track's first point is still visible then; others do not count. None: all are.
    """
    born = table.frames[table.starts[:-1]]
    counted = born + frames < table.frame_count
    if visible is not None:
        counted &= visible
    reached = np.isin(table.starts[:-1], table.after(frames)[0])
    return float(reached[counted].mean()) if counted.any() else np.nan


def scatter(table: TrackTable, least: int = 10) -> NDArray[np.float64]:
    """Compute the root mean square distance of each track's points from their mean, for a stationary camera.

    The common motion of all points of a frame (their median) is the vibration of the camera and is subtracted. Only
    tracks of at least `least` points count. The divisor is the number of points minus one, so that the scatter does not
    depend on the length.
    """
    lengths = table.lengths
    long = lengths >= max(least, 2)
    rows = np.flatnonzero(np.repeat(long, lengths))
    lengths = lengths[long]
    track, frames = np.repeat(np.arange(len(lengths)), lengths), table.frames[rows]
    points = table.points[rows]
    for _ in range(3):  # short tracks slightly bias the common motion
        points = points - _means(points, track, lengths)[track]
        common = np.zeros((table.frame_count, 2))
        for frame in np.unique(frames).tolist():
            common[frame] = np.median(points[frames == frame], axis=0)
        points = points - common[frames]
    points = points - _means(points, track, lengths)[track]
    return np.asarray(np.sqrt(np.bincount(track, (points**2).sum(axis=1), len(lengths)) / (lengths - 1)))


def _means(points: Points, track: NDArray[np.int64], lengths: NDArray[np.int64]) -> Points:
    sums = [np.bincount(track, points[:, axis], len(lengths)) for axis in (0, 1)]
    return np.column_stack(sums) / lengths[:, None]


def is_correct(errors: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which errors (in pixels) are those of correct matches; NaN is not."""
    return np.asarray(errors <= WRONG)


def normalised_squares(residuals: Points, covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute (N,) squared Mahalanobis distances of residuals (N, 2) under covariances (N, 3) of xx, xy, yy.

    Their mean is 2 if the covariances are consistent; NaN if a covariance is missing or not positive definite.
    """
    xx, xy, yy = np.asarray(covariance, float).T
    x, y = np.asarray(residuals, float).T
    determinant = xx * yy - xy**2
    with np.errstate(invalid="ignore", divide="ignore"):
        squares = (yy * x**2 - 2 * xy * x * y + xx * y**2) / determinant
        return np.where((determinant > 0) & (xx > 0), squares, np.nan)
