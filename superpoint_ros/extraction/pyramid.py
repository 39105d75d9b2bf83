"""Extract features at several image scales.

A keypoint is a pattern a few pixels across. Seen at twice the size it is another pattern, so features of one scale are
repeatable only if the scale between two views stays near 1. Features of several scales match at those at which the
views look alike, as with SIFT (Lowe, 2004) and ORB (Rublee et al., 2011).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from superpoint_ros.extraction.network import CELL
from superpoint_ros.features import Features
from superpoint_ros.io.images import resize_image

SCALE_FACTOR = 1.414
"""Default ratio of the sides of a level to those of the next one."""

MIN_SIDE = 16
"""Minimum side of the network's input, in pixels."""


@dataclass(frozen=True)
class Level:
    """A batch of images at one scale.

    Attributes:
        images: (B, 1, H', W') uint8, padded to whole cells.
        size: (height, width) before padding.
        index: 0 for the largest size.
    """

    images: Tensor
    size: tuple[int, int]
    index: int = 0


def network_size(
    shape: tuple[int, ...], resize: int, index: int = 0, scale_factor: float = SCALE_FACTOR
) -> tuple[int, int]:
    """Compute the (height, width) of a level for images of `shape`."""
    factor = _factor(shape, resize, index, scale_factor)
    return max(MIN_SIDE, round(shape[0] * factor)), max(MIN_SIDE, round(shape[1] * factor))


def _factor(shape: tuple[int, ...], resize: int, index: int, scale_factor: float) -> float:
    return (resize / max(shape) if resize else 1.0) / scale_factor**index


def levels(
    images: Sequence[NDArray[np.uint8]], resize: int, count: int, scale_factor: float = SCALE_FACTOR
) -> list[Level]:
    """Scale grey images of equal size to up to `count` levels; levels with a side below `MIN_SIDE` are skipped.

    Args:
        images: (H, W) uint8 each.
        resize: longer side of the first level, 0 for the original size.
        scale_factor: ratio of the sides of a level to those of the next one.
    """
    shape = images[0].shape
    result: list[Level] = []
    for index in range(count):
        if index and min(shape) * _factor(shape, resize, index, scale_factor) < MIN_SIDE:
            break
        size = network_size(shape, resize, index, scale_factor)
        result.append(Level(_batch([resize_image(image, size) for image in images]), size, index))
    return result


def _batch(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Stack (H, W) images into (B, 1, H', W'), padded to whole cells."""
    height, width = images[0].shape
    if len(images) == 1 and not (height % CELL or width % CELL):
        image = np.ascontiguousarray(images[0])
        if image.flags.writeable:  # PyTorch warns about read-only arrays
            return torch.from_numpy(image)[None, None]
    padded = np.empty((len(images), 1, *(-(-side // CELL) * CELL for side in (height, width))), np.uint8)
    # Replication creates no false corners along the border.
    for index, image in enumerate(images):
        padded[index, 0, :height, :width] = image
        padded[index, 0, height:, :width] = image[-1]
        padded[index, 0, :, width:] = padded[index, 0, :, width - 1 : width]
    return torch.from_numpy(padded)


def merge(found: Sequence[Features], max_keypoints: int, balanced: bool = False) -> Features:
    """Select the best features of all levels of one image, by descending score; coordinates are in pixels of the image.

    With `balanced`, select as many of each level, and more only to replace those that another level lacks.
    """
    joined = Features.join(found)
    order = np.argsort(-joined.scores, kind="stable")
    if balanced and len(joined) > max_keypoints:
        # Features of a level are in order of their scores, so their places in it are ranks.
        rank = np.concatenate([np.arange(len(features)) for features in found])
        chosen = np.zeros(len(joined), bool)
        chosen[order[np.argsort(rank[order], kind="stable")[:max_keypoints]]] = True
        order = order[chosen[order]]
    return joined.select(order[:max_keypoints])
