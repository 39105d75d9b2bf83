"""Matched viewing rays -> the camera's motion between two frames, up to the length of its translation."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float64]
Rays = NDArray[np.floating]

_LEAST_MATCHES = 8


class MotionStatus(enum.Enum):
    """What could be said of a motion."""

    OK = "ok"
    ROTATION_ONLY = "rotation only"
    FAILED = "failed"


@dataclass(frozen=True)
class Motion:
    """Motion between two frames: a point X of the first camera's frame is R X + s t in the second's, s > 0 unknown.

    Attributes:
        status: OK; ROTATION_ONLY where the matches show no parallax, so that a translation cannot be told; FAILED.
        rotation: (3, 3) R; the unit matrix if failed.
        direction: (3,) unit vector t; zeros unless OK.
        inliers: (M,) bool, one for each match.
    """

    status: MotionStatus
    rotation: NDArray[np.float64]
    direction: Vectors
    inliers: NDArray[np.bool_]

    @staticmethod
    def failed(matches: int) -> Motion:
        """No motion."""
        return Motion(MotionStatus.FAILED, np.eye(3), np.zeros(3), np.zeros(matches, bool))


def estimate_motion(first: Rays, second: Rays, threshold: float, noise: float | None = None) -> Motion:
    """The motion that most matches agree on.

    An essential matrix is found by MAGSAC++ (Barath et al., 2020), its four motions are told apart by the depths of the
    inliers, and the motion is refined on the Sampson error of the inliers (Hartley and Zisserman, 2004, 11.4.3). Where
    a rotation alone explains the inliers as well by Torr's criterion (GRIC, 1998), it is the result.

    Args:
        first, second: (M, 3) matched viewing rays at unit depth.
        threshold: greatest epipolar error of an inlier at unit depth: pixels divided by the focal length.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if len(a) < _LEAST_MATCHES:
        return Motion.failed(len(a))
    try:
        essential, mask = cv2.findEssentialMat(
            a[:, :2].copy(), b[:, :2].copy(), np.eye(3), cv2.USAC_MAGSAC, 0.9999, threshold
        )
    except cv2.error:
        essential, mask = None, None
    if essential is None or essential.shape != (3, 3) or mask is None:
        return Motion.failed(len(a))
    inliers = mask.ravel().astype(bool)
    if inliers.sum() < _LEAST_MATCHES:
        return Motion.failed(len(a))
    rotation, direction = _in_front(essential, a[inliers], b[inliers])
    rotation, direction, inliers = refine(rotation, direction, a, b, threshold)
    return Motion(MotionStatus.OK, rotation, direction, inliers)


def _in_front(essential: NDArray[np.float64], a: Vectors, b: Vectors) -> tuple[NDArray[np.float64], Vectors]:
    """The one of an essential matrix's four motions that puts most points in front of both cameras."""
    one, two, t = cv2.decomposeEssentialMat(essential)
    candidates = [(r, sign * t.ravel()) for r in (one, two) for sign in (1, -1)]
    return max(candidates, key=lambda motion: int(np.count_nonzero((depths(*motion, a, b) > 0).all(axis=1))))


def depths(rotation: NDArray[np.float64], direction: Vectors, a: Vectors, b: Vectors) -> NDArray[np.float64]:
    """(M, 2) depths in both frames of the points where matched rays come closest, in lengths of the translation."""
    turned = a @ rotation.T
    # Least squares of d_b b - d_a R a = t, by the normal equations of two unknowns.
    aa, bb, ab = (turned**2).sum(1), (b**2).sum(1), (turned * b).sum(1)
    at, bt = turned @ direction, b @ direction
    determinant = np.maximum(aa * bb - ab**2, 1e-18)
    return np.column_stack(((ab * bt - bb * at) / determinant, (aa * bt - ab * at) / determinant))


def sampson(rotation: NDArray[np.float64], direction: Vectors, a: Vectors, b: Vectors) -> Vectors:
    """(M,) signed distances at unit depth of matched rays from satisfying a motion, to first order."""
    x, y, z = direction
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ rotation
    forward, backward = a @ essential.T, b @ essential
    error = (b * forward).sum(1)
    return error / np.sqrt(forward[:, 0] ** 2 + forward[:, 1] ** 2 + backward[:, 0] ** 2 + backward[:, 1] ** 2 + 1e-30)


def refine(
    rotation: NDArray[np.float64], direction: Vectors, a: Vectors, b: Vectors, threshold: float, rounds: int = 3,
    loss: str = "cauchy", scale: float = 0.3, gate: float = 1.5,
) -> tuple[NDArray[np.float64], Vectors, NDArray[np.bool_]]:  # fmt: skip
    """Least squares on the Sampson error over rotation and direction, with the inliers chosen anew in every round."""
    from scipy.optimize import least_squares

    inliers = np.abs(sampson(rotation, direction, a, b)) <= threshold
    for _ in range(rounds):
        near = np.abs(sampson(rotation, direction, a, b)) <= gate * threshold
        basis = np.linalg.svd(direction[None])[2][1:]

        def moved(step: Vectors, r: NDArray[np.float64] = rotation, t: Vectors = direction, basis=basis):
            turn, _ = cv2.Rodrigues(step[:3])
            to = t + step[3:] @ basis
            return turn @ r, to / np.linalg.norm(to)

        found = least_squares(
            lambda step: sampson(*moved(step), a[near], b[near]) / threshold, np.zeros(5), loss=loss, f_scale=scale,
            x_scale=[threshold] * 3 + [threshold*10] * 2, method="trf"
        )
        rotation, direction = moved(found.x)
    return rotation, direction, np.abs(sampson(rotation, direction, a, b)) <= threshold
