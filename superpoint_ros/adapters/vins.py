"""Convert results of frames to what the estimators of VINS read instead of their own feature tracker.

VINS-Fusion and SuperVINS read nine channels, VINS-Mono five, in which the number of the camera is part of the id.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.features import Status
from superpoint_ros.frontend.frames import FrameResult

Floats = NDArray[np.float32]

_IDS = 2**24
"""Ids repeat after this number: channels are float32, which has no larger odd integers."""
_FUSION = ("id", "camera_id", "u", "v", "velocity_x", "velocity_y", "x", "y", "z")
_MONO = ("id", "u", "v", "velocity_x", "velocity_y")


def fusion_cloud(result: FrameResult, normalized: Floats, velocity: Floats) -> dict[str, Any]:
    """Build the fields of the sensor_msgs/PointCloud that VINS-Fusion and SuperVINS read, except the header.

    The last three channels, which they read if there are more than five, are true positions, here 0.

    Args:
        normalized: (N, 2) undistorted normalized coordinates of each keypoint, NaN where there are none.
        velocity: (N, 2) their rates of change per second.

    Raises:
        ValueError: in one sentence, if there are no tracks.
    """
    return _cloud(result, normalized, velocity, _FUSION)


def mono_cloud(result: FrameResult, normalized: Floats, velocity: Floats) -> dict[str, Any]:
    """Build the fields of the sensor_msgs/PointCloud that VINS-Mono reads, see `fusion_cloud`."""
    return _cloud(result, normalized, velocity, _MONO)


def restart(result: FrameResult) -> dict[str, Any] | None:
    """Build the fields of the std_msgs/Bool that restarts an estimator where the tracks end; None where they do not."""
    return {"data": True} if result.homography.status in (Status.TIME_JUMP, Status.IMAGE_CHANGED) else None


def _cloud(result: FrameResult, normalized: Floats, velocity: Floats, names: tuple[str, ...]) -> dict[str, Any]:
    """Collect the tracks of two frames or more; the estimators need a velocity, and their trackers do the same."""
    if len(result.track_ages) != len(result.features):
        raise ValueError("VINS needs tracks, but parameter 'tracking' is false")
    usable = (result.track_ages > 0) & np.isfinite(normalized).all(axis=1) & np.isfinite(velocity).all(axis=1)
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
