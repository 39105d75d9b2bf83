"""Standard metrics of a pair of images: keypoints and descriptors against a known homography.

Distances are in pixels; `homography` always maps pixels of the first image to pixels of the second, sizes are
(height, width), and the common view is the region visible in both images. Everything here is deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.two_view.geometry import Matrix, Points, inside, project

Size = tuple[int, int]
Descriptors = NDArray[np.float32] | NDArray[np.uint8]


def common_view(
    first: Points, second: Points, homography: Matrix, network_size: Size, second_size: Size
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which (N, 2) points of the first and (M, 2) points of the second image lie inside the other one."""
    in_second = inside(project(homography, first), second_size)
    in_first = inside(project(np.linalg.inv(homography), second), network_size)
    return in_second, in_first


def repeatability(
    first: Points,
    second: Points,
    homography: Matrix,
    network_size: Size,
    second_size: Size,
    epsilon: float = 3.0,
    most: int | None = None,
) -> tuple[float, float]:
    """Compute the repeatability of keypoints in the common view within `epsilon` pixels, and the localisation error.

    A keypoint of the N1 + N2 in the common view is repeated if the other image has one within `epsilon` of it (paper,
    section 7.1 and appendix; Mikolajczyk and Schmid, 2005). Distances are measured in the second image. The
    localisation error is the mean distance of repeated keypoints (paper, appendix).

    Args:
        first, second: (N, 2) and (M, 2) keypoints, best first.
        most: maximum number of each image's keypoints in the common view, as in the published evaluation.

    Returns:
        Repeatability (NaN if no keypoint lies in the common view) and localisation error (NaN if none is repeated).
    """
    seen_first, seen_second = common_view(first, second, homography, network_size, second_size)
    common_first = project(homography, first[seen_first])[:most]
    common_second = np.asarray(second, float)[seen_second][:most]
    total = len(common_first) + len(common_second)
    if not total:
        return float("nan"), float("nan")
    if not len(common_first) or not len(common_second):
        return 0.0, float("nan")
    distance = np.linalg.norm(common_first[:, None] - common_second[None], axis=2)
    nearest = np.concatenate((distance.min(axis=1), distance.min(axis=0)))
    found = nearest <= epsilon
    return float(found.sum() / total), float(nearest[found].mean()) if found.any() else float("nan")


def matching_accuracy(
    first: Points, second: Points, homography: Matrix, thresholds: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Compute the fraction of matches whose reprojection error is within each threshold; zeros without matches.

    Its mean over pairs is the mean matching accuracy (MMA; Mikolajczyk and Schmid, 2005; Dusmanu et al., 2019), with
    thresholds of 1 to 10 pixels its curve.

    Args:
        first, second: (M, 2) matched points.
        thresholds: (T,) pixels of the second image.
    """
    if not len(first):
        return np.zeros(len(thresholds))
    error = np.linalg.norm(project(homography, first) - second, axis=1)
    return np.asarray((error[:, None] <= np.asarray(thresholds)[None]).mean(axis=0))


def descriptor_distances(first: Descriptors, second: Descriptors) -> NDArray[np.float64]:
    """Compute (N, M) distances: Euclidean for float descriptors (N, D) and (M, D), Hamming for uint8 bit strings."""
    if first.dtype == np.uint8:
        bits = [np.unpackbits(np.asarray(d, np.uint8), axis=1).astype(np.float64) for d in (first, second)]
        ones = bits[0].sum(axis=1)[:, None] + bits[1].sum(axis=1)[None]
        return np.asarray(ones - 2 * bits[0] @ bits[1].T)
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    square = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * a @ b.T
    return np.sqrt(np.maximum(square, 0))


def mutual_matches(distances: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return (K, 2) indices of mutual nearest neighbours in (N, M) distances; ties go to the first."""
    if not distances.size:
        return np.zeros((0, 2), np.int64)
    forward, backward = distances.argmin(axis=1), distances.argmin(axis=0)
    index = np.arange(len(forward))
    kept = backward[forward] == index
    return np.column_stack((index[kept], forward[kept])).astype(np.int64)


@dataclass(frozen=True)
class NearestNeighbours:
    """The metrics of nearest-neighbour matching, each the mean over both directions.

    Attributes:
        average_precision: see `nearest_neighbours`; NaN if no keypoint has a counterpart.
        matching_score: NaN if no keypoint lies in the common view.
    """

    average_precision: float
    matching_score: float


def nearest_neighbours(
    first: Points,
    second: Points,
    distances: NDArray[np.floating],
    homography: Matrix,
    network_size: Size,
    second_size: Size,
    epsilon: float = 3.0,
) -> NearestNeighbours:
    """Compute average precision and matching score of nearest neighbours in the common view (paper, appendix).

    Every keypoint in the common view is matched to the one in the other image with the nearest descriptor. A match
    is correct if it lies within `epsilon` pixels of the true position.

    * Matching score: correct matches over keypoints in the common view.
    * Average precision: area under the precision-recall curve as the descriptor distance threshold varies, the sum
      over distinct distances of precision times the step in recall. Recall counts correct matches among the
      keypoints that have a counterpart within `epsilon` (Mikolajczyk and Schmid, 2005). Its mean over pairs is the
      nearest-neighbour mAP.

    Both are computed from the first image to the second and back, and averaged.

    Args:
        first, second: (N, 2) and (M, 2) keypoints.
        distances: (N, M) between their descriptors.
    """
    seen_first, seen_second = common_view(first, second, homography, network_size, second_size)
    a, b = np.asarray(first, float)[seen_first], np.asarray(second, float)[seen_second]
    distances = distances[seen_first][:, seen_second]
    directions = (
        _one_way(project(homography, a), b, distances, epsilon),
        _one_way(project(np.linalg.inv(homography), b), a, distances.T, epsilon),
    )
    precision, score = (_nanmean([direction[k] for direction in directions]) for k in (0, 1))
    return NearestNeighbours(precision, score)


def _one_way(true: Points, others: Points, distances: NDArray[np.floating], epsilon: float) -> tuple[float, float]:
    if not len(true):
        return float("nan"), float("nan")
    if not len(others):
        return float("nan"), 0.0
    error = np.linalg.norm(true[:, None] - others[None], axis=2)
    nearest = distances.argmin(axis=1)
    index = np.arange(len(true))
    correct = error[index, nearest] <= epsilon
    positives = int((error.min(axis=1) <= epsilon).sum())
    precision = average_precision(distances[index, nearest], correct, positives) if positives else float("nan")
    return precision, float(correct.mean())


def average_precision(distances: NDArray[np.floating], correct: NDArray[np.bool_], positives: int) -> float:
    """Compute the area under the precision-recall curve: the sum over distances of precision times the step in recall.

    Args:
        distances: (N,) distances of the matches; equal ones form one step.
        correct: (N,) bool, which matches are correct.
        positives: number of possible correct matches, at least 1.
    """
    order = np.argsort(distances, kind="stable")
    sorted_distances = np.asarray(distances)[order]
    right = np.cumsum(correct[order])
    last = np.append(np.diff(sorted_distances) > 0, True)  # the end of each run of equal distances
    right, taken = right[last], np.arange(1, len(order) + 1)[last]
    return float((np.diff(right, prepend=0) / positives * right / taken).sum())


def corner_error(estimated: Matrix, true: Matrix, size: Size) -> float:
    """Compute the mean distance in pixels between image corners mapped by two homographies (paper, section 7.3)."""
    height, width = size
    corners = np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]], float)
    return float(np.linalg.norm(project(estimated, corners) - project(true, corners), axis=1).mean())


def correctness(errors: NDArray[np.floating], epsilon: float) -> float:
    """Return the fraction of (N,) corner errors within `epsilon` pixels (paper, section 7.3); failures are infinite."""
    errors = np.asarray(errors, np.float64)
    return float((errors <= epsilon).mean()) if len(errors) else float("nan")


def area_under_curve(errors: NDArray[np.floating], limit: float) -> float:
    """Compute the area under the cumulative error curve up to `limit` pixels, divided by `limit`.

    The curve is piecewise linear between the sorted errors, as in published comparisons (Sarlin et al., 2020, AUC of
    the pose error).

    Args:
        errors: (N,) errors, infinite for failed estimates.
    """
    errors = np.sort(np.asarray(errors, np.float64))
    if not len(errors):
        return float("nan")
    share = np.arange(1, len(errors) + 1) / len(errors)
    x, y = np.append(0.0, errors), np.append(0.0, share)
    below = int(np.searchsorted(x, limit))  # strictly below
    x, y = np.append(x[:below], limit), np.append(y[:below], y[below - 1])
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) / limit)


def _nanmean(values: list[float]) -> float:
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")
