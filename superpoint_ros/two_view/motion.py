"""Estimate the camera motion between two frames from matched viewing rays, up to the scale of the translation."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from superpoint_ros.two_view.geometry import Matrix, cross_matrix, gric, robust_variance, sampson_error

Rays = NDArray[np.floating]
Vectors = NDArray[np.float64]
Pose = tuple[Matrix, Vectors]

_LEAST_MATCHES = 8
_REACH = 1.5
"""Multiple of the threshold up to which matches take part in the refinement."""
_SCALE = 0.3
"""Error at which a match's weight is halved, as a multiple of the threshold."""


class MotionStatus(enum.Enum):
    """Status of a motion estimate."""

    OK = "ok"
    ROTATION_ONLY = "rotation only"
    FAILED = "failed"


@dataclass(frozen=True)
class Motion:
    """Motion between two frames: a point X of the first camera's frame is R X + s t in the second's, s > 0 unknown.

    Attributes:
        status: OK; ROTATION_ONLY if the matches show no parallax, so that the translation is unobservable; FAILED.
        rotation: (3, 3) R; the identity if failed.
        direction: (3,) unit vector t; zeros unless OK.
        inliers: (M,) bool, one per match.
    """

    status: MotionStatus
    rotation: NDArray[np.float64]
    direction: Vectors
    inliers: NDArray[np.bool_]

    @staticmethod
    def failed(matches: int) -> Motion:
        """Create a failed estimate."""
        return Motion(MotionStatus.FAILED, np.eye(3), np.zeros(3), np.zeros(matches, bool))


def estimate_motion(first: Rays, second: Rays, threshold: float) -> Motion:
    """Estimate the motion between two frames of a calibrated camera.

    OpenCV's graph-cut RANSAC (USAC_ACCURATE; Barath and Matas, 2018) estimates an essential matrix at half, once
    and twice the threshold. Cheirality selects one of its four motions. Each is refined by robust least squares on the
    Sampson error (Hartley and Zisserman, 2004, section 11.4.3), and the best is kept: the error has local minima. If a
    rotation alone explains the inliers equally well (Torr's criterion GRIC, 1998), it is the result.

    Args:
        first, second: (M, 3) matched viewing rays at unit depth.
        threshold: maximum Sampson error of an inlier at unit depth: pixels divided by the focal length.
    """
    a, b = np.asarray(first, np.float64).reshape(-1, 3), np.asarray(second, np.float64).reshape(-1, 3)
    if len(a) < _LEAST_MATCHES:
        return Motion.failed(len(a))
    found = [_refined(start, a, b, threshold) for start in _starts(a, b, threshold)]
    if not found:
        return Motion.failed(len(a))
    pose = min(found, key=lambda pose: float(np.minimum(sampson(pose, a, b) ** 2, threshold**2).sum()))
    error = sampson(pose, a, b)
    inliers = np.abs(error) <= threshold
    if np.count_nonzero(inliers) < _LEAST_MATCHES:
        return Motion.failed(len(a))
    turn = rotation_only(pose[0], a, b, threshold)
    if _without_parallax(error[inliers], transfer(turn, a[inliers], b[inliers])):
        near = np.linalg.norm(transfer(turn, a, b), axis=1) <= _REACH * threshold
        return Motion(MotionStatus.ROTATION_ONLY, turn, np.zeros(3), near)
    return Motion(MotionStatus.OK, pose[0], pose[1], inliers)


def ransac_motion(first: Rays, second: Rays, threshold: float) -> Motion:
    """Estimate the motion with OpenCV's plain RANSAC, as in most published comparisons; see `estimate_motion`."""
    a, b = np.asarray(first, np.float64).reshape(-1, 3), np.asarray(second, np.float64).reshape(-1, 3)
    if len(a) < _LEAST_MATCHES:
        return Motion.failed(len(a))
    found = _essential(a, b, cv2.RANSAC, 0.999, threshold)
    if found is None:
        return Motion.failed(len(a))
    essential, inliers = found
    return Motion(MotionStatus.OK, *in_front(essential, a[inliers], b[inliers]), inliers)


ESTIMATORS = {"refined": estimate_motion, "ransac": ransac_motion}
"""Estimators of a motion by name."""


def _starts(a: Vectors, b: Vectors, threshold: float) -> Iterator[Pose]:
    for part in (0.5, 1, 2):
        found = _essential(a, b, cv2.USAC_ACCURATE, 0.9999, part * threshold)
        if found is not None:
            essential, inliers = found
            yield in_front(essential, a[inliers], b[inliers])


def _essential(
    a: Vectors, b: Vectors, method: int, confidence: float, threshold: float
) -> tuple[Matrix, NDArray[np.bool_]] | None:
    points = np.ascontiguousarray(a[:, :2]), np.ascontiguousarray(b[:, :2])
    try:
        essential, mask = cv2.findEssentialMat(*points, np.eye(3), method, confidence, threshold)
    except cv2.error:  # for example if all points are equal
        return None
    # If several matrices fit, OpenCV returns them stacked.
    if essential is None or mask is None or essential.shape != (3, 3) or not np.all(np.isfinite(essential)):
        return None
    return essential, mask.ravel().astype(bool)


def in_front(essential: Matrix, a: Vectors, b: Vectors) -> Pose:
    """Select the motion of an essential matrix with most points in front of both cameras."""
    one, two, t = cv2.decomposeEssentialMat(essential)
    candidates: list[Pose] = [(r, sign * t.ravel()) for r in (one, two) for sign in (1, -1)]
    return max(candidates, key=lambda motion: int(np.count_nonzero((depths(motion, a, b) > 0).all(axis=1))))


def depths(pose: Pose, a: Vectors, b: Vectors) -> Matrix:
    """Triangulate (M, 2) depths of matched rays in both frames, in units of the translation's length."""
    rotation, direction = pose
    turned = a @ rotation.T
    # Least squares of d_b b - d_a R a = t, by the normal equations of two unknowns.
    aa, bb, ab = (turned**2).sum(1), (b**2).sum(1), (turned * b).sum(1)
    at, bt = turned @ direction, b @ direction
    determinant = np.maximum(aa * bb - ab**2, 1e-18)
    return np.column_stack(((ab * bt - bb * at) / determinant, (aa * bt - ab * at) / determinant))


def sampson(pose: Pose, a: Vectors, b: Vectors) -> Vectors:
    """Compute the (M,) signed Sampson errors of matched rays at unit depth."""
    rotation, direction = pose
    return sampson_error(cross_matrix(direction) @ rotation, a, b)


def transfer(rotation: Matrix, a: Vectors, b: Vectors) -> Matrix:
    """Compute the (M, 2) differences at unit depth between rotated rays of the first frame and those of the second."""
    turned = a @ rotation.T
    return turned[:, :2] / np.maximum(turned[:, 2:], 1e-9) - b[:, :2]


def _refined(pose: Pose, a: Vectors, b: Vectors, threshold: float) -> Pose:
    for _ in range(2):
        near = np.abs(sampson(pose, a, b)) <= _REACH * threshold
        pose = moved(pose, _least_squares(_motion_residuals, 5, threshold, pose, a[near], b[near]))
    return pose


def _motion_residuals(step: Vectors, pose: Pose, a: Vectors, b: Vectors) -> Vectors:
    return sampson(moved(pose, step), a, b)


def moved(pose: Pose, step: Vectors) -> Pose:
    """Update a motion by a rotation vector and two steps perpendicular to the direction."""
    rotation, direction = pose
    to = direction + step[3:] @ np.linalg.svd(direction[None])[2][1:]
    return _turned(rotation, step[:3]), to / np.linalg.norm(to)


def _turned(rotation: Matrix, step: Vectors) -> Matrix:
    return np.asarray(cv2.Rodrigues(step)[0] @ rotation)


def rotation_only(rotation: Matrix, a: Vectors, b: Vectors, threshold: float) -> Matrix:
    """Refine a rotation by robust least squares so that it alone best explains the matched rays."""
    for reach in (4 * _REACH, _REACH):
        near = np.linalg.norm(transfer(rotation, a, b), axis=1) <= reach * threshold
        if np.count_nonzero(near) < _LEAST_MATCHES:
            break
        rotation = _turned(rotation, _least_squares(_turn_residuals, 3, threshold, rotation, a[near], b[near]))
    return rotation


def _turn_residuals(step: Vectors, rotation: Matrix, a: Vectors, b: Vectors) -> Vectors:
    return transfer(_turned(rotation, step), a, b).ravel()


def _least_squares(residuals: Callable[..., Vectors], unknowns: int, threshold: float, *fixed: Any) -> Vectors:
    from scipy.optimize import least_squares

    # With the Cauchy loss large errors count little, so no hard inlier decision is needed.
    scale = _SCALE * threshold
    step = np.zeros(unknowns)
    found = least_squares(residuals, step, loss="cauchy", f_scale=scale, x_scale=threshold, args=fixed, xtol=1e-6)
    return np.asarray(found.x)


def _without_parallax(epipolar: Vectors, transferred: Matrix) -> bool:
    """Tell whether the GRIC of a rotation (3 unknowns, 2 dimensions) is less than that of a motion (5, 3)."""
    variance = robust_variance(epipolar) + 1e-18
    return gric((transferred**2).sum(1) / 2, variance, 2, 3) < gric(epipolar**2, variance, 3, 5)
