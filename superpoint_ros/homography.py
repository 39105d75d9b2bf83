"""Matches -> a homography with inliers, uncertainty and a status."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from superpoint_ros.alignment import align
from superpoint_ros.blas import one_thread
from superpoint_ros.features import Features, Homography, Matches, Status
from superpoint_ros.geometry import Matrix, Points, scaled
from superpoint_ros.pictures import as_grey

METHODS = {
    "magsac": cv2.USAC_MAGSAC,
    "accurate": cv2.USAC_ACCURATE,
    "fast": cv2.USAC_FAST,
    "ransac": cv2.RANSAC,
    "lmeds": cv2.LMEDS,
}
"""OpenCV's robust estimators by name; magsac is MAGSAC++ (Barath et al., 2020)."""

# Where a match counts half in the refinement, as a share of the threshold.
_HALF_WEIGHT = 1 / 3

# Of the inliers, how many an alignment must leave to be believed.
_LEFT_BY_ALIGNMENT = 0.8

Image = NDArray[np.uint8]


@one_thread()
def estimate_homography(
    first: Features,
    second: Features,
    matches: Matches,
    *,
    method: str = "magsac",
    threshold: float = 3.0,
    min_inliers: int = 12,
    images: tuple[Image, Image] | None = None,
) -> Homography:
    """The homography that most matches agree on, from pixels of the first image to pixels of the second.

    The robust estimate is refined on the inliers' reprojection error in the second image, by least squares under
    Cauchy's weights: a match a third of the threshold off counts half. Few or degenerate points give a status, never
    an exception.

    Args:
        method: one of `METHODS`.
        threshold: greatest reprojection error of an inlier, in pixels.
        min_inliers: fewest inliers of a valid homography, at least 4.
        images: the two images, each (H, W) grey or (H, W, 3) BGR. With them the homography goes on to where their
            grey levels around the inliers agree best (see `alignment.align`), which is several times as exact, and
            its covariance is that of this agreement. It stays as it is where the images do not bear it out.

    Raises:
        ValueError: if the method is unknown, or the images are not those of the features.
    """
    if images is not None:
        for name, features, image in zip(("first", "second"), (first, second), images, strict=True):
            size = image.shape[:2]
            if size != features.image_size:
                raise ValueError(f"the {name} image is {size}, that of its features was {features.image_size}")
    return homography_from_points(
        first.keypoints[matches.indices[:, 0]],
        second.keypoints[matches.indices[:, 1]],
        method=method,
        threshold=threshold,
        min_inliers=min_inliers,
        images=images,
    )


@one_thread()
def homography_from_points(
    source: Points,
    target: Points,
    *,
    method: str = "magsac",
    threshold: float = 3.0,
    min_inliers: int = 12,
    images: tuple[Image, Image] | None = None,
) -> Homography:
    """As `estimate_homography`, from (M, 2) corresponding points."""
    if method not in METHODS:
        raise ValueError(f"homography method '{method}' is unknown, allowed is one of {', '.join(METHODS)}")
    count, fewest = len(source), max(4, min_inliers)
    if count < fewest:
        return Homography.failed(Status.TOO_FEW_MATCHES, count)
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    try:
        estimate, _ = cv2.findHomography(source, target, METHODS[method], threshold, maxIters=2000, confidence=0.9999)
    except cv2.error:
        estimate = None
    if estimate is None:
        return Homography.failed(Status.NO_CONSENSUS, count)
    refined = _refine_on_inliers(estimate, source, target, threshold, fewest)
    if refined is None:
        return Homography.failed(Status.NO_CONSENSUS, count)
    matrix, inliers = refined
    residuals, jacobian = _residuals(matrix, source[inliers], target[inliers])
    covariance = _covariance(residuals, jacobian, threshold)
    if covariance is None:
        return Homography.failed(Status.NO_CONSENSUS, count)
    rmse = float(np.sqrt((residuals**2).sum() / np.count_nonzero(inliers)))
    found = Homography(Status.OK, matrix, inliers, rmse, covariance)
    return _aligned(found, source, target, images, threshold, fewest) if images is not None else found


def _aligned(
    found: Homography, source: Points, target: Points, images: tuple[Image, Image], threshold: float, fewest: int
) -> Homography:
    """The homography at which the images agree best, or as it was where they lead away from the matches."""
    better = align(as_grey(images[0]), as_grey(images[1]), found.matrix, source[found.inliers])
    if better is None:
        return found
    error = reprojection_error(better.matrix, source, target)
    inliers = error <= threshold
    if np.count_nonzero(inliers) < max(fewest, _LEFT_BY_ALIGNMENT * found.inlier_count):
        return found
    rmse = float(np.sqrt((error[inliers] ** 2).mean()))
    return Homography(Status.OK, better.matrix, inliers, rmse, better.covariance)


def reprojection_error(matrix: Matrix, source: Points, target: Points) -> NDArray[np.float64]:
    """Distance in pixels of (M, 2) target points from the projections of their source points; inf behind infinity."""
    xyw = np.column_stack((source, np.ones(len(source)))) @ matrix.T
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.asarray(np.linalg.norm(xyw[:, :2] / xyw[:, 2:] - target, axis=1))
    error[~(xyw[:, 2] * _side(matrix, source) > 1e-9)] = np.inf
    return error


def _side(matrix: Matrix, source: Points) -> float:
    """On which side of the line at infinity most points lie: 1 or -1, the sign of their third coordinate."""
    return 1.0 if np.median(source @ matrix[2, :2] + matrix[2, 2]) >= 0 else -1.0


def _refine_on_inliers(
    estimate: Matrix, source: Points, target: Points, threshold: float, fewest: int
) -> tuple[Matrix, NDArray[np.bool_]] | None:
    """Alternate inlier selection and weighted least squares; None where no sound homography is left."""
    matrix = scaled(estimate)
    if matrix is None:
        return None
    inliers = reprojection_error(matrix, source, target) <= threshold
    for _ in range(3):
        if np.count_nonzero(inliers) < fewest or _degenerate(source[inliers]) or _degenerate(target[inliers]):
            return None
        better = _least_squares(matrix, source[inliers], target[inliers], threshold)
        if better is None:
            break
        again = reprojection_error(better, source, target) <= threshold
        if np.count_nonzero(again) < np.count_nonzero(inliers) * 0.9:
            break
        same = bool(np.array_equal(again, inliers))
        matrix, inliers = better, again
        if same:
            break
    # A mirror image is no other view of the same plane.
    mirrored = np.linalg.det(matrix) * _side(matrix, source[inliers]) < 0
    return (matrix, inliers) if np.count_nonzero(inliers) >= fewest and not mirrored else None


def _degenerate(points: Points) -> bool:
    """Whether points lie on a line to within half a pixel, so that they fix no homography."""
    centred = points - points.mean(axis=0)
    return bool(np.linalg.eigvalsh(centred.T @ centred)[0] < 0.5**2 * len(points))


def _residuals(matrix: Matrix, source: Points, target: Points) -> tuple[Matrix, Matrix]:
    """Reprojection residuals (2M,) and their Jacobian (2M, 8) by h11 ... h32."""
    homogeneous = np.column_stack((source, np.ones(len(source))))
    xyw = homogeneous @ matrix.T
    projected, slopes = xyw[:, :2] / xyw[:, 2:], homogeneous / xyw[:, 2:]
    jacobian = np.zeros((len(source), 2, 8))
    jacobian[:, 0, 0:3] = jacobian[:, 1, 3:6] = slopes
    jacobian[:, :, 6:8] = -projected[:, :, None] * slopes[:, None, :2]
    return (projected - target).reshape(-1), jacobian.reshape(-1, 8)


def _weights(residuals: Matrix, threshold: float) -> Matrix:
    """Cauchy's weights of the (M,) points that residuals (2M,) belong to."""
    squared = (residuals.reshape(-1, 2) ** 2).sum(axis=1)
    return np.asarray(1 / (1 + squared / (threshold * _HALF_WEIGHT) ** 2))


def _least_squares(
    matrix: Matrix, source: Points, target: Points, threshold: float, iterations: int = 10
) -> Matrix | None:
    """Gauss-Newton on the reprojection error, weighted anew before each step; the columns are scaled because h13 and
    h31 differ by many orders."""
    for _ in range(iterations):
        residuals, jacobian = _residuals(matrix, source, target)
        root = np.repeat(np.sqrt(_weights(residuals, threshold)), 2)
        jacobian = jacobian * root[:, None]
        scale = np.linalg.norm(jacobian, axis=0)
        if not np.isfinite(jacobian).all() or not (scale > 0).all():
            return None
        step = _solution(jacobian / scale, -residuals * root) / scale
        matrix = matrix + np.append(step, 0).reshape(3, 3)
        if np.abs(step * scale).max() < 1e-4 * np.sqrt(len(source)):
            break
    return scaled(matrix)


def _solution(rows: Matrix, values: Matrix) -> Matrix:
    """The least-squares solution of (M, 8) rows; by the normal equations, which take a tenth of the time, where they
    lose no digits that matter."""
    normal = rows.T @ rows
    if np.linalg.cond(normal) < 1e10:
        return np.asarray(np.linalg.solve(normal, rows.T @ values))
    return np.asarray(np.linalg.lstsq(rows, values, rcond=None)[0])


def _covariance(residuals: Matrix, jacobian: Matrix, threshold: float) -> Matrix | None:
    """Covariance of h11 ... h32: the inverse of J^T J times the variance of a weighted fit, with its correction for few
    points (Huber, 1981, equations 7.6.2 and 7.6.3)."""
    freedom = max(len(residuals) - 8, 1)
    scale = np.linalg.norm(jacobian, axis=0)
    if not (scale > 0).all():
        return None
    normal = (jacobian / scale).T @ (jacobian / scale)
    if np.linalg.cond(normal) > 1e14:
        return None
    inverse = np.linalg.inv(normal) / np.outer(scale, scale)
    weights = _weights(residuals, threshold)
    each = np.repeat(weights, 2)
    # Of the weighted residual; the mean over both directions of a point's is its squared weight.
    mean_slope = float(np.mean(weights**2))
    slope = each * (1 - 2 * each * (residuals / (threshold * _HALF_WEIGHT)) ** 2)
    correction = 1 + 8 / len(residuals) * float(np.var(slope)) / mean_slope**2
    variance = float(((residuals * each) ** 2).sum()) / freedom * (correction / mean_slope) ** 2
    return np.asarray((inverse + inverse.T) / 2 * variance)
