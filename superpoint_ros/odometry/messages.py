"""Convert the detector's messages to frames of the odometry, and its estimates to fields of messages."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.features import Scene, Status
from superpoint_ros.node.camera import PINHOLE, Camera
from superpoint_ros.node.detector import stamp_to_ns
from superpoint_ros.node.messages import features_from_message
from superpoint_ros.odometry.values import NOISE, Estimate, Frame, Observations
from superpoint_ros.two_view.geometry import OPTICAL, homogeneous

Array = NDArray[np.float64]

_UNKNOWN_ERROR = 1.0
"""Standard deviation of keypoints without a covariance, in pixels."""
_MIN_DISPARITY = 0.1
"""Minimum disparity of a stereo match that tells a depth, in pixels."""
_SAME_PIXEL = 0.01
"""Maximum distance of the same point after it was rounded to float32, in pixels."""
_SAME_DEPTH = 1e-5
"""Maximum relative difference of the same depth after it was rounded to float32."""


def are_rectified(features: Any, stereo: Any | None, camera: Camera, otherwise: bool = True) -> bool:
    """Tell whether the normalized points are in the rectified camera's frame; otherwise they are in the camera's own.

    The model of the points says so unless the lens has no distortion: "pinhole" is then either. Then they are of that
    camera whose matrix, K or P, takes them to the keypoints. If both do, depths are along the rectified camera's axis.
    That leaves a rotation about this very axis, which counts as rectified.

    Args:
        features, stereo: as in `frame_from_messages`.
        camera: calibration of the raw image.
        otherwise: what is returned if there are no points that tell.
    """
    if features.camera_model_of_points != PINHOLE or camera.model != PINHOLE:
        return bool(features.camera_model_of_points == PINHOLE)
    rays = homogeneous(np.array(features.normalized, np.float64).reshape(-1, 2))
    keypoints = np.array(features.keypoints, np.float64).reshape(-1, 2)
    if len(rays) != len(keypoints):
        return otherwise
    raw, rectified = (
        _agree((rays @ matrix.T)[:, :2], keypoints, _SAME_PIXEL) for matrix in (camera.matrix, camera.projection)
    )
    if raw != rectified:
        return rectified
    if rectified and np.array_equal(camera.rotation, np.eye(3)):
        return True
    if rectified and stereo is not None and len(stereo.depth):
        depth = np.array(stereo.depth, np.float64)
        return _agree(np.array(stereo.points, np.float64)[2::3] / depth, np.ones(len(depth)), _SAME_DEPTH)
    return otherwise


def _agree(one: Array, other: Array, tolerance: float) -> bool:
    """Tell whether most of the numbers are the same; not if there are none."""
    difference = np.abs(one - other)
    difference = difference[np.isfinite(difference)]
    return bool(len(difference)) and bool(np.median(difference) < tolerance)


def frame_from_messages(
    features: Any,
    homography: Any,
    stereo: Any | None,
    camera: Camera,
    noise: float = NOISE,
    disparity_offset: float = 0.0,
    travelled: float | None = None,
    rectified: bool | None = None,
) -> Frame:
    """Convert the messages of one moment.

    Args:
        features, homography, stereo: messages of superpoint_ros; `stereo` is None for a single camera.
        camera: calibration of the (left) camera's raw image, or of the rectified one.
        noise, disparity_offset: see `interface.PARAMETERS`.
        travelled: distance travelled so far in metres, if known.
        rectified: whether points are in the rectified camera's frame; None to find out by `are_rectified`.

    Raises:
        ValueError: in one sentence, if the messages are without tracks or rays, or do not fit together or to the
            calibration.
    """
    found = features_from_message(features)
    ids = np.array(features.track_ids, np.int64)
    rays = np.array(features.normalized, np.float64).reshape(-1, 2)
    for name, count, cause in (
        ("track ids", len(ids), "parameter 'tracking' of the detector is off"),
        ("normalized points", len(rays), "the detector has no camera_info for images of this size"),
    ):
        if count != len(found):
            raise ValueError(f"the features have {count} {name} for {len(found)} keypoints, because {cause}")
    if found.image_size != camera.image_size:
        sizes = [f"{width}x{height}" for height, width in (camera.image_size, found.image_size)]
        raise ValueError(f"the camera_info is for {sizes[0]} pixels and the features are of {sizes[1]}")
    covariance = np.full((len(ids), 2), _UNKNOWN_ERROR**2) if found.covariance is None else found.covariance[:, ::2]
    if rectified is None:
        rectified = are_rectified(features, stereo, camera)
    focal = float((camera.projection if rectified else camera.matrix)[0, 0])
    right, position = np.full((len(ids), 2), np.nan), None
    if stereo is not None:
        # The right camera is on the x axis of the rectified frame, to which R rotates the camera's own.
        turn = np.eye(3) if rectified else camera.rotation
        position = turn.T @ [float(stereo.baseline), 0.0, 0.0]
        disparity = np.array(stereo.disparity, np.float64) + disparity_offset
        rows = np.array(stereo.left_indices, np.int64)
        if len(rows) and rows.max() >= len(ids):
            raise ValueError(f"the stereo matches name keypoint {rows.max()}, allowed is less than {len(ids)}")
        points = np.array(stereo.points, np.float64).reshape(-1, 3)
        with np.errstate(divide="ignore", invalid="ignore"):
            points *= (np.array(stereo.disparity, np.float64) / disparity)[:, None]
            seen = points - position
            right[rows] = np.where(disparity[:, None] > _MIN_DISPARITY, seen[:, :2] / seen[:, 2:], np.nan)
    sigma = np.sqrt(covariance.mean(axis=1) + noise**2) / focal
    good = np.isfinite(rays).all(axis=1) & np.isfinite(sigma)
    return Frame(
        stamp_to_ns(features.header.stamp),
        found.select(np.flatnonzero(good)),
        Observations(ids, rays, right, sigma).select(good),
        Status(int(homography.status)),
        Scene(int(homography.scene)),
        focal,
        str(features.weights),
        position,
        travelled,
    )


def camera_in_base(x: float, y: float, z: float, roll: float, pitch: float, yaw: float) -> Array:
    """Build the (4, 4) pose of the optical frame in the base frame, from metres and degrees about fixed axes."""
    turn = np.eye(3)
    for axis, angle in enumerate(np.radians([roll, pitch, yaw])):
        one, two = (axis + 1) % 3, (axis + 2) % 3
        step = np.eye(3)
        step[one, one] = step[two, two] = np.cos(angle)
        step[two, one], step[one, two] = np.sin(angle), -np.sin(angle)
        turn = step @ turn
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn @ OPTICAL, (x, y, z)
    return pose


def base_pose(estimate: Estimate, camera: Array) -> tuple[Array, Array]:
    """Return the (4, 4) pose of the base and its (6, 6) covariance, translation first, in the odometry frame.

    Args:
        camera: (4, 4) pose of the optical frame in the base frame. The base started at the origin.
    """
    pose = camera @ estimate.pose @ np.linalg.inv(camera)
    # The base is at a lever arm from the camera, so that errors of its rotation displace it.
    x, y, z = pose[:3, :3] @ -camera[:3, 3]
    change = np.eye(6)
    change[:3, 3:] = -np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    change = change @ np.kron(np.eye(2), camera[:3, :3])
    return pose, change @ estimate.covariance @ change.T
