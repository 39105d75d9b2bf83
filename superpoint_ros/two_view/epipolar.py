"""Estimate the epipolar geometry of matches, and select the model that explains them: a plane, or a scene with depth.

A homography is valid if the scene is planar or the camera only rotates; otherwise two images are related by a
fundamental matrix, or an essential matrix if the camera is calibrated. Torr's criterion (GRIC, 1998) weighs the fit of
each model against its complexity.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from superpoint_ros.compute.blas import one_thread
from superpoint_ros.features import EpipolarGeometry, Homography, Scene, Status
from superpoint_ros.two_view.geometry import (
    Matrix,
    Points,
    cross_matrix,
    gric,
    homogeneous,
    robust_variance,
    sampson_error,
)
from superpoint_ros.two_view.reprojection import reprojection_error

LEAST_MATCHES = 16
"""Minimum number of matches, and of inliers, for selecting a model."""

_ITERATIONS, _CONFIDENCE = 2000, 0.9999
_REACH = 2.0
"""Multiple of the threshold up to which matches take part in the last refinement, with Cauchy weights."""
_HALF_WEIGHT = 0.1
"""Error at which a match's weight is halved, as a multiple of the threshold."""
_FLOOR = 0.1
"""Minimum standard deviation of matches for the model selection, in pixels: a smaller one would distinguish a wall from
a wall with a poster."""
_PLANE_DISTANCE, _PLANE_SHARE = 0.5, 0.95
"""Fraction of matches, and their error in pixels, with which a homography leaves nothing else to estimate."""


@one_thread()
def estimate_epipolar(
    source: Points,
    target: Points,
    homography: Homography,
    *,
    threshold: float = 1.0,
    camera_matrix: Matrix | None = None,
) -> EpipolarGeometry:
    """Estimate the epipolar geometry of matches, unless a homography explains them.

    OpenCV estimates a fundamental matrix (MAGSAC++; Barath et al., 2020), or an essential matrix if the camera is
    calibrated (graph-cut RANSAC; Barath and Matas, 2018). PoseLib, if installed, refines it on the Sampson error of the
    inliers.

    Args:
        source, target: (M, 2) matched pixels of the first and of the second image.
        homography: of the same matches.
        threshold: maximum Sampson error of an inlier, in pixels.
        camera_matrix: (3, 3) of both images, if the camera is calibrated and undistorted.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    count = len(source)
    if count < LEAST_MATCHES:
        return EpipolarGeometry.unknown(count)
    planar = homography.status == Status.OK
    from_plane = reprojection_error(homography.matrix, source, target) if planar else np.full(count, np.inf)
    if np.mean(from_plane <= _PLANE_DISTANCE) >= _PLANE_SHARE:
        return EpipolarGeometry.planar(count)
    fundamental = _fundamental(source, target, threshold, camera_matrix)
    if fundamental is not None:
        error = sampson_distance(fundamental, source, target)
        inliers = error <= threshold
        enough = np.count_nonzero(inliers) >= LEAST_MATCHES
        if enough and not (planar and _explains(from_plane, error)):
            return EpipolarGeometry(Scene.GENERAL, fundamental, inliers)
    return EpipolarGeometry.planar(count) if planar else EpipolarGeometry.unknown(count)


def sampson_distance(fundamental: Matrix, source: Points, target: Points) -> NDArray[np.float64]:
    """Compute the absolute Sampson error of (M, 2) matched points in pixels."""
    return np.abs(sampson_error(fundamental, homogeneous(source), homogeneous(target)))


def _fundamental(source: Points, target: Points, threshold: float, camera_matrix: Matrix | None) -> Matrix | None:
    """Estimate and refine the (3, 3) fundamental matrix of unit norm; None if it fails."""
    try:
        if camera_matrix is None:
            found, _ = cv2.findFundamentalMat(source, target, cv2.USAC_MAGSAC, threshold, _CONFIDENCE, _ITERATIONS)
        else:
            found, _ = cv2.findEssentialMat(
                source, target, camera_matrix, cv2.USAC_ACCURATE, _CONFIDENCE, threshold / 2
            )
    except cv2.error:  # for example if all points are equal
        return None
    if found is None or found.shape != (3, 3) or not np.isfinite(found).all():
        return None
    fundamental = np.asarray(found, np.float64) if camera_matrix is None else _in_pixels(found, camera_matrix)
    near = sampson_distance(fundamental, source, target) <= _REACH * threshold
    if np.count_nonzero(near) >= LEAST_MATCHES:
        fundamental = _refined(fundamental, source[near], target[near], threshold, camera_matrix)
    norm = float(np.linalg.norm(fundamental))
    return fundamental / norm if np.isfinite(norm) and norm > 0 else None


def _refined(
    fundamental: Matrix, source: Points, target: Points, threshold: float, camera_matrix: Matrix | None
) -> Matrix:
    try:
        import poselib
    except ImportError:
        return fundamental
    options = {"loss_type": "CAUCHY", "loss_scale": _HALF_WEIGHT * threshold, "max_iterations": 25}
    if camera_matrix is None:
        refined, _ = poselib.refine_fundamental(source, target, fundamental, options)
        return np.asarray(refined, np.float64)
    essential = camera_matrix.T @ fundamental @ camera_matrix
    _, rotation, translation, _ = cv2.recoverPose(essential, source, target, camera_matrix)
    start = poselib.CameraPose()
    start.R, start.t = rotation, translation.ravel()
    focal, centre = camera_matrix.diagonal()[:2], camera_matrix[:2, 2]
    camera = {"model": "PINHOLE", "width": 0, "height": 0, "params": [*focal, *centre]}
    pose, _ = poselib.refine_relative_pose(source, target, start, camera, camera, options)
    return _in_pixels(cross_matrix(pose.t) @ pose.R, camera_matrix)


def _in_pixels(essential: Matrix, camera_matrix: Matrix) -> Matrix:
    inverse = np.linalg.inv(camera_matrix)
    return np.asarray(inverse.T @ essential @ inverse)


def _explains(from_plane: NDArray[np.float64], from_lines: NDArray[np.float64]) -> bool:
    """Tell whether the GRIC of a homography (8 unknowns, 2 dimensions) is at most that of a fundamental matrix (7, 3).

    Takes the errors of all matches in pixels.
    """
    variance = max(robust_variance(from_lines), _FLOOR**2)
    return gric(from_plane**2 / 2, variance, 2, 8) <= gric(from_lines**2, variance, 3, 7)
