"""Repeatability, matching and homography accuracy of a method over pairs of pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from superpoint_ros.evaluation.metrics import corner_error, matching_accuracy, repeatability
from superpoint_ros.evaluation.pairs import Image, Pair
from superpoint_ros.features import Status
from superpoint_ros.homography import homography_from_points

Detection = tuple[NDArray[np.float32], NDArray[np.generic]]
Method = Callable[[Image], Detection]
"""(H, W) uint8 -> keypoints (N, 2), best first, and descriptors (N, D): float of unit length, or uint8 bit strings."""

EPSILONS = (1.0, 3.0, 5.0)


@dataclass(frozen=True)
class Scores:
    """Means over pairs: repeatability, localisation error in pixels, share of matches right to 3 px, and share of
    homographies whose corner error is at most 1, 3 and 5 px."""

    pairs: int
    repeatability: float
    localisation: float
    matching_accuracy: float
    homography: tuple[float, float, float]


def evaluate(method: Method, pairs: Iterable[Pair], repeatability_points: int = 300) -> Scores:
    """Run a method over pairs; repeatability is of its best `repeatability_points` keypoints."""
    rows = []
    for pair in pairs:
        (first, first_descriptors), (second, second_descriptors) = method(pair.first), method(pair.second)
        sizes = pair.first.shape[:2], pair.second.shape[:2]
        best = slice(repeatability_points)
        repeated, distance = repeatability(first[best], second[best], pair.homography, *sizes)
        matches = mutual_matches(first_descriptors, second_descriptors)
        a, b = first[matches[:, 0]], second[matches[:, 1]]
        accuracy = matching_accuracy(a, b, pair.homography, np.array([3.0]))[0]
        found = homography_from_points(a, b, threshold=3.0, min_inliers=4)
        error = corner_error(found.matrix, pair.homography, sizes[0]) if found.status == Status.OK else np.inf
        rows.append((repeated, distance, accuracy, *(error <= epsilon for epsilon in EPSILONS)))
    table = np.array(rows, float)
    mean = np.nanmean(table, axis=0)
    return Scores(len(table), mean[0], mean[1], mean[2], (mean[3], mean[4], mean[5]))


def mutual_matches(first: NDArray[np.generic], second: NDArray[np.generic]) -> NDArray[np.int64]:
    """(M, 2) indices of mutual nearest neighbours, by Euclidean or, for uint8 bit strings, Hamming distance."""
    if not len(first) or not len(second):
        return np.zeros((0, 2), np.int64)
    norm = cv2.NORM_HAMMING if first.dtype == np.uint8 else cv2.NORM_L2
    matches = cv2.BFMatcher(norm, crossCheck=True).match(first, second)
    return np.array([(m.queryIdx, m.trainIdx) for m in matches], np.int64).reshape(-1, 2)


def opencv_method(name: str, max_keypoints: int = 1000) -> Method:
    """OpenCV's "sift" or "orb" with at most `max_keypoints` keypoints."""
    create: dict[str, Any] = {"sift": cv2.SIFT.create, "orb": cv2.ORB.create}
    if name not in create:
        raise ValueError(f"method '{name}' is unknown, allowed is one of {', '.join(create)}")
    detector = create[name](nfeatures=max_keypoints)

    def run(image: Image) -> Detection:
        keypoints, descriptors = detector.detectAndCompute(image, None)
        if descriptors is None:
            return np.zeros((0, 2), np.float32), np.zeros((0, 1), np.float32)
        order = np.argsort([-k.response for k in keypoints])[:max_keypoints]
        points = np.array([k.pt for k in keypoints], np.float32)
        return points[order], descriptors[order]

    return run
