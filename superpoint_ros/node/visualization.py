"""Fields of the outputs for people: the annotated image and the keypoint cloud."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from superpoint_ros.frontend.frames import FrameResult
from superpoint_ros.node.camera import Camera, flat_cloud
from superpoint_ros.node.overlay import annotate


def annotated_fields(result: FrameResult) -> dict[str, Any]:
    """Build the fields of the annotated sensor_msgs/Image, except the header."""
    image = annotate(result)
    height, width = image.shape[:2]
    layout = {"height": height, "width": width, "encoding": "bgr8", "is_bigendian": 0, "step": width * 3}
    return {**layout, "data": image.reshape(-1)}


def cloud_fields(result: FrameResult, calibration: Camera | None, rays: Mapping[str, Any]) -> dict[str, Any]:
    """Build (N, 4) float32 points x, y, z, score: viewing rays if the calibration fits the image size, else pixels.

    The row of a keypoint without a viewing ray has NaN for x, y and z.

    Args:
        rays: the frame's `ray_fields`.
    """
    features = result.features
    if calibration is None or not rays["camera_model_of_points"]:
        points = flat_cloud(features.keypoints)
    elif result.undistort is not None:
        # The normalized points are those of the rectified camera, the cloud is in the frame of the camera itself.
        points = calibration.rays(features.keypoints)
    else:
        x, y = np.reshape(rays["normalized"], (-1, 2)).T
        points = np.column_stack((x, y, np.where(np.isnan(x), x, np.float32(1))))
    return {"points": np.column_stack((points, features.scores))}
