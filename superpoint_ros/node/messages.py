"""Convert features and matched homographies to and from the fields of the package's messages, for any ROS library.

Numbers are NumPy arrays here; each host converts them to what its library accepts fastest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.features import Features
from superpoint_ros.frontend.frames import FrameResult
from superpoint_ros.node.rays import published_covariance, ray_fields

FLOAT32, FLOAT16 = 0, 1
DESCRIPTOR_TYPES = {"float32": FLOAT32, "float16": FLOAT16}
_SINGLE_THREADED = 32768
"""Numbers that PyTorch converts on one thread; more would wake threads that then spin on cores the network needs."""
_DTYPES: dict[int, np.dtype[Any]] = {FLOAT32: np.dtype("<f4"), FLOAT16: np.dtype("<f2")}


def features_fields(
    result: FrameResult, weights: str, descriptor_type: str = "float32", rays: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Build the fields of superpoint_ros/msg/Features, except the header.

    Args:
        weights: the `label` of the weights.
        descriptor_type: float32 or float16.
        rays: the frame's `ray_fields`; None without a calibration.
    """
    features = result.features
    code = DESCRIPTOR_TYPES[descriptor_type]
    descriptors = features.descriptors if code == FLOAT32 else _to_float16(features.descriptors)
    descriptors = np.ascontiguousarray(descriptors, _DTYPES[code])
    return {
        "image_height": features.image_size[0],
        "image_width": features.image_size[1],
        "weights": weights,
        "keypoints": np.ascontiguousarray(result.undistorted(features.keypoints), np.float32).reshape(-1),
        "scores": np.ascontiguousarray(features.scores, np.float32),
        "track_ids": result.track_ids,
        "track_ages": result.track_ages.astype(np.uint32),
        "coasted": result.coasted,
        "covariance": _flatten(published_covariance(result, features.covariance)),
        **(ray_fields(result, None) if rays is None else rays),
        "sizes": _array_or_empty(features.sizes, np.float32),
        "levels": _array_or_empty(features.levels, np.uint8),
        "descriptor_size": features.descriptors.shape[1],
        "descriptor_type": code,
        "descriptors": descriptors.view(np.uint8).reshape(-1),
    }


def _flatten(rows: NDArray[np.float32] | None) -> NDArray[np.float32]:
    return np.zeros(0, np.float32) if rows is None else np.ascontiguousarray(rows, np.float32).reshape(-1)


def _array_or_empty(values: NDArray[Any] | None, dtype: type[np.generic]) -> NDArray[Any]:
    return np.zeros(0, dtype) if values is None else np.ascontiguousarray(values, dtype)


def _to_float16(rows: NDArray[np.float32]) -> NDArray[np.float16]:
    """Convert (N, D) to float16 with PyTorch, about ten times as fast as with NumPy."""
    import torch  # here, so that reading messages does not need it

    halved = np.empty(rows.shape, np.float16)
    source, target = torch.from_numpy(np.ascontiguousarray(rows)), torch.from_numpy(halved)
    step = max(1, _SINGLE_THREADED // max(1, rows.shape[1]))
    for start in range(0, len(rows), step):
        target[start : start + step].copy_(source[start : start + step])
    return halved


def homography_fields(result: FrameResult) -> dict[str, Any]:
    """Build the fields of superpoint_ros/msg/MatchedHomography, except the header and the reference stamp."""
    matches, homography = result.matches, result.homography
    first, second = matches.indices.T
    reference_points, current_points = result.points
    return {
        "status": int(homography.status),
        "reference_indices": first.astype(np.uint32),
        "current_indices": second.astype(np.uint32),
        "reference_points": result.undistorted(reference_points).reshape(-1),
        "current_points": result.undistorted(current_points).reshape(-1),
        "similarity": matches.similarity,
        "refined": matches.refined if matches.refined is not None else np.zeros(len(matches), bool),
        "match_covariance": _flatten(published_covariance(result, matches.covariance, second)),
        "inliers": homography.inliers,
        "inlier_count": homography.inlier_count,
        "homography": homography.matrix.reshape(-1),
        "rmse": homography.rmse,
        "covariance": homography.covariance.reshape(-1),
        "scene": int(result.epipolar.scene),
        "fundamental": result.epipolar.fundamental.reshape(-1),
        "epipolar_inliers": result.epipolar.inliers,
        "epipolar_inlier_count": result.epipolar.inlier_count,
    }


def features_from_message(message: Any) -> Features:
    """Convert a superpoint_ros/msg/Features message, of rclpy, rosbags or anything with the same fields, to Features.

    Arrays share the message's memory if possible.

    Raises:
        ValueError: if the lengths of the fields are inconsistent.
    """
    keypoints = _floats(message.keypoints)
    scores = _floats(message.scores)
    dtype = _DTYPES.get(int(message.descriptor_type))
    if dtype is None:
        raise ValueError(f"descriptor_type is {message.descriptor_type}, allowed is 0 (float32) or 1 (float16)")
    size, count = int(message.descriptor_size), len(scores)
    descriptors = np.frombuffer(message.descriptors, np.uint8)
    if keypoints.size != 2 * count or descriptors.size != count * size * dtype.itemsize:
        raise ValueError(
            f"the message contains {count} scores, {keypoints.size} coordinates and {descriptors.size} bytes of "
            f"descriptors, which are inconsistent"
        )
    covariance = _floats(message.covariance)
    if covariance.size not in (0, 3 * count):
        raise ValueError(
            f"the message contains {covariance.size} numbers of covariances, allowed is none or three for each of "
            f"{count} keypoints"
        )
    sizes, levels = _floats(message.sizes), np.array(message.levels, np.uint8)
    for name, values in (("sizes", sizes), ("levels", levels)):
        if len(values) not in (0, count):
            raise ValueError(f"the message contains {len(values)} {name}, allowed is none or {count}, one per keypoint")
    table = descriptors.view(dtype).reshape(count, size)
    image_size = (int(message.image_height), int(message.image_width))
    return Features(
        keypoints.reshape(count, 2),
        scores,
        table.astype(np.float32, copy=False),
        image_size,
        covariance=covariance.reshape(count, 3) if covariance.size or not count else None,
        levels=levels if len(levels) == count else None,
        sizes=sizes if len(sizes) == count else None,
    )


def _floats(values: Any) -> NDArray[np.float32]:
    return np.frombuffer(values, np.float32) if len(values) else np.zeros(0, np.float32)
