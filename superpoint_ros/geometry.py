"""Points and homographies in pixels; the centre of the top-left pixel is (0, 0)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.floating]
Matrix = NDArray[np.float64]


def project(homography: NDArray[np.floating], points: Points) -> NDArray[np.float64]:
    """(N, 2) points through a homography; points at infinity become non-finite."""
    xyw = np.column_stack((points, np.ones(len(points)))) @ homography.T
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(xyw[:, :2] / xyw[:, 2:])


def inside(points: Points, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Which finite (N, 2) points lie in a picture of (height, width) `size`."""
    with np.errstate(invalid="ignore"):
        return np.asarray(((points >= 0) & (points <= [size[1] - 1, size[0] - 1])).all(axis=1))


def homography_from_corners(source: Points, target: Points) -> Matrix:
    """The homography that maps four (x, y) source points to four target points, with h33 = 1."""
    rows = []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
    h = np.linalg.solve(np.array(rows), np.asarray(target, float).reshape(-1))
    return np.append(h, 1).reshape(3, 3)
