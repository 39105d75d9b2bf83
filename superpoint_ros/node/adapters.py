"""What fills the topics of the adapters, the outputs in the forms of other systems."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from superpoint_ros.adapters import foxglove, rtabmap, vins
from superpoint_ros.frontend.frames import FrameResult
from superpoint_ros.node.camera import PINHOLE, Camera


class Conversions:
    """The fields of the adapters' topics for the frames of one camera, in order.

    Nested messages are dictionaries; lists of them are lists of dictionaries or (N, fields) arrays, a row for each;
    times are nanoseconds.
    """

    def __init__(self) -> None:
        self._vins = vins.OutlierFilter()

    def convert(
        self, key: str, result: FrameResult, calibration: Camera | None, rays: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        """Build the fields of a topic's message, given by its key; None means that the frame has no message.

        Args:
            rays: the frame's `ray_fields`.

        Raises:
            ValueError: in one sentence, why there is none, which is warned about.
        """
        if key == "image_annotations":
            return foxglove.image_annotations(result)
        if key == "rgbd_image":
            return rtabmap.rgbd_image(result, _view(result, calibration))
        if key == "vins_restart":
            return vins.restart(result)
        cloud = {"vins_features": vins.fusion_cloud, "vins_mono_features": vins.mono_cloud}[key]
        normalized, velocity = _motion(rays)
        return cloud(result, normalized, velocity, self._vins.kept(result, normalized))


ADAPTED = ("image_annotations", "vins_restart", "vins_features", "vins_mono_features", "rgbd_image")
"""Keys of the topics of adapters."""


def _motion(rays: Mapping[str, Any]) -> tuple[vins.Floats, vins.Floats]:
    """Return the (N, 2) normalized coordinates of keypoints and their velocities."""
    if not rays["camera_model_of_points"]:
        raise ValueError("VINS needs normalized points, but there is no camera_info for images of this size")
    normalized, velocity = (np.reshape(rays[name], (-1, 2)) for name in ("normalized", "velocity"))
    return normalized, velocity


def rgbd_pair(
    left: FrameResult, right: FrameResult, calibrations: tuple[Camera, Camera], points: rtabmap.Floats
) -> Mapping[str, Any]:
    """Build the fields of the rtabmap_msgs/msg/RGBDImage of a stereo pair.

    Args:
        points: (N, 3) position of each left keypoint in the left camera's optical frame, NaN where it is not known.

    Raises:
        ValueError: in one sentence, if the images are not rectified.
    """
    return rtabmap.rgbd_image(left, _view(left, calibrations[0]), _view(right, calibrations[1]), points)


def _view(result: FrameResult, calibration: Camera | None) -> rtabmap.View:
    if calibration is None or calibration.image_size != result.features.image_size:
        raise ValueError("RTAB-Map needs a calibration, but there is no camera_info for images of this size")
    if calibration.model != PINHOLE or not np.array_equal(calibration.rotation, np.eye(3)):
        raise ValueError("RTAB-Map takes features of rectified images only, subscribe to image_rect")
    return rtabmap.View(result.image, result.frame.context, calibration.matrix, calibration.offset[0])
