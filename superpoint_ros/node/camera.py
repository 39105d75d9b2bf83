"""A camera's calibration, as sensor_msgs/CameraInfo states it: pixels -> viewing rays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_BROWN = ("plumb_bob", "rational_polynomial")
_FISHEYE = ("equidistant", "fisheye")


@dataclass(frozen=True)
class Camera:
    """Calibration of the raw image (OpenCV's models, REP 104).

    Attributes:
        image_size: (height, width) that the calibration holds for.
        matrix: (3, 3) K in pixels.
        distortion: coefficients D.
        fisheye: whether D is of the equidistant model.
    """

    image_size: tuple[int, int]
    matrix: NDArray[np.float64]
    distortion: NDArray[np.float64]
    fisheye: bool

    @staticmethod
    def from_message(message: Any) -> Camera | None:
        """The calibration in a sensor_msgs/CameraInfo, or None where the camera is not calibrated.

        Raises:
            ValueError: if the distortion model is unknown.
        """
        matrix = np.array(message.k, np.float64).reshape(3, 3)  # a copy: the message's own may be read-only
        if matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
            return None
        model = message.distortion_model
        distortion = np.asarray(message.d, np.float64)
        if model and model not in _BROWN + _FISHEYE:
            raise ValueError(f"distortion model '{model}' is unknown, allowed is one of {', '.join(_BROWN + _FISHEYE)}")
        if not np.any(distortion):
            distortion = np.zeros(4)
        # A sub-sampled or cropped image has its own principal point and focal length.
        binning = np.maximum([message.binning_x, message.binning_y], 1)
        matrix[:2, 2] -= [message.roi.x_offset, message.roi.y_offset]
        matrix[:2] /= binning[:, None]
        height, width = message.roi.height or message.height, message.roi.width or message.width
        return Camera((height // binning[1], width // binning[0]), matrix, distortion, model in _FISHEYE)

    def rays(self, keypoints: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 2) pixels -> (N, 3) viewing rays at unit depth in the optical frame (z forward, x right, y down)."""
        points = np.ones((len(keypoints), 3), np.float32)
        if len(keypoints):
            pixels = keypoints.reshape(-1, 1, 2).astype(np.float64)
            if self.fisheye:
                rays = cv2.fisheye.undistortPoints(pixels, self.matrix, self.distortion[:4])
            else:
                rays = _undistorted(pixels, self.matrix, self.distortion)
            points[:, :2] = rays.reshape(-1, 2)
        return points


def _undistorted(pixels: NDArray[np.float64], matrix: NDArray[np.float64], distortion: NDArray[np.float64]) -> Any:
    # Left to itself OpenCV stops after 5 iterations, a quarter of a pixel off in the corners of EuRoC's lens.
    exact = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-9)
    opencv4 = getattr(cv2, "undistortPointsIter", None)
    if opencv4 is not None:
        return opencv4(pixels, matrix, distortion, None, None, exact)
    return cv2.undistortPoints(pixels, matrix, distortion, criteria=exact)


def flat_cloud(keypoints: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 2) pixels -> (N, 3) points (x, y, 0), for images without a calibration."""
    return np.column_stack((keypoints, np.zeros(len(keypoints), np.float32))).astype(np.float32)
