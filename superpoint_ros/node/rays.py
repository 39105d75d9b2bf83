"""Published points of calibrated cameras: in pixels of the ideal camera, normalised, and how fast they move."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.frontend.frames import FrameResult
from superpoint_ros.node.camera import PINHOLE, Camera
from superpoint_ros.two_view.geometry import transform_covariances

Floats = NDArray[np.float32]


def ray_fields(result: FrameResult, calibration: Camera | None) -> dict[str, Any]:
    """Fields `camera_model_of_points`, `normalized` and `velocity` of superpoint_ros/msg/Features."""
    nothing = np.zeros(0, np.float32)
    if calibration is None or calibration.image_size != result.features.image_size:
        return {"camera_model_of_points": "", "normalized": nothing, "velocity": nothing}
    ideal = result.undistort is not None
    normalized = _normalized(calibration, result.features.keypoints, ideal)
    return {
        "camera_model_of_points": PINHOLE if ideal else calibration.model,
        "normalized": normalized.reshape(-1),
        "velocity": _velocity(result, calibration, normalized, ideal).reshape(-1),
    }


def published_covariance(
    result: FrameResult, covariance: Floats | None, chosen: NDArray[np.integer] | None = None
) -> Floats | None:
    """Transform covariances of keypoints to the pixels that are published, those of the frame's ideal camera.

    Args:
        covariance: (N, 3) as xx, xy, yy in pixels of the image.
        chosen: (N,) indices of the keypoints they belong to; None for all.
    """
    if covariance is None or (slopes := result.point_slopes) is None:
        return covariance
    return transform_covariances(covariance, slopes if chosen is None else slopes[chosen]).astype(np.float32)


def _normalized(calibration: Camera, keypoints: Floats, ideal: bool) -> Floats:
    rays = calibration.rectified_rays(keypoints) if ideal else calibration.rays(keypoints)
    return rays[:, :2].astype(np.float32)


def _velocity(result: FrameResult, calibration: Camera, normalized: Floats, ideal: bool) -> Floats:
    if not len(result.track_ages):
        return np.zeros((0, 2), np.float32)
    velocity = np.zeros_like(normalized)
    if result.reference is not None and result.frame.stamp > result.reference_stamp:
        first, second = result.matches.indices[result.track_ages[result.matches.indices[:, 1]] > 0].T
        before = _normalized(calibration, result.reference.keypoints[first], ideal)
        seconds = (result.frame.stamp - result.reference_stamp) * 1e-9
        velocity[second] = (normalized[second] - before) / np.float32(seconds)
    return velocity
