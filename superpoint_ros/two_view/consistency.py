"""How far matches agree with the scene around them, and what that says about their covariance.

Refinement on the images tells how precisely patches agree, not whether they show the same point: at the edge of an
object a patch holds two surfaces, and a point can slide along the nearer one. Two signs of that are used: a match that
disagrees with the model that explains the others, and different motions in its neighbourhood.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.features import EpipolarGeometry, Homography, Scene, Status
from superpoint_ros.two_view.epipolar import sampson_distance
from superpoint_ros.two_view.geometry import Points, project
from superpoint_ros.two_view.local_motion import cells, grid, sum_neighbourhoods

_SCALE = 0.57
"""Variance relative to that of the patches, of matches without either sign. Calibrated, like the next, on the simulated
flight and room."""
_SPREAD = 0.08
"""Standard deviation due to different motions in the neighbourhood, relative to their difference."""
_DISAGREEMENT = 9.0
"""Squared distance from the model, relative to the variance, from which it is taken for the error itself."""


def consistent_covariances(
    covariance: NDArray[np.floating],
    source: Points,
    target: Points,
    homography: Homography,
    epipolar: EpipolarGeometry,
    places: Points,
    image_size: tuple[int, int],
    slopes: NDArray[np.floating] | None = None,
) -> NDArray[np.float64]:
    """Compute the covariances of refined matches from those of their patches.

    Args:
        covariance: (M, 3) of each match's second point as xx, xy, yy in px^2 of the image.
        source, target: (M, 2) matched pixels, of the image or of the ideal pinhole camera.
        homography, epipolar: of these matches, in the same pixels.
        places: (M, 2) pixels of the first image, which tell the neighbours: near the edge of a fisheye image those of
            the pinhole camera are far apart, and without bound.
        image_size: (height, width) of the first image.
        slopes: (M, 2, 2) d(pinhole pixel) / d(image pixel) at the second points; None if the pixels are the same.

    Returns:
        (M, 3) float64 in px^2 of the image.
    """
    found = _SCALE * np.asarray(covariance, np.float64)
    if not len(found):
        return found
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    inliers = epipolar.inliers if epipolar.scene is Scene.GENERAL else homography.inliers
    planar = homography.status is Status.OK
    motion = target - (project(homography.matrix, source) if planar else source)
    stretch: NDArray[np.float64] = np.ones(len(source))
    if slopes is not None:
        motion = np.linalg.solve(slopes, motion[:, :, None])[:, :, 0]
        stretch = np.sqrt((np.asarray(slopes, np.float64) ** 2).sum(axis=(1, 2)) / 2)
    spread = _SPREAD**2 * _spread(places, image_size, motion, inliers)
    found[:, 0] += spread
    found[:, 2] += spread
    variance = np.maximum((found[:, 0] + found[:, 2]) / 2, 1e-12)
    distance = np.zeros(len(source))
    if epipolar.scene is Scene.GENERAL:
        distance = sampson_distance(epipolar.fundamental, source, target) / stretch
    elif planar:
        distance = np.linalg.norm(motion, axis=1) / np.sqrt(2)  # of two coordinates, that of an epipolar line is of one
    excess = distance**2 / variance
    found *= np.where(excess > _DISAGREEMENT, excess, 1.0)[:, None]
    return found


def _spread(
    places: Points, image_size: tuple[int, int], motion: Points, inliers: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Compute the mean squared difference of each motion from those of the inliers around it, in px^2."""
    rows, columns = grid(image_size)
    cell = cells(places, (rows, columns))
    moments = np.column_stack((np.ones(len(places)), motion, (motion**2).sum(axis=1)))
    sums = np.zeros((rows * columns, 4))
    np.add.at(sums, cell[inliers], moments[inliers])
    total, x, y, squares = sum_neighbourhoods(sums.reshape(rows, columns, 4)).reshape(-1, 4)[cell].T
    own = moments[:, 3] * total - 2 * (motion[:, 0] * x + motion[:, 1] * y) + squares
    return np.asarray(np.maximum(own, 0) / np.maximum(total, 1))
