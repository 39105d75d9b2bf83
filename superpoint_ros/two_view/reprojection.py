"""Fit a homography to matched points by least squares of the reprojection error in the second image.

Errors are weighted by Cauchy weights. Coordinates are normalised (Hartley and Zisserman, 2004, section 4.4.4) for the
conditioning of the normal equations.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.two_view.geometry import Matrix, Points, propagate_covariance, scaled

# Error at which a match's weight is halved, as a fraction of the threshold.
_HALF_WEIGHT = 1 / 3

_ITERATIONS = 10
_SMALL_STEP = 1e-4  # pixels, root mean square over the points
_SINGULAR = 1e12


def reprojection_error(matrix: Matrix, source: Points, target: Points) -> NDArray[np.float64]:
    """Compute the distance in pixels of (M, 2) targets from their projected sources; inf beyond infinity."""
    x, y, depth = matrix @ _homogeneous(source)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.hypot(x / depth - target[:, 0], y / depth - target[:, 1])
    error[~(depth * _side(depth) > 1e-9)] = np.inf
    return np.asarray(error)


def mirrored(matrix: Matrix, source: Points) -> bool:
    """Tell whether the homography mirrors the image, which no view of the same plane does."""
    return bool(np.linalg.det(matrix) * _side(matrix[2] @ _homogeneous(source)) < 0)


def _side(depth: NDArray[np.float64]) -> int:
    """Return the side of the line at infinity of most points: 1 or -1, the sign of their third coordinates."""
    return 1 if 2 * np.count_nonzero(depth >= 0) >= len(depth) else -1


def _homogeneous(points: Points) -> NDArray[np.float64]:
    return np.vstack((points.T, np.ones(len(points))))


def degenerate(points: Points) -> bool:
    """Tell whether points are collinear to half a pixel, and so do not determine a homography."""
    centred = points - points.mean(axis=0)
    return bool(np.linalg.eigvalsh(centred.T @ centred)[0] < 0.5**2 * len(points))


def fit(matrix: Matrix, source: Points, target: Points, threshold: float) -> Matrix | None:
    """Refine a homography by iteratively reweighted Gauss-Newton; None if it is undetermined.

    Args:
        matrix: (3, 3), from pixels of the first image to pixels of the second.
        source, target: (M, 2) matched pixels.
        threshold: in pixels; an error of a third of it halves a match's weight.
    """
    problem = _Problem(source, target, threshold)
    current = problem.inner(matrix)
    for _ in range(_ITERATIONS):
        rows = problem.rows(current)
        if rows is None:
            return None
        normal, pull = _normal_equations(rows, problem.weights(rows))
        if not _regular(normal):
            return None
        step = -np.linalg.solve(normal, pull)
        current = current + np.append(step, 0).reshape(3, 3)
        # How far the points move, by the same weights.
        if step @ normal @ step < (_SMALL_STEP * problem.unit) ** 2 * len(source):
            break
    return scaled(problem.outer(current))


def covariance(matrix: Matrix, source: Points, target: Points, threshold: float) -> Matrix | None:
    """Compute the covariance (8, 8) of h11 ... h32 of a fit: the inverse of J^T J times the variance of a weighted fit,
    corrected for few points (Huber, 1981, equations 7.6.2 and 7.6.3)."""
    problem = _Problem(source, target, threshold)
    inner = problem.inner(matrix)
    rows = problem.rows(inner)
    if rows is None:
        return None
    normal, _ = _normal_equations(rows, None)
    if not _regular(normal):
        return None
    weights, residuals = problem.weights(rows), rows[_RESIDUALS]
    # Of the weighted residual; the mean over both directions of a point's is its squared weight.
    mean_slope = float(np.mean(weights**2))
    slope = weights * (1 - 2 * weights * (residuals / problem.half) ** 2)
    correction = 1 + 8 / residuals.size * float(np.var(slope)) / mean_slope**2
    freedom = max(residuals.size - 8, 1)
    variance = float(((residuals * weights) ** 2).sum()) / freedom * (correction / mean_slope) ** 2
    inverse = np.asarray(np.linalg.inv(normal), np.float64)
    return propagate_covariance(inverse * variance, problem.back / problem.outer(inner)[2, 2], problem.first, matrix)


# Rows that the normal equations are made of, M columns each: what a residual in x changes by with h11 h12 h13 (one in y
# by h21 h22 h23 likewise), either by h31 h32, and the residuals.
_SLOPES, _BY_X, _BY_Y, _RESIDUALS = slice(0, 3), slice(3, 5), slice(5, 7), slice(7, 9)


class _Problem:
    """Matched points in normalised coordinates."""

    def __init__(self, source: Points, target: Points, threshold: float) -> None:
        self.first, self._second = _normaliser(source), _normaliser(target)
        self.back = np.linalg.inv(self._second)
        self._source = self.first @ _homogeneous(source)
        self._target = (self._second @ _homogeneous(target))[:2]
        self.unit = self._second[0, 0]
        """Return the size of a pixel of the second image in these coordinates."""
        self.half = threshold * _HALF_WEIGHT * self.unit

    def inner(self, matrix: Matrix) -> Matrix:
        """Convert a homography of pixels to these coordinates, with h33 = 1."""
        inner = self._second @ matrix @ np.linalg.inv(self.first)
        return np.asarray(inner / inner[2, 2])

    def outer(self, matrix: Matrix) -> Matrix:
        """Convert back to pixels."""
        return np.asarray(self.back @ matrix @ self.first)

    def rows(self, inner: Matrix) -> Matrix | None:
        """(9, M), see above; None where a point goes to infinity."""
        projected = inner @ self._source
        rows = np.empty((9, projected.shape[1]))
        with np.errstate(divide="ignore", invalid="ignore"):
            np.divide(self._source, projected[2], out=rows[_SLOPES])
            x, y = projected[:2] / projected[2]
            rows[_BY_X], rows[_BY_Y] = -x * rows[:2], -y * rows[:2]
            rows[7], rows[8] = x - self._target[0], y - self._target[1]
        return rows if np.isfinite(rows).all() else None

    def weights(self, rows: Matrix) -> Matrix:
        """Compute the Cauchy weights (M,) of the points."""
        return np.asarray(1 / (1 + (rows[_RESIDUALS] ** 2).sum(axis=0) / self.half**2))


def _normaliser(points: Points) -> Matrix:
    """Compute the transform that centres points at 0 with a root mean square distance of 1."""
    centre = points.mean(axis=0)
    size = max(float(np.sqrt(((points - centre) ** 2).sum(axis=1).mean())), 1e-9)
    return np.array([[1 / size, 0, -centre[0] / size], [0, 1 / size, -centre[1] / size], [0, 0, 1]])


def _normal_equations(rows: Matrix, weights: Matrix | None) -> tuple[Matrix, Matrix]:
    """Compute J^T W J (8, 8) and J^T W r (8,) of (9, M) rows; weights default to 1."""
    gram = (rows if weights is None else rows * weights) @ rows.T
    normal, pull = np.zeros((8, 8)), np.empty(8)
    normal[0:3, 0:3] = normal[3:6, 3:6] = gram[_SLOPES, _SLOPES]
    normal[0:3, 6:8], normal[3:6, 6:8] = gram[_SLOPES, _BY_X], gram[_SLOPES, _BY_Y]
    normal[6:8, 0:6] = normal[0:6, 6:8].T
    normal[6:8, 6:8] = gram[_BY_X, _BY_X] + gram[_BY_Y, _BY_Y]
    pull[0:3], pull[3:6], pull[6:8] = gram[_SLOPES, 7], gram[_SLOPES, 8], gram[_BY_X, 7] + gram[_BY_Y, 8]
    return normal, pull


def _regular(normal: Matrix) -> bool:
    least, *_, greatest = np.linalg.eigvalsh(normal)
    return bool(least * _SINGULAR > greatest)
