"""Select keypoints that cover the whole image, not only its most textured part."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.features import Features

CANDIDATES = 2
"""Number of detected keypoints per selected one."""

_PER_CELL = 4
"""Number of keypoints per grid cell if they were distributed evenly."""


def cover(features: Features, count: int) -> Features:
    """Select `count` keypoints that cover the image: the best of every grid cell, then the second best, and so on.

    Within a round the highest scores come first; the result is sorted by score.
    """
    if len(features) <= count:
        return features
    chosen = np.sort(np.argsort(_rank_in_cell(features, count), kind="stable")[:count])
    return features.select(chosen)


def _rank_in_cell(features: Features, count: int) -> NDArray[np.intp]:
    """Count for each keypoint those of the same cell with a higher score."""
    height, width = features.image_size
    side = np.sqrt(_PER_CELL * height * width / count)
    column, row = (features.keypoints // side).astype(np.int64).T
    cell = row * (int(width // side) + 1) + column
    order = np.argsort(cell, kind="stable")
    starts = np.flatnonzero(np.diff(cell[order], prepend=-1))
    rank = np.empty(len(cell), np.intp)
    rank[order] = np.arange(len(cell)) - np.repeat(starts, np.diff(starts, append=len(cell)))
    return rank
