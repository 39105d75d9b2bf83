"""Camera calibration from sensor_msgs/CameraInfo, and viewing rays of pixels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.frontend.frames import Pinhole
from superpoint_ros.node.lenses import undistort, undistort_fisheye
from superpoint_ros.node.topics import without_transport

PINHOLE = "pinhole"
"""Name of the model without distortion."""

_BROWN, _FISHEYE, _NONE = (4, 5, 8, 12, 14), (4,), (0,)
MODELS = {
    "plumb_bob": _BROWN,
    "rational_polynomial": _BROWN,
    "thin_prism": _BROWN,
    "radtan": _BROWN,
    "radial_tangential": _BROWN,
    "brown_conrady": _BROWN,
    "equidistant": _FISHEYE,
    "fisheye": _FISHEYE,
    "kannala_brandt": _FISHEYE,
    "none": _NONE,
    "pinhole": _NONE,
}
"""Distortion models by their names in ROS, Kalibr, EuRoC and camera drivers, with the numbers of coefficients that
OpenCV accepts."""


@dataclass(frozen=True)
class Camera:
    """The calibration of a raw or rectified image (OpenCV's models, REP 104).

    Attributes:
        image_size: (height, width) that the calibration is for.
        matrix: (3, 3) K in pixels.
        distortion: coefficients D.
        fisheye: whether the distortion model is equidistant.
        model: name of the distortion model, `PINHOLE` for images without distortion.
        rotation: (3, 3) R, which rotates rays into the frame of the rectified camera.
        projection: (3, 3) camera matrix of the rectified camera, the left part of P.
        offset: x and y in metres of the left camera of a stereo pair in the frame of the rectified camera, so (0, 0) of
            a left camera and (-baseline, 0) of a right one.
    """

    image_size: tuple[int, int]
    matrix: NDArray[np.float64]
    distortion: NDArray[np.float64]
    fisheye: bool
    model: str
    rotation: NDArray[np.float64]
    projection: NDArray[np.float64]
    offset: tuple[float, float] = (0.0, 0.0)

    @staticmethod
    def from_message(message: Any, rectified: bool = False) -> Camera | None:
        """Read the calibration from a sensor_msgs/CameraInfo; None if the camera is not calibrated.

        Args:
            rectified: the image is rectified, so P applies, without distortion; otherwise K and D do.

        Raises:
            ValueError: in one sentence, if the calibration cannot be used.
        """
        matrix = np.array(message.k, np.float64).reshape(3, 3)  # a copy: the message's array may be read-only
        projective = np.array(message.p, np.float64).reshape(3, 4)
        projection = projective[:, :3]
        rotation = np.array(message.r, np.float64).reshape(3, 3)
        if not matrix[0, 0] and not (rectified and projection[0, 0]):
            return None
        distortion, fisheye = parse_distortion(message.distortion_model, message.d)
        if rectified:
            # Simulators leave P empty if there is nothing to rectify.
            if projection[0, 0] or np.any(distortion):
                matrix = projection.copy()
            distortion, fisheye = np.zeros(4), False
        check_focal_lengths(matrix, "P, which applies to the rectified image" if rectified else "K")
        focal_lengths = np.where(projection.diagonal()[:2] > 0, projection.diagonal()[:2], np.inf)
        offset_x, offset_y = projective[:2, 3] / focal_lengths
        if rectified or not np.any(projection):
            rotation, projection = np.eye(3), matrix.copy()
        if not np.any(rotation):
            rotation = np.eye(3)
        distorted = fisheye or bool(np.any(distortion))
        model = (message.distortion_model or "plumb_bob") if distorted else PINHOLE
        # A sub-sampled or cropped image has its own principal point and focal length.
        binning = np.maximum([message.binning_x, message.binning_y], 1)
        height, width = message.roi.height or message.height, message.roi.width or message.width
        size = (int(height // binning[1]), int(width // binning[0]))
        if min(size) < 1:
            raise ValueError(f"the calibration is for images of {size[1]}x{size[0]} pixels, allowed is at least 1x1")
        for each in (matrix, projection):
            each[:2, 2] -= [message.roi.x_offset, message.roi.y_offset]
            each[:2] /= binning[:, None]
        return Camera(size, matrix, distortion, fisheye, model, rotation, projection, (offset_x, offset_y))

    def pinhole(self, undistort: bool) -> Pinhole | None:
        """Return the pinhole camera of the images, or the rectified one if `undistort`; None if images are distorted.

        Raises:
            ValueError: in one sentence, if P, which `undistort` needs, is invalid.
        """
        if undistort:
            check_focal_lengths(self.projection, "P, to which points are undistorted")
            return Pinhole(self.image_size, self.projection, self.rectified_pixels)
        return Pinhole(self.image_size, self.matrix) if self.model == PINHOLE else None

    def rectified_pixels(self, pixels: NDArray[np.floating]) -> NDArray[np.float64]:
        """Convert (N, 2) pixels to those of the rectified camera; NaN for pixels without a ray in front of it."""
        return (self.rectified_rays(pixels) @ self.projection.T)[:, :2]

    def rectified_rays(self, pixels: NDArray[np.floating]) -> NDArray[np.float64]:
        """Compute (N, 3) rays of (N, 2) pixels at unit depth in the frame of the rectified camera, or NaN as above."""
        rays = self.rays(np.asarray(pixels, np.float32)).astype(np.float64) @ self.rotation.T
        depth = np.where(rays[:, 2] > 1e-6, rays[:, 2], np.nan)
        return rays / depth[:, None]

    def rays(self, keypoints: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute (N, 3) viewing rays of (N, 2) pixels at unit depth, in the optical frame (z forward, y down).

        Rows are NaN for pixels without a ray: the lens polynomials are fitted to the calibrated region, and many are
        not monotonic beyond it.
        """
        points = np.ones((len(keypoints), 3), np.float32)
        if len(keypoints):
            undo = undistort_fisheye if self.fisheye else undistort
            points[:, :2] = undo(keypoints.reshape(-1, 2).astype(np.float64), self.matrix, self.distortion)
            points[np.isnan(points[:, 0]), 2] = np.nan
        return points


def parse_distortion(model: str, coefficients: Any) -> tuple[NDArray[np.float64], bool]:
    """Convert distortion coefficients to OpenCV's, and tell whether the model is equidistant (fisheye).

    Excess trailing zeros are dropped, and no coefficients become four zeros.

    Raises:
        ValueError: in one sentence, for an unknown model, numbers that are not finite or a count that OpenCV rejects.
    """
    lengths = MODELS.get(re.sub(r"[- ]", "_", model.lower()) or "plumb_bob")
    values = np.array(coefficients, np.float64).reshape(-1)
    if not np.isfinite(values).all():
        raise ValueError(f"the distortion coefficients are {_join(values)}, allowed are finite numbers")
    if not np.any(values):
        # With zero coefficients any model is a pinhole, except the equidistant one.
        return np.zeros(4), lengths is _FISHEYE
    if lengths is None:
        raise ValueError(f"distortion model '{model}' is unknown, allowed is one of {', '.join(MODELS)}")
    if len(values) not in lengths:
        shorter = max((length for length in lengths if length < len(values)), default=0)
        if np.any(values[shorter:]):
            allowed = " or ".join(map(str, lengths))
            raise ValueError(f"distortion model '{model}' has {len(values)} coefficients, allowed are {allowed}")
        values = values[:shorter]
    return values, lengths is _FISHEYE


def check_focal_lengths(matrix: NDArray[np.float64], name: str) -> None:
    """Check that a camera matrix is physically possible.

    Raises:
        ValueError: in one sentence, if a number is not finite or a focal length is not positive.
    """
    if not np.isfinite(matrix).all():
        raise ValueError(f"{name} is {_join(matrix.reshape(-1))}, allowed are finite numbers")
    if not (matrix[0, 0] > 0 and matrix[1, 1] > 0):
        lengths = f"{matrix[0, 0]:g} and {matrix[1, 1]:g} pixels"
        raise ValueError(f"the focal lengths in {name} are {lengths}, allowed is more than 0")


def is_rectified(choice: str, topic: str) -> bool:
    """Tell whether images are rectified: by the parameter `rectified` or, for `auto`, by image_proc's topic name."""
    if choice != "auto":
        return choice == "true"
    return without_transport(topic).rpartition("/")[2].startswith("image_rect")


def _join(values: NDArray[np.float64]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def flat_cloud(keypoints: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn (N, 2) pixels into (N, 3) points (x, y, 0), for images without calibration."""
    return np.column_stack((keypoints, np.zeros(len(keypoints), np.float32))).astype(np.float32)
