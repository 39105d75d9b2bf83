"""Convert results of frames to what the estimators of VINS read instead of their own feature tracker.

VINS-Fusion and SuperVINS read nine channels, VINS-Mono five, in which the number of the camera is part of the id.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from superpoint_ros.features import Status
from superpoint_ros.frontend.frames import FrameResult

Floats = NDArray[np.float32]

_IDS = 2**24
"""Ids repeat after this number: channels are float32, which has no larger odd integers."""
_FOCAL_LENGTH, _THRESHOLD = 460.0, 1.0
"""In pixels, of the virtual camera in which VINS looks for outliers, and their minimum epipolar error."""
_LEAST_TRACKS = 8
_FUSION = ("id", "camera_id", "u", "v", "velocity_x", "velocity_y", "x", "y", "z")
_MONO = ("id", "u", "v", "velocity_x", "velocity_y")


class OutlierFilter:
    """Rejects tracks for good once they contradict the epipolar geometry of two frames.

    The estimators start by a reconstruction that a few wrong tracks spoil, and take a track that returns for one
    without a gap. Their own tracker rejects outliers in the same way.
    """

    def __init__(self) -> None:
        self._rejected: NDArray[np.int64] = np.zeros(0, np.int64)
        self._before: tuple[NDArray[np.int64], Floats] = np.zeros(0, np.int64), np.zeros((0, 2), np.float32)
        self._last: tuple[FrameResult, NDArray[np.bool_]] | None = None

    def kept(self, result: FrameResult, normalized: Floats) -> NDArray[np.bool_]:
        """Tell which keypoints of a frame have tracks that were never rejected.

        Args:
            normalized: (N, 2) undistorted normalized coordinates of each keypoint, NaN where there are none.
        """
        if len(result.track_ids) != len(normalized):
            return np.ones(len(normalized), bool)  # without tracking
        if self._last is None or self._last[0] is not result:
            self._update(result.track_ids, normalized)
            self._last = result, ~np.isin(result.track_ids, self._rejected)
        return self._last[1]

    def _update(self, ids: NDArray[np.int64], normalized: Floats) -> None:
        self._rejected = np.intersect1d(self._rejected, ids)  # ended tracks do not return
        known = np.isfinite(normalized).all(axis=1) & ~np.isin(ids, self._rejected)
        ids, normalized = ids[known], normalized[known]
        common, first, second = np.intersect1d(self._before[0], ids, return_indices=True)
        if len(common) >= _LEAST_TRACKS:
            pair = (_FOCAL_LENGTH * self._before[1][first], _FOCAL_LENGTH * normalized[second])
            _, inliers = cv2.findFundamentalMat(*pair, cv2.FM_RANSAC, _THRESHOLD, 0.99)
            if inliers is not None:
                self._rejected = np.union1d(self._rejected, common[inliers.ravel() == 0])
        self._before = ids, normalized


def fusion_cloud(
    result: FrameResult, normalized: Floats, velocity: Floats, kept: NDArray[np.bool_] | None = None
) -> dict[str, Any]:
    """Build the fields of the sensor_msgs/PointCloud that VINS-Fusion and SuperVINS read, except the header.

    The last three channels, which they read if there are more than five, are true positions, here 0.

    Args:
        normalized: (N, 2) undistorted normalized coordinates of each keypoint, NaN where there are none.
        velocity: (N, 2) their rates of change per second.
        kept: (N,) bool, of `OutlierFilter`; None for all.

    Raises:
        ValueError: in one sentence, if there are no tracks.
    """
    return _cloud(result, normalized, velocity, _FUSION, kept)


def mono_cloud(
    result: FrameResult, normalized: Floats, velocity: Floats, kept: NDArray[np.bool_] | None = None
) -> dict[str, Any]:
    """Build the fields of the sensor_msgs/PointCloud that VINS-Mono reads, see `fusion_cloud`."""
    return _cloud(result, normalized, velocity, _MONO, kept)


def restart(result: FrameResult) -> dict[str, Any] | None:
    """Build the fields of the std_msgs/Bool that restarts an estimator where the tracks end; None where they do not."""
    return {"data": True} if result.homography.status in (Status.TIME_JUMP, Status.IMAGE_CHANGED) else None


def _cloud(
    result: FrameResult,
    normalized: Floats,
    velocity: Floats,
    names: tuple[str, ...],
    kept: NDArray[np.bool_] | None,
) -> dict[str, Any]:
    """Collect the tracks of two frames or more; the estimators need a velocity, and their trackers do the same."""
    if len(result.track_ages) != len(result.features):
        raise ValueError("VINS needs tracks, but parameter 'tracking' is false")
    usable = (result.track_ages > 0) & np.isfinite(normalized).all(axis=1) & np.isfinite(velocity).all(axis=1)
    if kept is not None:
        usable &= kept
    count = int(np.count_nonzero(usable))
    columns = {
        "id": result.track_ids[usable] % _IDS,
        "u": result.features.keypoints[usable, 0],
        "v": result.features.keypoints[usable, 1],
        "velocity_x": velocity[usable, 0],
        "velocity_y": velocity[usable, 1],
    }
    zeros = np.zeros(count, np.float32)
    return {
        "points": np.column_stack((normalized[usable], np.ones(count, np.float32))).astype(np.float32),
        "channels": [{"name": name, "values": np.float32(columns.get(name, zeros))} for name in names],
    }
