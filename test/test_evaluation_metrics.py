"""Every metric agrees with a reference implementation of its definition, and with results computed by hand."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from superpoint_ros.evaluation import metrics

SIZE = (120, 160)
WARP = np.array([[0.9, 0.12, 6.0], [-0.08, 1.05, -4.0], [3e-4, -2e-4, 1.0]])


def through(h, point):
    x, y = float(point[0]), float(point[1])
    w = h[2][0] * x + h[2][1] * y + h[2][2]
    return (h[0][0] * x + h[0][1] * y + h[0][2]) / w, (h[1][0] * x + h[1][1] * y + h[1][2]) / w


def seen(point, size=SIZE):
    return 0 <= point[0] <= size[1] - 1 and 0 <= point[1] <= size[0] - 1


def apart(a, b):
    return math.hypot(a[0] - b[0], a[1] - b[1])


def points_and_views(seed, count=60, noise=1.5):
    """Create random keypoints: about half have a noisy counterpart, some are outside the common view."""
    rng = np.random.default_rng(seed)
    first = rng.uniform((0, 0), (SIZE[1] - 1, SIZE[0] - 1), (count, 2))
    moved = np.array([through(WARP, p) for p in first]) + rng.normal(0, noise, first.shape)
    second = np.concatenate((moved[: count // 2], rng.uniform((0, 0), (SIZE[1] - 1, SIZE[0] - 1), (count // 2, 2))))
    return first, rng.permutation(second)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("most", [None, 12])
def test_repeatability_and_localisation_error_agree_with_a_plain_computation(seed, most):
    first, second = points_and_views(seed)
    back = np.linalg.inv(WARP)
    a = [through(WARP, p) for p in first if seen(through(WARP, p))][:most]
    b = [tuple(p) for p in second if seen(through(back, p))][:most]
    found = []
    for ours, others in ((a, b), (b, a)):
        for p in ours:
            nearest = min(apart(p, q) for q in others)
            if nearest <= 3:
                found.append(nearest)
    share, error = metrics.repeatability(first, second, WARP, SIZE, SIZE, 3.0, most)
    assert share == pytest.approx(len(found) / (len(a) + len(b)), abs=1e-6)
    assert error == pytest.approx(sum(found) / len(found), abs=1e-6)


def test_keypoints_of_a_known_shift_have_the_known_repeatability():
    shift = np.array([[1, 0, 10], [0, 1, 0], [0, 0, 1]], float)
    first = np.array([[5, 5], [50, 50], [155, 60], [80, 20]])  # the third leaves the image
    second = np.array([[15, 5], [60, 52], [90, 80], [2, 2]])  # repeated, repeated, not repeated, outside the view
    share, error = metrics.repeatability(first, second, shift, SIZE, SIZE)
    assert share == pytest.approx(4 / 6)
    assert error == pytest.approx((0 + 2 + 0 + 2) / 4)
    nothing = np.zeros((0, 2))
    assert all(np.isnan(metrics.repeatability(nothing, nothing, shift, SIZE, SIZE)))
    assert metrics.repeatability(first, nothing, shift, SIZE, SIZE)[0] == 0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("binary", [False, True])
def test_distances_and_mutual_matches_agree_with_a_plain_computation(seed, binary):
    rng = np.random.default_rng(seed)
    if binary:
        a, b = (rng.integers(0, 256, (n, 4), np.uint8) for n in (30, 25))
    else:
        a, b = (rng.normal(size=(n, 8)).astype(np.float32) for n in (30, 25))

    def distance(p, q):
        if binary:
            return sum(bin(int(x) ^ int(y)).count("1") for x, y in zip(p, q, strict=True))
        return math.sqrt(sum((float(x) - float(y)) ** 2 for x, y in zip(p, q, strict=True)))

    plain = [[distance(p, q) for q in b] for p in a]
    assert np.allclose(metrics.descriptor_distances(a, b), plain, atol=1e-6)
    expected = []
    for i in range(len(a)):
        j = plain[i].index(min(plain[i]))
        column = [row[j] for row in plain]
        if column.index(min(column)) == i:
            expected.append((i, j))
    assert [tuple(m) for m in metrics.mutual_matches(np.array(plain))] == expected


@pytest.mark.parametrize("seed", range(4))
def test_the_matching_accuracy_curve_agrees_with_a_plain_computation(seed):
    rng = np.random.default_rng(seed)
    first = rng.uniform((0, 0), (SIZE[1] - 1, SIZE[0] - 1), (80, 2))
    second = np.array([through(WARP, p) for p in first]) + rng.normal(0, 4, first.shape)
    curve = metrics.matching_accuracy(first, second, WARP, np.arange(1, 11, dtype=float))
    for threshold, share in zip(range(1, 11), curve, strict=True):
        right = sum(1 for p, q in zip(first, second, strict=True) if apart(through(WARP, p), q) <= threshold)
        assert share == pytest.approx(right / len(first), abs=1e-6)
    assert 0 < curve[0] < curve[5] < 1
    assert not metrics.matching_accuracy(first[:0], second[:0], WARP, np.arange(1, 11)).any()


def plain_direction(points, others, h, distances, epsilon):
    """Compute matching score and average precision by definition, with the precision at every distinct distance."""
    right, candidates, positives = 0, [], 0
    for i, p in enumerate(points):
        place = through(h, p)
        j = min(range(len(others)), key=lambda k: (distances[i][k], k))
        good = apart(place, others[j]) <= epsilon
        right += good
        candidates.append((distances[i][j], good))
        positives += any(apart(place, q) <= epsilon for q in others)
    area, recall = 0.0, 0.0
    for limit in sorted({d for d, _ in candidates}):
        taken = [good for d, good in candidates if d <= limit]
        area += (sum(taken) / positives - recall) * sum(taken) / len(taken)
        recall = sum(taken) / positives
    return area, right / len(points)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_and_matching_score_agree_with_a_plain_computation(seed, ties):
    first, second = points_and_views(seed)
    back = np.linalg.inv(WARP)
    rng = np.random.default_rng(100 + seed)
    # Descriptors of positions with noise: some matches are wrong.
    places = np.array([through(WARP, p) for p in first])
    distances = np.linalg.norm(places[:, None] - second[None], axis=2) + rng.uniform(0, 12, (len(first), len(second)))
    if ties:
        distances = np.round(distances)
    rows = [i for i, p in enumerate(first) if seen(through(WARP, p))]
    columns = [j for j, p in enumerate(second) if seen(through(back, p))]
    table = [[float(distances[i][j]) for j in columns] for i in rows]
    a, b = [first[i] for i in rows], [second[j] for j in columns]
    ways = (plain_direction(a, b, WARP, table, 3), plain_direction(b, a, back, [list(c) for c in zip(*table)], 3))  # noqa: B905
    found = metrics.nearest_neighbours(first, second, distances, WARP, SIZE, SIZE, 3.0)
    assert found.average_precision == pytest.approx((ways[0][0] + ways[1][0]) / 2, abs=1e-6)
    assert found.matching_score == pytest.approx((ways[0][1] + ways[1][1]) / 2, abs=1e-6)
    assert 0.05 < found.average_precision < 0.99


def test_average_precision_of_a_known_ranking():
    # Correct, wrong, correct of three possible: 1/3 * 1 + 1/3 * 2/3.
    right = np.array([True, False, True])
    assert metrics.average_precision(np.array([0.1, 0.2, 0.3]), right, 3) == pytest.approx(1 / 3 + 2 / 9)
    # Equal distances count together, whatever their order: 2/3 of recall at 2/3 of precision.
    assert metrics.average_precision(np.array([1.0, 1.0, 1.0]), right, 3) == pytest.approx(4 / 9)


@pytest.mark.parametrize("seed", range(4))
def test_corner_error_agrees_with_a_plain_computation(seed):
    other = WARP + np.random.default_rng(seed).normal(0, 1e-4, (3, 3))
    corners = [(0, 0), (159, 0), (0, 119), (159, 119)]
    plain = sum(apart(through(WARP, c), through(other, c)) for c in corners) / 4
    assert metrics.corner_error(other, WARP, SIZE) == pytest.approx(plain, abs=1e-6)


def plain_area(errors, limit):
    """Integrate the curve through (0, 0), (e1, 1/n), (e2, 2/n) ..., constant after the last error below the limit."""
    below = sorted(e for e in errors if e < limit)
    corners = [(0.0, 0.0), *((e, (i + 1) / len(errors)) for i, e in enumerate(below))]
    corners.append((limit, corners[-1][1]))
    return sum((x2 - x1) * (y1 + y2) / 2 for (x1, y1), (x2, y2) in pairwise(corners)) / limit


@pytest.mark.parametrize("seed", range(4))
def test_correctness_and_its_area_agree_with_a_plain_computation(seed):
    errors = np.random.default_rng(seed).exponential(3, 40)
    errors[::7] = np.inf
    for limit in (1, 3, 5):
        share = sum(1 for e in errors if e <= limit) / len(errors)
        assert metrics.correctness(errors, limit) == pytest.approx(share, abs=1e-6)
        assert metrics.area_under_curve(errors, limit) == pytest.approx(plain_area(errors, limit), abs=1e-6)


def test_the_area_of_known_errors():
    assert metrics.area_under_curve(np.zeros(5), 3) == pytest.approx(1)
    assert metrics.area_under_curve(np.full(5, np.inf), 3) == 0
    assert metrics.area_under_curve(np.array([2.0]), 4) == pytest.approx((2 / 2 + 2) / 4)
    assert metrics.area_under_curve(np.array([5.0]), 5) == 0
