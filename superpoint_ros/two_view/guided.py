"""Match descriptors near predicted positions: fewer products, and no confusion with similar points elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from superpoint_ros.compute.blas import one_thread
from superpoint_ros.features import Features, Matches
from superpoint_ros.two_view.geometry import Points
from superpoint_ros.two_view.matching import mutual_nearest, passing

_LEAST_STRIP = 60.0
"""Minimum height of a strip in pixels; lower ones cost more in calls than they save in products."""
_NOTHING = -2.0
"""Similarity without a candidate: less than any."""

Rows = NDArray[np.float32]
Indices = NDArray[np.int64]


def match_near(
    first: Features,
    second: Features,
    expected: Points,
    window: float | tuple[float, float],
    min_similarity: float = 0.5,
    ratio: float = 1.0,
) -> Matches:
    """Match keypoints near their predicted positions; otherwise like `matching.match`.

    Args:
        first, second: features with descriptors of equal size.
        expected: (N, 2) predicted pixels of the second image, for each keypoint of the first.
        window: maximum distance from there in pixels, in both x and y or one for each.
        min_similarity, ratio: see `matching.match`; the runner-up is also within the window.
    """
    if not len(first) or not len(second):
        return Matches.empty()
    expected = np.asarray(expected, np.float32)
    ratio = ratio if len(second) > 1 else 1.0
    wide, high = window if isinstance(window, tuple) else (window, window)
    a, b = first.device_descriptors, second.device_descriptors
    if a is not None and b is not None and a.device == b.device:
        with torch.inference_mode():
            places, keypoints = (torch.from_numpy(p).to(a.device) for p in (expected, second.keypoints))
            limits = torch.tensor((wide, high), device=a.device)
            near = ((places[:, None] - keypoints[None]).abs() <= limits).all(dim=2)
            indices, similarity = mutual_nearest(a, b, min_similarity, ratio, near)
            return Matches(indices.cpu().numpy(), similarity.cpu().numpy())
    with_runner_up = ratio < 1
    forward, best, runner_up = _nearest(
        first.descriptors, second.descriptors, expected, second.keypoints, (wide, high), with_runner_up
    )
    return passing(forward, best, runner_up if with_runner_up else None, min_similarity, ratio)


@one_thread()
def _nearest(
    a: Rows, b: Rows, expected: Rows, keypoints: Rows, window: tuple[float, float], with_runner_up: bool
) -> tuple[Indices, Rows, Rows]:
    """Find the mutual nearest neighbour (or -1) of N rows, and the similarity of the nearest and the second."""
    forward = np.full(len(a), -1)
    best, runner_up = np.full(len(a), _NOTHING, np.float32), np.full(len(a), _NOTHING, np.float32)
    backward, best_back = np.full(len(b), -1), np.full(len(b), _NOTHING, np.float32)
    wide, high = window
    for rows, columns in _strips(expected, keypoints, high):
        cosines = a[rows] @ b[columns].T
        cosines[np.abs(expected[rows, :1] - keypoints[columns, 0]) > wide] = _NOTHING
        cosines[np.abs(expected[rows, 1:] - keypoints[columns, 1]) > high] = _NOTHING
        nearest = cosines.argmax(axis=1)
        index = np.arange(len(rows))
        best[rows] = cosines[index, nearest]
        forward[rows] = columns[nearest]
        origin = cv2.transpose(cosines).argmax(axis=1)
        found = cosines[origin, np.arange(len(columns))]
        better = found > best_back[columns]
        best_back[columns[better]], backward[columns[better]] = found[better], rows[origin[better]]
        if with_runner_up and len(columns) > 1:
            cosines[index, nearest] = _NOTHING
            runner_up[rows] = cosines.max(axis=1)
    mutual = (best > _NOTHING) & (backward[forward] == np.arange(len(a)))
    return np.where(mutual, forward, -1), best, runner_up


def _strips(expected: Rows, keypoints: Rows, window: float) -> Iterator[tuple[Indices, Indices]]:
    """Yield the rows of the first image in strips, each with the columns within reach."""
    order, below = np.argsort(expected[:, 1]), np.argsort(keypoints[:, 1])
    heights = keypoints[below, 1]
    part = np.floor(expected[order, 1] / max(window, _LEAST_STRIP))
    for rows in np.split(order, np.flatnonzero(np.diff(part)) + 1):
        low, high = expected[rows[0], 1] - window, expected[rows[-1], 1] + window
        columns = below[np.searchsorted(heights, low) : np.searchsorted(heights, high, "right")]
        if len(columns):
            yield rows, columns
