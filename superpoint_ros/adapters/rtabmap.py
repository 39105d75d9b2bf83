"""Give RTAB-Map features: as its Python detector, and as the fields of rtabmap_msgs/msg/RGBDImage."""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from superpoint_ros.adapters.opencv import to_opencv
from superpoint_ros.extraction.superpoint import SuperPoint
from superpoint_ros.features import Features
from superpoint_ros.frontend.frames import FrameResult
from superpoint_ros.io.images import to_grey

Floats = NDArray[np.float32]


class PyDetector:
    """The detector behind RTAB-Map's hook for Python, see scripts/rtabmap/superpoint_detector.py.

    The environment variables SUPERPOINT_WEIGHTS and SUPERPOINT_MAX_KEYPOINTS replace the defaults of weights and
    max_keypoints.

    Args:
        cuda: whether a GPU may be used.

    Raises:
        ValueError: in one sentence, if a variable is invalid.
    """

    def __init__(self, cuda: bool) -> None:
        weights, count = (os.environ.get(f"SUPERPOINT_{name}") for name in ("WEIGHTS", "MAX_KEYPOINTS"))
        if count is not None and not count.isdigit():
            raise ValueError(f"SUPERPOINT_MAX_KEYPOINTS is '{count}', allowed is an integer of at least 1")
        self._superpoint = SuperPoint(
            weights or "default", max_keypoints=int(count or 1000), device="auto" if cuda else "cpu"
        )

    def detect(self, image: NDArray[np.uint8]) -> tuple[Floats, Floats]:
        """Extract (N, 3) x, y, score and (N, D) descriptors, both contiguous, from an (H, W) grey image.

        RTAB-Map reads the memory of both as float32, row by row, and reuses that of the image.
        """
        features = self._superpoint.extract(np.array(image, np.uint8))
        keypoints = np.column_stack((features.keypoints, features.scores))
        return np.ascontiguousarray(keypoints, np.float32), np.ascontiguousarray(features.descriptors, np.float32)


def compress(matrix: NDArray[Any]) -> NDArray[np.uint8]:
    """Pack a float32 or uint8 matrix as RTAB-Map does: zlib of its rows, then rows, columns and type as int32."""
    if not matrix.size:
        return np.zeros(0, np.uint8)
    type_ = {np.dtype(np.float32): cv2.CV_32F, np.dtype(np.uint8): cv2.CV_8U}[matrix.dtype]
    # Level 0 stores the rows as they are: others save 7 % of descriptors and take longer than the network.
    data = zlib.compress(np.ascontiguousarray(matrix).tobytes(), 0) + struct.pack("<iii", *matrix.shape, type_)
    return np.frombuffer(data, np.uint8)


@dataclass(frozen=True)
class View:
    """An image of a rectified camera.

    Attributes:
        image: (H, W) grey or (H, W, 3) BGR uint8.
        header: the image's.
        matrix: (3, 3) camera matrix.
        offset: x in metres of the left camera in this camera's frame, 0 for a left or only camera.
    """

    image: NDArray[np.uint8]
    header: Any
    matrix: NDArray[np.float64]
    offset: float = 0.0


def rgbd_image(
    result: FrameResult, view: View, right: View | None = None, points: Floats | None = None
) -> dict[str, Any]:
    """Build the fields of rtabmap_msgs/msg/RGBDImage, except the header; RTAB-Map takes its features for its own.

    Args:
        result: of the only camera, or of the left one.
        view: of the same camera.
        right: of the right camera of a stereo pair, which the message has in the place of depth.
        points: (N, 3) position of each keypoint in the camera's optical frame in metres, NaN where it is not known.
    """
    features, header = result.features, view.header
    nothing = np.zeros(0, np.uint8)
    right = right or View(np.zeros((0, 0), np.uint8), header, np.zeros((3, 3)))
    compressed = {"header": header, "format": "", "data": nothing}
    return {
        "rgb_camera_info": _camera_info(view),
        "depth_camera_info": _camera_info(right),
        "rgb": _image(view),
        "depth": _image(right),
        "rgb_compressed": compressed,
        "depth_compressed": compressed,
        "key_points": _key_points(features, result.track_ids),
        "points": np.zeros((0, 3), np.float32) if points is None else points,
        "descriptors": compress(features.descriptors),
        "global_descriptor": {"header": header, "type": 0, "info": nothing, "data": nothing},
    }


def _key_points(features: Features, track_ids: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Build the rtabmap_msgs/KeyPoint of each keypoint."""
    keypoints, _ = to_opencv(features, track_ids if len(track_ids) else None)
    return [
        {
            "pt": dict(zip("xy", keypoint.pt, strict=True)),
            **{name: getattr(keypoint, name) for name in ("size", "angle", "response", "octave", "class_id")},
        }
        for keypoint in keypoints
    ]


def _image(view: View) -> dict[str, Any]:
    """Build a mono8 sensor_msgs/Image."""
    grey = to_grey(view.image) if view.image.size else view.image
    height, width = grey.shape
    encoding = "mono8" if grey.size else ""
    layout = {"height": height, "width": width, "encoding": encoding, "is_bigendian": 0, "step": width}
    return {"header": view.header, **layout, "data": np.ascontiguousarray(grey).reshape(-1)}


def _camera_info(view: View) -> dict[str, Any]:
    """Build the sensor_msgs/CameraInfo of a rectified camera; all zero without an image."""
    height, width = view.image.shape[:2]
    projection = np.column_stack((view.matrix, [view.matrix[0, 0] * view.offset, 0, 0]))
    region = {"x_offset": 0, "y_offset": 0, "height": 0, "width": 0, "do_rectify": False}
    return {
        "header": view.header,
        "height": height,
        "width": width,
        "distortion_model": "plumb_bob" if view.image.size else "",
        "d": np.zeros(5 if view.image.size else 0),
        "k": view.matrix.reshape(-1),
        "r": np.eye(3).reshape(-1) if view.image.size else np.zeros(9),
        "p": projection.reshape(-1),
        "binning_x": 0,
        "binning_y": 0,
        "roi": region,
    }
