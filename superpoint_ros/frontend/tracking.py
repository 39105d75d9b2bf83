"""Tracks: the identity and the position of a point over several frames.

Detections are unbiased but have an error of half a pixel; optical flow is precise between consecutive frames but
accumulates errors. A small Kalman filter per track uses the flow as motion and the detections as measurements. Its
state
is, in each direction, the drift since the start of the track and the constant offset of the detections from its start:
    the
first detection had an error, too, and must not pull the track away.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_DETECTION_VARIANCE = 0.1
"""Variance of a detection about its mean position in one direction, in px^2, measured on simulated flights."""

_LEAST_VARIANCE = 1e-4  # px^2

_DRIFT = 1e-3
"""By so much the variance of a track's place grows with each frame, in px^2, measured on simulations: the predicted
distortion of its surroundings is a little off. The filter leaves it out, since detections are no help against it."""

_GATE = 9.0
"""Multiple of the innovation's variance beyond which detections are down-weighted: they are of another corner."""


@dataclass(frozen=True)
class TrackState:
    """The tracks of N keypoints of a frame.

    Attributes:
        ids: (N,) int64, never reused.
        ages: (N,) int64, frames since the track started.
        missed: (N,) int64, frames since its last detection.
        warps: (N, 2, 2) distortion of the patch since the track's template was taken.
        shift: (N, 2) pixels from the centre of the template to the keypoint, in the template.
        offset: (N, 2) estimated pixels from the keypoint to the mean of its detections.
        drift: (N,) variance of the template's position in one direction, px^2: 0 for a track's first one.
        cross: (N,) covariance of drift and offset, px^2.
        spread: (N,) variance of the offset, px^2.
        variance: (N,) of the keypoint's position in one direction, px^2, since the track started.
    """

    ids: NDArray[np.int64]
    ages: NDArray[np.int64]
    missed: NDArray[np.int64]
    warps: Floats
    shift: Floats
    offset: Floats
    drift: Floats
    cross: Floats
    spread: Floats
    variance: Floats

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, chosen: NDArray[np.integer]) -> TrackState:
        """Return the tracks of selected keypoints."""
        return TrackState(*(getattr(self, field.name)[chosen] for field in fields(self)))

    @staticmethod
    def merge(*parts: tuple[NDArray[np.integer], TrackState]) -> TrackState:
        """Scatter the tracks of some keypoints to all keypoints of a frame."""
        count = sum(len(index) for index, _ in parts)
        columns = []
        for field in fields(TrackState):
            first = getattr(parts[0][1], field.name)
            column = np.empty((count, *first.shape[1:]), first.dtype)
            for index, state in parts:
                column[index] = getattr(state, field.name)
            columns.append(column)
        return TrackState(*columns)

    def covariance(self, detection: Floats) -> Floats:
        """Covariance (N, 3) of the keypoints as xx, xy, yy in px^2: of what they have moved away from where the track
        began, and, of a track that begins, of its detection, which is given for all (N, 3)."""
        usual = (detection[:, 0] + detection[:, 2]) / 2
        variance = np.maximum(self.variance, _LEAST_VARIANCE) + _DRIFT * self.ages
        scale = np.where(self.ages > 0, variance / usual, 1)
        return np.asarray(detection * scale[:, None], np.float32)


def follow(before: TrackState, warps: Floats, variance: Floats) -> TrackState:
    """Propagate tracks by a frame with flow but without detections.

    Args:
        before: of N tracks.
        warps: (N, 2, 2) distortion of the patches since the previous frame.
        variance: (N,) of the flow's position in one direction, px^2.
    """
    return replace(
        before,
        ages=before.ages + 1,
        missed=before.missed + 1,
        warps=warps @ before.warps,
        offset=np.einsum("nij,nj->ni", warps, before.offset),
        variance=before.drift + variance,
    )


def fuse(
    before: TrackState, flow: Floats, variance: Floats, warps: Floats, detected: Floats
) -> tuple[Floats, TrackState]:
    """Propagate tracks by a frame with flow and detections.

    Args:
        before, warps, variance: as for `follow`.
        flow: (N, 2) positions by flow, in pixels.
        detected: (N, 2) positions of the detections, in pixels.

    Returns:
        (N, 2) float32 positions, and the state of the tracks.
    """
    moved = follow(before, warps, variance)
    innovation = detected - flow - moved.offset
    total = moved.drift - 2 * moved.cross + moved.spread + variance + _DETECTION_VARIANCE
    # A distant detection is of another corner nearby: robust weights keep the track from jumping.
    total = total * np.maximum(1, (innovation**2).sum(axis=1) / (_GATE * total)) ** 2
    by_drift = (moved.drift - moved.cross) / total
    by_offset = (moved.spread - moved.cross) / total
    correction = by_drift[:, None] * innovation
    drift = moved.drift - by_drift * (moved.drift - moved.cross)
    state = replace(
        moved,
        missed=np.zeros_like(moved.missed),
        shift=moved.shift + _solved(moved.warps, correction),
        offset=moved.offset + by_offset[:, None] * innovation,
        drift=drift,
        cross=moved.cross + by_drift * (moved.spread - moved.cross),
        spread=moved.spread - by_offset * (moved.spread - moved.cross),
        variance=drift + variance,
    )
    return (flow + correction).astype(np.float32), state


def _solved(matrices: Floats, right: Floats) -> Floats:
    (a, b), (c, d) = matrices.transpose(1, 2, 0)
    x, y = right.T
    return np.stack((d * x - b * y, a * y - c * x), axis=1) / (a * d - b * c)[:, None]


def renew(state: TrackState, chosen: NDArray[np.bool_]) -> TrackState:
    """Update the state of selected tracks whose templates are replaced."""
    identity = np.eye(2, dtype=np.float32)
    return replace(
        state,
        warps=np.where(chosen[:, None, None], identity, state.warps),
        shift=np.where(chosen[:, None], 0, state.shift),
        drift=np.where(chosen, np.where(state.ages > 0, state.variance, 0), state.drift),
    )


def restart(before: TrackState) -> TrackState:
    """Update the state of tracks that continue at their detection, because flow failed."""
    detection = np.full_like(before.spread, _DETECTION_VARIANCE)
    return replace(
        before,
        ages=before.ages + 1,
        missed=np.zeros_like(before.missed),
        offset=np.zeros_like(before.offset),
        cross=np.zeros_like(before.cross),
        spread=detection,
        variance=before.spread + detection,
    )


@dataclass
class TrackIds:
    """Assigns unique ids for one camera."""

    next: int = 0

    def begin(self, count: int) -> TrackState:
        """Start new tracks at their first detections."""
        ids = np.arange(self.next, self.next + count)
        self.next += count
        whole, real = np.zeros(count, np.int64), np.zeros(count, np.float32)
        pairs = np.zeros((count, 2), np.float32)
        warps = np.tile(np.eye(2, dtype=np.float32), (count, 1, 1))
        spread = np.full(count, _DETECTION_VARIANCE, np.float32)
        return TrackState(ids, whole, whole, warps, pairs, pairs, real, real, spread, real)
