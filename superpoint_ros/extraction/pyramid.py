"""Images at several sizes, and the features of all sizes as one.

A keypoint is a thing of a few pixels. Seen twice as large it is another one, so features of one size are found again,
and at the same place, only where the scale between two views stays near 1. Features of several sizes meet at the sizes
at which the views look alike, as those of SIFT (Lowe, 2004) and ORB (Rublee et al., 2011) do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from superpoint_ros.extraction.network import CELL
from superpoint_ros.features import Features
from superpoint_ros.io.images import resize_image

RATIO = 2**-0.5
"""Sides of a level as a share of those of the level before."""

LEAST_SIDE = 16
"""Shortest side that the network is given, in pixels."""


@dataclass(frozen=True)
class Level:
    """A batch of images at one size.

    Attributes:
        images: (B, 1, H', W') uint8, padded to whole cells.
        size: (height, width) before padding.
        index: 0 for the largest size.
    """

    images: Tensor
    size: tuple[int, int]
    index: int = 0


def first_size(shape: tuple[int, int], resize: int) -> tuple[int, int]:
    """(height, width) at which images of `shape` are given to the network first."""
    factor = resize / max(shape) if resize else 1.0
    return max(LEAST_SIDE, round(shape[0] * factor)), max(LEAST_SIDE, round(shape[1] * factor))


def levels(images: Sequence[NDArray[np.uint8]], resize: int, count: int) -> list[Level]:
    """Grey images of one size at up to `count` sizes; sizes with a side of less than `LEAST_SIDE` are left out.

    Args:
        images: (H, W) uint8 each.
        resize: longer side of the first level, 0 for that of the images.
    """
    height, width = images[0].shape
    first = resize / max(height, width) if resize else 1.0
    result: list[Level] = []
    for index in range(count):
        factor = first * RATIO**index
        size = max(LEAST_SIDE, round(height * factor)), max(LEAST_SIDE, round(width * factor))
        if index and min(height, width) * factor < LEAST_SIDE:
            break
        result.append(Level(_batch([resize_image(image, size) for image in images]), size, index))
    return result


def _batch(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    """(H, W) each -> (B, 1, H', W'), padded to whole cells."""
    height, width = images[0].shape
    if len(images) == 1 and not (height % CELL or width % CELL):
        image = np.ascontiguousarray(images[0])
        if image.flags.writeable:  # PyTorch takes no other without a warning
            return torch.from_numpy(image)[None, None]
    padded = np.empty((len(images), 1, *(-(-side // CELL) * CELL for side in (height, width))), np.uint8)
    # Repeating the last row and column puts no false corners along the image's edge.
    for index, image in enumerate(images):
        padded[index, 0, :height, :width] = image
        padded[index, 0, height:, :width] = image[-1]
        padded[index, 0, :, width:] = padded[index, 0, :, width - 1 : width]
    return torch.from_numpy(padded)


def merge(found: Sequence[Features], max_keypoints: int) -> Features:
    """The best features of all levels of one image, each level's in the image's pixels."""
    scores = np.concatenate([features.scores for features in found])
    best = np.argsort(-scores, kind="stable")[:max_keypoints]
    on_device = [features.device_descriptors for features in found]
    return Features(
        np.concatenate([features.keypoints for features in found])[best],
        scores[best],
        np.concatenate([features.descriptors for features in found])[best],
        found[0].image_size,
        torch.cat(on_device)[torch.from_numpy(best).to(on_device[0].device)] if on_device[0] is not None else None,
        levels=_best([features.levels for features in found], best),
        sizes=_best([features.sizes for features in found], best),
    )


def _best(columns: Sequence[NDArray[Any] | None], best: NDArray[np.intp]) -> NDArray[Any] | None:
    known = [column for column in columns if column is not None]
    return np.concatenate(known)[best] if len(known) == len(columns) else None
