"""Where the camera is: the pose from known points, and the motion between two frames of unknown points."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import poselib
from numpy.typing import NDArray

from superpoint_ros.odometry.smoother import project
from superpoint_ros.two_view.geometry import homogeneous
from superpoint_ros.two_view.motion import (
    Motion,
    MotionStatus,
    estimate_motion,
    moved,
    rotation_only,
    sampson,
    transfer,
)

Array = NDArray[np.float64]

_CAMERA = {"model": "SIMPLE_PINHOLE", "width": 1, "height": 1, "params": [1.0, 0.0, 0.0]}
_LEAST_ANGLE = 0.02
"""Minimum median parallax of the points of a start, in radians."""
_MIN_SHARE = 0.6
"""Minimum share of the tracks that fit a start or a rotation."""
_SAME_DIRECTION = 0.97
"""Cosine of the angle within which two motions have the same direction."""
_MAX_DIRECTION_ERROR = np.radians(2.0)
"""Maximum standard deviation of the direction of a start's motion. A turn looks much like a motion to the side, from
which the noise of a camera that only turns differs by nothing else."""
_LEAST_NOISE = 0.05
"""Least noise of image points that is reckoned with, relative to the threshold."""
_CLEARLY = 1.3
"""Minimum ratio of the errors of two motions of which one is wrong."""


@dataclass(frozen=True)
class Location:
    """The pose of a camera among known points.

    Attributes:
        pose: (4, 4) from the camera's frame to the map's.
        inliers: (N,) bool.
        covariance: (6, 6) of translation and rotation along and about the map's axes; infinite if they are too few.
    """

    pose: Array
    inliers: NDArray[np.bool_]
    covariance: Array


def locate_camera(points: Array, rays: Array, sigma: Array, threshold: float) -> Location | None:
    """Estimate the pose of a camera by PoseLib's LO-RANSAC and robust refinement.

    Args:
        points: (N, 3) in the map's frame.
        rays: (N, 2) normalized points.
        sigma: (N,) standard deviations of `rays`.
        threshold: maximum reprojection error of an inlier in normalized units.

    Returns:
        None if there are fewer than four points or no pose has four inliers.
    """
    if len(points) < 4:
        return None
    ransac = {"max_reproj_error": threshold, "max_iterations": 1000, "min_iterations": 20}
    loss = {"loss_type": "CAUCHY", "loss_scale": threshold / 3}
    found, info = poselib.estimate_absolute_pose(rays, points, _CAMERA, ransac, loss)
    inliers = np.array(info["inliers"], bool)
    if np.count_nonzero(inliers) < 4:
        return None
    pose = np.eye(4)
    pose[:3, :3] = np.asarray(found.R).T
    pose[:3, 3] = -pose[:3, :3] @ np.asarray(found.t)
    return Location(pose, inliers, _covariance(pose, points[inliers], sigma[inliers]))


def _covariance(pose: Array, points: Array, sigma: Array) -> Array:
    """Propagate the errors of the observations to the pose."""
    x, y, z = ((points - pose[:3, 3]) @ pose[:3, :3]).T
    a, b, zero = x / z, y / z, np.zeros(len(x))
    # Of the normalized point, by translation and rotation along and about the camera's axes.
    rows = [[-1 / z, zero, a / z, a * b, -1 - a * a, b], [zero, -1 / z, b / z, 1 + b * b, -a * b, -a]]
    jacobian = np.concatenate([np.stack(row, axis=1) / sigma[:, None] for row in rows])
    turned = np.kron(np.eye(2), pose[:3, :3])
    try:
        return np.asarray(turned @ np.linalg.inv(jacobian.T @ jacobian) @ turned.T)
    except np.linalg.LinAlgError:
        return np.full((6, 6), np.inf)


def turn_of(first: Array, second: Array, threshold: float) -> Array | None:
    """Estimate the (3, 3) rotation between two frames of (N, 2) normalized points, if it explains most of them."""
    motion = estimate_motion(homogeneous(first), homogeneous(second), threshold)
    if motion.status is MotionStatus.FAILED:
        return None
    turned = homogeneous(first) @ motion.rotation.T
    explained = np.linalg.norm(turned[:, :2] / turned[:, 2:] - second, axis=1) < threshold
    return motion.rotation if np.mean(explained) > _MIN_SHARE else None


@dataclass(frozen=True)
class Start:
    """The motion through three frames, in the frame of the first camera; its unit is the distance to the last one.

    Attributes:
        middle, last: (4, 4) poses.
        points: (N, 3), NaN where they do not fit.
        error: mean error of the image points relative to the threshold, with at most 1 for each.
    """

    middle: Array
    last: Array
    points: Array
    error: float


def start(first: Array, middle: Array, last: Array, threshold: float, planar: bool) -> Start | None:
    """Estimate the motion between two frames, checked by a third one between them.

    Args:
        first, middle, last: (N, 2) normalized points of the same tracks in three frames.
        threshold: maximum error of an inlier, in normalized units.
        planar: the scene may be a plane, whose homography then has two possible motions.

    Returns:
        None if the motion is still ambiguous: parallax is too small, or another motion or a pure rotation fits as well.
    """
    motion = estimate_motion(homogeneous(first), homogeneous(last), threshold)
    found = [_check(each, first, middle, last, threshold) for each in _motions(motion, first, last, threshold, planar)]
    starts = sorted((each for each in found if each is not None), key=lambda each: each.error)
    if not starts:
        return None
    direction = starts[0].last[:3, 3]
    rivals = (each for each in starts[1:] if each.last[:3, 3] @ direction < _SAME_DIRECTION)
    errors = [each.error for each in rivals] + [_turn_error(motion.rotation, first, last, threshold)]
    return None if min(errors) < _CLEARLY * starts[0].error else starts[0]


def _turn_error(rotation: Array, first: Array, last: Array, threshold: float) -> float:
    """Compute the error that `Start` has, for a camera that only turns, by about this rotation."""
    a, b = homogeneous(first), homogeneous(last)
    away = np.linalg.norm(transfer(rotation_only(rotation, a, b, threshold), a, b), axis=1)
    return float(np.minimum(away / threshold, 1).mean())


def _check(motion: tuple[Array, Array], first: Array, middle: Array, last: Array, threshold: float) -> Start | None:
    """Triangulate by a motion, and locate the middle frame among the points; None if that fails."""
    rotation, translation = motion
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation.T, -rotation.T @ translation
    points = _triangulate(rotation, translation, first, last, threshold)
    known = np.isfinite(points[:, 0])
    if np.mean(known) < _MIN_SHARE or _parallax(rotation, first[known], last[known]) < _LEAST_ANGLE:
        return None
    found = locate_camera(points[known], middle[known], np.full(np.count_nonzero(known), threshold), threshold)
    if found is None or _direction_error(rotation, translation, first, last, threshold) > _MAX_DIRECTION_ERROR:
        return None
    frames = ((np.eye(4), first), (found.pose, middle), (pose, last))
    errors = np.array([np.linalg.norm(project(place, points) - rays, axis=1) / threshold for place, rays in frames])
    worst = np.nan_to_num(errors, nan=1.0).max(axis=0)
    if np.mean(worst < 1) < _MIN_SHARE:
        return None
    return Start(found.pose, pose, np.where(worst[:, None] < 1, points, np.nan), float(np.minimum(worst, 1).mean()))


def _motions(
    motion: Motion, first: Array, last: Array, threshold: float, planar: bool
) -> Iterator[tuple[Array, Array]]:
    if motion.status is MotionStatus.OK:
        yield motion.rotation, motion.direction
    # The homography of a camera that only turns has motions as well, which explain nothing but its noise.
    if planar and motion.status is not MotionStatus.ROTATION_ONLY:
        matrix, _ = cv2.findHomography(first, last, cv2.USAC_MAGSAC, threshold)
        if matrix is not None:
            _, rotations, translations, _ = cv2.decomposeHomographyMat(matrix, np.eye(3))
            for rotation, translation in zip(rotations, translations, strict=True):
                length = float(np.linalg.norm(translation))
                if length > 0:
                    yield rotation, translation.ravel() / length


def _direction_error(rotation: Array, translation: Array, first: Array, last: Array, threshold: float) -> float:
    """Estimate the standard deviation of the direction of a motion in radians, in its worst direction.

    It follows from the Sampson errors, their noise and their derivatives by rotation and direction.
    """
    a, b = homogeneous(first), homogeneous(last)
    errors = sampson((rotation, translation), a, b)
    near = np.abs(errors) < threshold
    if np.count_nonzero(near) < 8:
        return float("inf")
    steps = 1e-6 * np.eye(5)
    sides = [[sampson(moved((rotation, translation), sign * step), a[near], b[near]) for step in steps]
             for sign in (1, -1)]  # fmt: skip
    jacobian = (np.array(sides[0]) - np.array(sides[1])).T / 2e-6
    noise = max(1.4826 * float(np.median(np.abs(errors[near]))), _LEAST_NOISE * threshold)
    covariance = noise**2 * np.linalg.pinv(jacobian.T @ jacobian)
    return float(np.sqrt(np.linalg.eigvalsh(covariance[3:, 3:])[-1]))


def _triangulate(rotation: Array, translation: Array, first: Array, last: Array, threshold: float) -> Array:
    """Triangulate (N, 3) points in the first camera's frame; NaN behind a camera or off its image points."""
    second = np.column_stack((rotation, translation))
    homogeneous: Any = cv2.triangulatePoints(np.eye(3, 4), second, first.T, last.T).T
    with np.errstate(divide="ignore", invalid="ignore"):
        points = homogeneous[:, :3] / homogeneous[:, 3:]
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation.T, -rotation.T @ translation
    for place, rays in ((np.eye(4), first), (pose, last)):
        good = np.linalg.norm(project(place, points) - rays, axis=1) < threshold
        points = np.where(good[:, None], points, np.nan)
    return points


def _parallax(rotation: Array, first: Array, last: Array) -> float:
    """Return the median angle between rays of the same points, in radians."""
    one, two = homogeneous(first) @ rotation.T, homogeneous(last)
    cosine = (one * two).sum(axis=1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1))
    return float(np.median(np.arccos(np.clip(cosine, -1, 1))))
