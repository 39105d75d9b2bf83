"""Random homographies for Homographic Adaptation and warped pairs (paper, section 5.2 and figure 6)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.geometry import homography_from_corners


@dataclass(frozen=True)
class HomographyRange:
    """How far random homographies go.

    Attributes:
        rotation: standard deviation in degrees.
        scale_min, scale_max: side of the region seen, as a share of the largest one that fits.
        perspective: greatest shift of a corner by perspective, as a share of the region's half side.
        shear: greatest horizontal or vertical shear.
        outside: how far the region may leave the picture, as a share of its size.
    """

    rotation: float = 20.0
    scale_min: float = 0.45
    scale_max: float = 1.0
    perspective: float = 0.2
    shear: float = 0.1
    outside: float = 0.0


def random_homography(
    rng: np.random.Generator, source: tuple[int, int], target: tuple[int, int], ranges: HomographyRange
) -> NDArray[np.float64]:
    """A homography that maps pixels of a target-sized patch to pixels of a source-sized picture.

    Sizes are (height, width). The patch's corners fall inside the picture, but for `ranges.outside`.
    """
    (source_h, source_w), (target_h, target_w) = source, target
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], float)
    aspect = np.array([target_w, target_h], float) / max(target_w, target_h)

    shape = corners + rng.uniform(-ranges.perspective, ranges.perspective, (4, 2))
    shape = shape * aspect
    shape = shape @ np.array(
        [[1, rng.uniform(-ranges.shear, ranges.shear)], [rng.uniform(-ranges.shear, ranges.shear), 1]]
    )
    angle = np.deg2rad(rng.normal(0, ranges.rotation))
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shape = shape @ rotation.T

    extent = np.ptp(shape, axis=0)
    room = np.array([source_w - 1, source_h - 1]) * (1 + ranges.outside)
    largest = (room / extent).min()
    low, high = np.log(ranges.scale_min), np.log(ranges.scale_max)
    quad = shape * largest * np.exp(rng.uniform(low, high))
    free = room - np.ptp(quad, axis=0)
    corner = rng.uniform(0, 1, 2) * np.maximum(free, 0) - np.array([source_w - 1, source_h - 1]) * ranges.outside / 2
    quad = quad - quad.min(axis=0) + corner

    patch = (corners + 1) / 2 * np.array([target_w - 1, target_h - 1])
    return homography_from_corners(patch, quad)
