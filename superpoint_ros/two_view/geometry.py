"""Points, homographies and their errors in pixels; the centre of the top-left pixel is (0, 0)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.floating]
Matrix = NDArray[np.float64]

OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
"""Rotation from an optical frame (z forward, x right, y down) to a body's (x forward, y left, z up); REP 103."""


def homogeneous(points: Points) -> NDArray[np.float64]:
    """Append 1 to (N, 2) points, as (N, 3)."""
    return np.column_stack((points, np.ones(len(points))))


def project(homography: NDArray[np.floating], points: Points) -> NDArray[np.float64]:
    """Map (N, 2) points by a homography; points at infinity become non-finite."""
    xyw = homogeneous(points) @ homography.T
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(xyw[:, :2] / xyw[:, 2:])


def jacobians(homography: Matrix, points: Points) -> NDArray[np.float64]:
    """Compute the (N, 2, 2) Jacobians of a homography at (N, 2) points: the distortion of their patches."""
    depth = points @ homography[2, :2] + homography[2, 2]
    target = project(homography, points)
    slopes = homography[:2, :2] - target[:, :, None] * homography[2, :2]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(slopes / depth[:, None, None])


def numerical_jacobians(
    function: Callable[[NDArray[np.float64]], NDArray[np.floating]], points: Points, step: float = 0.5
) -> NDArray[np.float64]:
    """Compute the (N, 2, 2) Jacobians of a function of (N, 2) points, by central differences of `step` pixels."""
    columns = [(function(points + move) - function(points - move)) / (2 * step) for move in step * np.eye(2)]
    return np.stack(columns, axis=2)


def transform_covariances(covariance: NDArray[np.floating], jacobians: NDArray[np.floating]) -> NDArray[Any]:
    """Compute J C J^T of (N, 3) covariances as xx, xy, yy and (N, 2, 2) Jacobians, as (N, 3) xx, xy, yy."""
    xx, xy, yy = covariance.T
    matrix = np.stack((xx, xy, xy, yy), axis=1).reshape(-1, 2, 2)
    with np.errstate(invalid="ignore"):  # infinite ones, of unknown positions
        turned = jacobians @ matrix @ jacobians.swapaxes(1, 2)
    return np.stack((turned[:, 0, 0], turned[:, 0, 1], turned[:, 1, 1]), axis=1)


def cross_matrix(vector: NDArray[np.floating]) -> Matrix:
    """Build the (3, 3) matrix whose product with another vector is the cross product with it."""
    x, y, z = vector
    return np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])


def sampson_error(matrix: Matrix, first: Points, second: Points) -> NDArray[np.float64]:
    """Compute the (M,) signed Sampson errors of matches (Hartley and Zisserman, 2004, section 11.4.3).

    Args:
        matrix: fundamental matrix for pixels, essential matrix for viewing rays.
        first, second: (M, 3) matched points with a third coordinate of 1.
    """
    forward, backward = first @ matrix.T, second @ matrix
    slope = (forward[:, :2] ** 2).sum(axis=1) + (backward[:, :2] ** 2).sum(axis=1)
    return np.asarray((second * forward).sum(axis=1) / np.sqrt(np.maximum(slope, 1e-30)))


def robust_variance(errors: NDArray[np.floating]) -> float:
    """Estimate the variance of errors of mean 0 from their median square, in spite of outliers."""
    return float(np.median(errors**2)) / 0.4549  # the median of a chi-squared variable


def gric(squares: NDArray[np.floating], variance: float, dimensions: int, unknowns: int) -> float:
    """Compute the geometric robust information criterion of a model of matches (Torr, 1998); the least is the best.

    Args:
        squares: (M,) squared distances of the matches from the model, in the space of (x, y, x', y'): the Sampson error
            is such a distance, that of a transfer to the second image is divided among both points.
        variance: of a coordinate.
        dimensions: of the model in that space: 2 of a homography or rotation, 3 of an epipolar geometry.
        unknowns: number of the model's parameters.
    """
    count = len(squares)
    fit = np.minimum(squares / variance, 2 * (4 - dimensions)).sum()
    return float(fit + dimensions * count * np.log(4) + unknowns * np.log(4 * count))


def scaled(matrix: Matrix) -> Matrix | None:
    """Normalise a homography to h33 = 1; None if it is not finite, singular, or cannot be normalised."""
    if not np.isfinite(matrix).all() or abs(matrix[2, 2]) < 1e-9 * np.abs(matrix).max():
        return None
    matrix = np.asarray(matrix / matrix[2, 2], np.float64)
    return matrix if abs(np.linalg.det(matrix)) > 1e-9 else None


def propagate_covariance(covariance: Matrix, left: Matrix, right: Matrix, matrix: Matrix) -> Matrix:
    """Propagate the covariance of x11 ... x32 of a small X to (8, 8) of h11 ... h32: the homography changes by
    left X right and is normalised again.

    Args:
        covariance: (8, 8) of X.
        matrix: the homography, with h33 = 1.
    """
    by_entry = (left @ np.eye(9)[:8].reshape(8, 3, 3) @ right).reshape(8, 9)
    slope = (by_entry[:, :8] - by_entry[:, 8:] * matrix.reshape(9)[:8]).T
    result = slope @ covariance @ slope.T
    return np.asarray((result + result.T) / 2)


def inside(points: Points, size: tuple[int, ...], margin: NDArray[np.floating] | float = 0.0) -> NDArray[np.bool_]:
    """Tell which (N, 2) points are finite and at least `margin` pixels inside an image of (height, width) `size`."""
    farthest = [size[1] - 1, size[0] - 1]
    with np.errstate(invalid="ignore"):
        return np.asarray(((points - margin >= 0) & (points + margin <= farthest)).all(axis=1))


def homography_from_corners(source: Points, target: Points) -> Matrix:
    """Compute the homographies with h33 = 1 that map four (x, y) source points to four target points.

    Args:
        source, target: (..., 4, 2); leading dimensions are broadcast.

    Returns:
        (..., 3, 3).
    """
    source, target = np.broadcast_arrays(np.asarray(source, float), np.asarray(target, float))
    x, y = source[..., 0], source[..., 1]
    u, v = target[..., 0], target[..., 1]
    one, zero = np.ones_like(x), np.zeros_like(x)
    upper = np.stack((x, y, one, zero, zero, zero, -u * x, -u * y), axis=-1)
    lower = np.stack((zero, zero, zero, x, y, one, -v * x, -v * y), axis=-1)
    h = np.linalg.solve(np.concatenate((upper, lower), axis=-2), np.concatenate((u, v), axis=-1)[..., None])[..., 0]
    return np.concatenate((h, np.ones((*h.shape[:-1], 1))), axis=-1).reshape(*h.shape[:-1], 3, 3)
