"""Evaluate one extractor function on pairs in memory; `suite` evaluates whole datasets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.evaluation.benchmarks import EPSILONS
from superpoint_ros.evaluation.metrics import (
    corner_error,
    descriptor_distances,
    matching_accuracy,
    mutual_matches,
    repeatability,
)
from superpoint_ros.evaluation.pairs import Image, Pair
from superpoint_ros.features import Status
from superpoint_ros.two_view.homography import homography_from_points

Extractor = Callable[[Image], tuple[NDArray[np.float32], NDArray[Any]]]
"""(H, W) uint8 -> keypoints (N, 2), best first, and descriptors (N, D): float of unit length, or uint8 bit strings."""


@dataclass(frozen=True)
class Scores:
    """Means over pairs: repeatability, localisation error in pixels, fraction of matches correct within 3 px, and
    fraction of homographies with a corner error within 1, 3 and 5 px."""

    pairs: int
    repeatability: float
    localisation: float
    matching_accuracy: float
    homography: tuple[float, float, float]


def evaluate(extractor: Extractor, pairs: Iterable[Pair], repeatability_points: int = 300) -> Scores:
    """Evaluate an extractor on pairs; repeatability uses its best `repeatability_points` keypoints."""
    rows = []
    for pair in pairs:
        (first, first_descriptors), (second, second_descriptors) = extractor(pair.first), extractor(pair.second)
        sizes = pair.first.shape[:2], pair.second.shape[:2]
        best = slice(repeatability_points)
        repeated, distance = repeatability(first[best], second[best], pair.homography, *sizes)
        matches = mutual_matches(descriptor_distances(first_descriptors, second_descriptors))
        a, b = first[matches[:, 0]], second[matches[:, 1]]
        accuracy = matching_accuracy(a, b, pair.homography, np.array([3.0]))[0]
        found = homography_from_points(a, b, threshold=3.0, min_inliers=4)
        error = corner_error(found.matrix, pair.homography, sizes[0]) if found.status == Status.OK else np.inf
        rows.append((repeated, distance, accuracy, *(error <= epsilon for epsilon in EPSILONS)))
    table = np.array(rows, float)
    mean = np.nanmean(table, axis=0)
    return Scores(len(table), mean[0], mean[1], mean[2], (mean[3], mean[4], mean[5]))
