"""Points and homographies in pixels; the centre of the top-left pixel is (0, 0)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.floating]
Matrix = NDArray[np.float64]


def project(homography: NDArray[np.floating], points: Points) -> NDArray[np.float64]:
    """Map (N, 2) points by a homography; points at infinity become non-finite."""
    xyw = np.column_stack((points, np.ones(len(points)))) @ homography.T
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(xyw[:, :2] / xyw[:, 2:])


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


def inside(points: Points, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Tell which (N, 2) points are finite and inside an image of (height, width) `size`."""
    with np.errstate(invalid="ignore"):
        return np.asarray(((points >= 0) & (points <= [size[1] - 1, size[0] - 1])).all(axis=1))


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
