"""The metrics of the field on one pair of pictures (paper, section 7; Mikolajczyk and Schmid, 2005)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.geometry import Matrix, Points, inside, project

Size = tuple[int, int]


def repeatability(
    first: Points, second: Points, homography: Matrix, first_size: Size, second_size: Size, epsilon: float = 3.0
) -> tuple[float, float]:
    """Share of the keypoints in the common view that are found again within `epsilon` pixels, and their mean distance.

    Args:
        first, second: (N, 2) and (M, 2) keypoints.
        homography: maps the first picture's pixels to the second's.

    Returns:
        Repeatability (NaN where no keypoint lies in the common view) and localisation error in pixels of the second
        picture (NaN where none is found again).
    """
    forward, backward = project(homography, first), project(np.linalg.inv(homography), second)
    seen_first, seen_second = inside(forward, second_size), inside(backward, first_size)
    common_first, common_second = forward[seen_first], np.asarray(second, float)[seen_second]
    total = len(common_first) + len(common_second)
    if not total:
        return float("nan"), float("nan")
    if not len(common_first) or not len(common_second):
        return 0.0, float("nan")
    distance = np.linalg.norm(common_first[:, None] - common_second[None], axis=2)
    nearest = np.concatenate((distance.min(axis=1), distance.min(axis=0)))
    found = nearest <= epsilon
    return float(found.sum() / total), float(nearest[found].mean()) if found.any() else float("nan")


def matching_accuracy(
    first: Points, second: Points, homography: Matrix, thresholds: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Share of matches whose reprojection error is at most each threshold; zeros where there is no match.

    Args:
        first, second: (M, 2) matched points.
    """
    if not len(first):
        return np.zeros(len(thresholds))
    error = np.linalg.norm(project(homography, first) - second, axis=1)
    return np.asarray((error[:, None] <= np.asarray(thresholds)[None]).mean(axis=0))


def corner_error(estimated: Matrix, true: Matrix, size: Size) -> float:
    """Mean distance in pixels between the image's four corners under two homographies (paper, section 7.3)."""
    height, width = size
    corners = np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]], float)
    return float(np.linalg.norm(project(estimated, corners) - project(true, corners), axis=1).mean())
