"""Local motion of the image: an affine map per cell, fitted to the matches around it.

A homography describes a plane; a scene with depth moves differently in each part of the image. Neighbouring matches
agree well enough to predict the position of a point and the distortion of its patch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.two_view.geometry import Points, homogeneous

CELL = 40
"""Side of a cell in pixels; a fit takes matches of the three by three cells around it."""

_PRIOR = 0.5
"""Weight of the global motion, as a number of matches; it takes over in cells without matches."""

_ITERATIONS = 3

_OUTLIER = 3.0
"""Error in pixels relative to the fit of the cell at which a match's weight is halved."""


@dataclass(frozen=True)
class LocalMotion:
    """An affine map for each cell of the first image.

    Attributes:
        maps: (rows, columns, 2, 3) from pixels of the first image to pixels of the second.
    """

    maps: NDArray[np.float64]

    def at(self, points: Points) -> NDArray[np.float64]:
        """Return the (N, 2, 3) maps at (N, 2) pixels of the first image."""
        rows, columns = self.maps.shape[:2]
        x, y = (np.clip(points // CELL, 0, (columns - 1, rows - 1))).astype(np.int64).T
        return self.maps[y, x]

    def predict(self, points: Points) -> NDArray[np.float64]:
        """Map (N, 2) pixels of the first image to the second."""
        maps = self.at(points)
        return np.asarray(np.einsum("nij,nj->ni", maps[:, :, :2], points) + maps[:, :, 2])


def local_motion(first: Points, second: Points, image_size: tuple[int, int]) -> LocalMotion:
    """Fit the motion of each part of an image to matches.

    Args:
        first, second: (M, 2) matched pixels.
        image_size: (height, width) of the first image.
    """
    rows, columns = grid(image_size)
    if not len(first):
        linear = np.broadcast_to(np.eye(2), (rows, columns, 2, 2))
        return LocalMotion(np.concatenate((linear, np.zeros((rows, columns, 2, 1))), axis=-1))
    # In cells relative to the image centre, so that the sums are well conditioned.
    middle = np.array((columns, rows)) * (CELL / 2)
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    cell = cells(first, (rows, columns))
    places = homogeneous((first - middle) / CELL)
    shift = (second - first) / CELL
    middles = np.stack(np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5), axis=-1).reshape(-1, 2)
    centres = homogeneous(middles - middle / CELL)
    # The prior ties each cell's map to the global motion.
    prior = _PRIOR * (centres[:, :, None] * centres[:, None] + np.diag((1.0, 1.0, 0.0)))
    moments = np.concatenate((places[:, :, None] * places[:, None], places[:, :, None] * shift[:, None]), axis=2)
    moments = moments.reshape(-1, 15)
    # Sorted by cell, for summation per cell.
    order = np.argsort(cell, kind="stable")
    starts = np.flatnonzero(np.diff(cell[order], prepend=-1))
    moments, filled = moments[order], cell[order[starts]]
    weights = np.ones(len(first))
    maps: NDArray[Any] = np.zeros((rows * columns, 3, 2))
    for _ in range(_ITERATIONS):
        sums = np.zeros((rows * columns, 15))
        sums[filled] = np.add.reduceat(weights[order, None] * moments, starts)
        around = sum_neighbourhoods(sums.reshape(rows, columns, 15)).reshape(-1, 3, 5)
        whole = sums.sum(axis=0).reshape(3, 5)
        usual = np.linalg.solve(whole[:, :3] + _PRIOR * np.eye(3), whole[:, 3:])
        maps = np.linalg.solve(around[:, :, :3] + prior, around[:, :, 3:] + prior @ usual)
        error = np.hypot(*(shift - np.einsum("ni,nij->nj", places, maps[cell])).T) * CELL
        # While the fit is still rough, distant matches are not yet outliers.
        weights = 1 / (1 + (error / max(_OUTLIER, 2 * float(np.median(error)))) ** 2) ** 2
    # From centred cells to pixels: second = first + CELL * shift.
    linear = maps[:, :2].swapaxes(1, 2)
    offset = CELL * maps[:, 2] - linear @ middle
    return LocalMotion(np.concatenate((linear + np.eye(2), offset[:, :, None]), axis=2).reshape(rows, columns, 2, 3))


def grid(image_size: tuple[int, int]) -> tuple[int, int]:
    """Compute the rows and columns of cells of an image of (height, width)."""
    rows, columns = (max(-(-side // CELL), 1) for side in image_size)
    return rows, columns


def cells(points: Points, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Find the cells of (N, 2) pixels in a grid of `shape`, as indices in row-major order."""
    x, y = np.clip(points // CELL, 0, (shape[1] - 1, shape[0] - 1)).astype(np.int64).T
    return np.asarray(y * shape[1] + x)


def sum_neighbourhoods(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum (rows, columns, K) over the 3 x 3 cells around each cell."""
    padded = np.zeros((sums.shape[0] + 2, sums.shape[1] + 2, sums.shape[2]))
    padded[1:-1, 1:-1] = sums
    across = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    return np.asarray(across[:-2] + across[1:-1] + across[2:])
