"""From the arrays of each level's batch to the Features of each image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from superpoint_ros.extraction import runtimes
from superpoint_ros.extraction.masks import select_unmasked
from superpoint_ros.extraction.network import CELL
from superpoint_ros.extraction.pyramid import Level, merge
from superpoint_ros.extraction.spread import CANDIDATES, cover
from superpoint_ros.features import Features, Mask


def collect(found: runtimes.ExtractedBatch, originals: Sequence[tuple[int, int]], level: Level) -> Iterable[Features]:
    """Turn a batch of fixed size into Features, in pixels of the original images."""
    for index, (height, width) in enumerate(originals):
        count = int(np.count_nonzero(found.scores[index]))
        points = found.keypoints[index, :count]
        ratio = np.array([width / level.size[1], height / level.size[0]], np.float32)
        if (height, width) != level.size:
            points = (points + np.float32(0.5)) * ratio - np.float32(0.5)
        limits = np.array([width - 1, height - 1], np.float32)
        yield Features(
            np.clip(points, 0, limits).astype(np.float32, copy=False),
            found.scores[index, :count],
            found.descriptors[index, :count],
            (height, width),
            found.on_device[index, :count] if found.on_device is not None else None,
            found.links[index] if found.links is not None else None,
            levels=np.full(count, level.index, np.uint8),
            sizes=np.full(count, CELL * ratio.mean(), np.float32),
        )


def select(per_level: Sequence[Features], mask: Mask | None, count: int, spread: bool, balanced: bool) -> Features:
    """Select at most `count` features of one image from those of its levels, none of them masked.

    Args:
        spread: cover the whole image, see `spread.cover`.
        balanced: as many of each level, see `pyramid.merge`.
    """
    most = CANDIDATES * count if spread else count
    unmasked = [select_unmasked(features, mask, len(features)) for features in per_level]
    merged = merge(unmasked, most, balanced) if len(unmasked) > 1 else select_unmasked(unmasked[0], None, most)
    return cover(merged, count) if spread else merged
