"""How long tracks live, how far they are off, and how honest their covariances are: measures on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WRONG = 3.0
"""Pixels from the truth beyond which a match counts as wrong and not as inexact."""

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Observation:
    """What a tracker publishes for one frame: its tracks' points, and matches with a frame before.

    Attributes:
        points: (N, 2) pixels.
        ids: (N,) int64 of the tracks.
        covariance: (N, 3) of each point in px^2, as xx, xy, yy; None where the tracker states none.
        coasted: (N,) bool, points that were followed without being detected; None where the tracker does not say.
        reference: index of the frame that the matches lead back to; -1 where there is none.
        reference_points, match_points: (M, 2) places of the matches in that frame and in this one.
        match_covariance: (M, 3) of each match's displacement in px^2, as xx, xy, yy; None where none is stated.
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
        """Neither tracks nor matches."""
        none = np.zeros((0, 2))
        return Observation(none, np.zeros(0, np.int64), None, None, -1, none, none, None)


@dataclass(frozen=True)
class TrackTable:
    """All points of all tracks of a sequence, ordered by track and then by frame.

    Attributes:
        ids, frames: (T,) int64.
        points: (T, 2) pixels.
        covariance: (T, 3) in px^2, NaN where none is stated.
        starts: (K + 1,) int64, row at which each of the K tracks begins, and T.
        frame_count: of the sequence.
    """

    ids: NDArray[np.int64]
    frames: NDArray[np.int64]
    points: Points
    covariance: NDArray[np.float64]
    starts: NDArray[np.int64]
    frame_count: int

    @staticmethod
    def of(observations: Sequence[Observation]) -> TrackTable:
        """The table of what was published for the frames of a sequence, in their order."""
        parts = [(np.full(len(o.ids), i), o.ids, o.points, _stated(o)) for i, o in enumerate(observations)]
        empty = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 2)), np.zeros((0, 3)))
        frames, ids, points, covariance = (np.concatenate(column) for column in zip(empty, *parts, strict=True))
        order = np.lexsort((frames, ids))
        ids = ids[order]
        starts = np.flatnonzero(np.diff(ids, prepend=ids[0] - 1, append=ids[-1] + 1)) if len(ids) else np.zeros(1, int)
        return TrackTable(ids, frames[order], points[order], covariance[order], starts, len(observations))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(K,) points of each track."""
        return np.diff(self.starts)

    def after(self, frames: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of the first point of each track and of its point so many frames later, for tracks that have both."""
        first = np.repeat(self.starts[:-1], self.lengths)
        later = np.flatnonzero(self.frames - self.frames[first] == frames)
        return first[later], later


def _stated(observation: Observation) -> NDArray[np.float64]:
    return np.full((len(observation.ids), 3), np.nan) if observation.covariance is None else observation.covariance


def weighted_length(lengths: NDArray[np.int64]) -> float:
    """Mean number of frames of a track, each track weighted by its points: the length that a point taken at random
    belongs to. NaN without tracks."""
    return float((lengths.astype(float) ** 2).sum() / lengths.sum()) if len(lengths) else np.nan


def alive(table: TrackTable) -> NDArray[np.int64]:
    """(frames,) points whose track was there before."""
    old = np.ones(len(table.frames), bool)
    old[table.starts[:-1]] = False
    return np.bincount(table.frames[old], minlength=table.frame_count)


def survival(table: TrackTable, frames: int, visible: NDArray[np.bool_] | None = None) -> float:
    """Share of the tracks that are still published after so many frames. NaN where no track could be.

    Args:
        visible: (K,) whether each track's first point can still be seen then; others do not count. None: all can.
            Tracks that begin so late that the sequence ends before do not count either.
    """
    born = table.frames[table.starts[:-1]]
    counted = born + frames < table.frame_count
    if visible is not None:
        counted &= visible
    reached = np.isin(table.starts[:-1], table.after(frames)[0])
    return float(reached[counted].mean()) if counted.any() else np.nan


def scatter(table: TrackTable, least: int = 10) -> NDArray[np.float64]:
    """Root mean square distance of each track's points from their mean, for a camera that stands.

    What all points of a frame have in common (their median) is the camera's own shaking and does not count. Only tracks
    of at least `least` points do. The number of points less one divides, so that the scatter does not depend on the
    length.
    """
    lengths = table.lengths
    long = lengths >= max(least, 2)
    rows = np.flatnonzero(np.repeat(long, lengths))
    lengths = lengths[long]
    track, frames = np.repeat(np.arange(len(lengths)), lengths), table.frames[rows]
    points = table.points[rows]
    for _ in range(3):  # tracks that end early shift the means of the others' frames a little
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


def right(errors: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which errors (in pixels) are those of right matches; NaN is none."""
    return np.asarray(errors <= WRONG)


def normalised_squares(residuals: Points, covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) squared Mahalanobis lengths of residuals (N, 2) under covariances (N, 3) of xx, xy, yy.

    Their mean is 2 where the covariances are honest; NaN where a covariance is not stated or not positive definite.
    """
    xx, xy, yy = np.asarray(covariance, float).T
    x, y = np.asarray(residuals, float).T
    determinant = xx * yy - xy**2
    with np.errstate(invalid="ignore", divide="ignore"):
        squares = (yy * x**2 - 2 * xy * x * y + xx * y**2) / determinant
        return np.where((determinant > 0) & (xx > 0), squares, np.nan)


def transformed(covariance: NDArray[np.float64], jacobians: NDArray[np.float64]) -> NDArray[np.float64]:
    """J C J^T for covariances (N, 3) of xx, xy, yy and Jacobians (N, 2, 2), as (N, 3) again."""
    xx, xy, yy = np.asarray(covariance, float).T
    full = np.stack([np.stack([xx, xy], -1), np.stack([xy, yy], -1)], -2)
    turned = jacobians @ full @ np.swapaxes(jacobians, -1, -2)
    return np.stack([turned[:, 0, 0], turned[:, 0, 1], turned[:, 1, 1]], -1)
