"""Random homographies for Homographic Adaptation and warped pairs (paper, section 5.2 and figure 6)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.two_view.geometry import homography_from_corners


@dataclass(frozen=True)
class HomographyRange:
    """Ranges of the parameters of random homographies.

    Attributes:
        rotation: standard deviation in degrees; 180 or more draws any rotation uniformly.
        scale_min, scale_max: side of the visible region, as a fraction of the largest that fits.
        perspective: maximum perspective shift of a corner, as a fraction of the region's half side.
        shear: maximum horizontal or vertical shear.
        outside: how far the region may extend beyond the image, as a fraction of its size.
    """

    rotation: float = 20.0
    scale_min: float = 0.45
    scale_max: float = 1.0
    perspective: float = 0.2
    shear: float = 0.1
    outside: float = 0.0

    __pydantic_config__: ClassVar = {"extra": "forbid"}


@dataclass(frozen=True)
class Curriculum:
    """How ranges grow in the course of a run; steps of 0 leave them as they are.

    Attributes:
        start: step at which they begin to grow.
        steps: number of steps in which they grow.
        rotation, scale_min: what they grow to, see `HomographyRange`; a rotation of 180 is any.
    """

    start: int = 0
    steps: int = 0
    rotation: float = 180.0
    scale_min: float = 1 / 3

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    def ranges(self, first: HomographyRange, step: int) -> HomographyRange:
        """The ranges at a step of a run that begins with `first`: rotation grows evenly, scale by equal factors."""
        if not self.steps:
            return first
        share = min(max((step - self.start) / self.steps, 0.0), 1.0)
        if share == 1:
            return replace(first, rotation=self.rotation, scale_min=self.scale_min)
        return replace(
            first,
            rotation=first.rotation + share * (self.rotation - first.rotation),
            scale_min=first.scale_min * (self.scale_min / first.scale_min) ** share,
        )


def random_homographies(
    rng: np.random.Generator,
    sources: NDArray[np.integer] | list[tuple[int, int]],
    target: tuple[int, int],
    ranges: HomographyRange,
) -> NDArray[np.float64]:
    """Draw homographies that map pixels of target-sized views to pixels of source-sized images.

    The view's corners fall inside the image, apart from `ranges.outside`.

    Args:
        sources: (B, 2) as (height, width) of each image.
        target: (height, width) of the views.

    Returns:
        (B, 3, 3).
    """
    last = np.asarray(sources, float)[:, ::-1] - 1
    count = len(last)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], float)
    width_height = np.array(target[::-1], float)

    shape = corners + rng.uniform(-ranges.perspective, ranges.perspective, (count, 4, 2))
    shape = shape * width_height / width_height.max()
    shear = np.tile(np.eye(2), (count, 1, 1))
    shear[:, [0, 1], [1, 0]] = rng.uniform(-ranges.shear, ranges.shear, (count, 2))
    angle = np.deg2rad(rng.normal(0, ranges.rotation, count))
    if ranges.rotation >= 180:
        angle = rng.uniform(-np.pi, np.pi, count)
    cosine, sine = np.cos(angle), np.sin(angle)
    rotation = np.stack((cosine, -sine, sine, cosine), axis=-1).reshape(count, 2, 2)
    shape = shape @ shear @ rotation.transpose(0, 2, 1)

    extent = last * (1 + ranges.outside)
    largest = (extent / np.ptp(shape, axis=1)).min(axis=1)
    scale = largest * np.exp(rng.uniform(np.log(ranges.scale_min), np.log(ranges.scale_max), count))
    quad = shape * scale[:, None, None]
    free = np.maximum(extent - np.ptp(quad, axis=1), 0)
    corner = rng.uniform(0, 1, (count, 2)) * free - last * ranges.outside / 2
    quad = quad - quad.min(axis=1, keepdims=True) + corner[:, None]
    return homography_from_corners((corners + 1) / 2 * (width_height - 1), quad)


def random_homography(
    rng: np.random.Generator, source: tuple[int, int], target: tuple[int, int], ranges: HomographyRange
) -> NDArray[np.float64]:
    """Draw one (3, 3) homography, as `random_homographies` does."""
    return random_homographies(rng, [source], target, ranges)[0]
