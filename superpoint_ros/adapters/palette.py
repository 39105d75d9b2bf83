"""The colours of keypoints and matches, wherever they are drawn."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from superpoint_ros.frontend.frames import FrameResult

INLIER, OUTLIER = (80, 220, 80), (60, 60, 230)
"""BGR."""
MAX_AGE = 20
"""Age in frames from which tracks have the colour of the oldest."""
_NEW, _OLD = 40, 170  # entries of OpenCV's colour map: blue and yellow


def shades(result: FrameResult) -> NDArray[np.float64]:
    """Return the shade of each keypoint: 0 for new tracks to 1 for old ones, or by score if tracking is off."""
    if len(result.track_ages):
        return np.minimum(result.track_ages, MAX_AGE) / MAX_AGE
    return shades_by_rank(len(result.features))


def shades_by_rank(count: int) -> NDArray[np.float64]:
    """Return the shades of keypoints in the order of their scores: by rank, as scores fall off steeply."""
    return np.linspace(1, 0, max(count, 1))[:count]


def colours(shades: NDArray[np.floating]) -> list[tuple[int, int, int]]:
    """Return the colour of each shade from 0 to 1, in BGR: from blue to yellow."""
    entries = (_NEW + (_OLD - _NEW) * shades).astype(np.uint8)
    return [tuple(colour) for colour in cv2.applyColorMap(entries[:, None], cv2.COLORMAP_TURBO)[:, 0].tolist()]
