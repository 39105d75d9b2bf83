"""Keypoints that cover the image: as many as asked for, of all its parts, and the best of each."""

from __future__ import annotations

import numpy as np
import pytest

from superpoint_ros import Features, SuperPoint
from superpoint_ros.extraction.spread import cover


def crowded(count=600, seed=0):
    """Features most of which, and the best, lie in one corner."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, (160, 120), (count * 3 // 4, 2))
    others = rng.uniform(0, (640, 480), (count - len(corner), 2))
    points = np.vstack((corner, others)).astype(np.float32)
    scores = np.sort(rng.uniform(0.01, 1, count).astype(np.float32))[::-1]
    descriptors = rng.standard_normal((count, 8)).astype(np.float32)
    return Features(points, scores, descriptors, (480, 640), levels=np.arange(count).astype(np.uint8))


def cells(points):
    return len(np.unique(points // 80, axis=0))


def test_the_number_is_kept_the_order_is_that_of_the_scores_and_rows_stay_together():
    features = crowded()
    chosen = cover(features, 200)
    assert len(chosen) == 200
    assert (np.diff(chosen.scores) <= 0).all()
    rows = {tuple(point): index for index, point in enumerate(features.keypoints.tolist())}
    index = [rows[tuple(point)] for point in chosen.keypoints.tolist()]
    for name in ("scores", "descriptors", "levels"):
        np.testing.assert_array_equal(getattr(chosen, name), getattr(features, name)[index])


def test_the_image_is_covered_better_than_by_the_best_scores():
    features = crowded()
    assert cells(cover(features, 200).keypoints) > 1.5 * cells(features.keypoints[:200])


def test_of_each_part_the_best_is_kept():
    features = crowded()
    chosen = cover(features, 100)
    worst_kept = {}
    for point, score in zip(chosen.keypoints, chosen.scores, strict=True):
        cell = tuple((point // np.sqrt(4 * 640 * 480 / 100)).tolist())
        worst_kept[cell] = min(worst_kept.get(cell, 1), score)
    kept = {tuple(point) for point in chosen.keypoints.tolist()}
    for point, score in zip(features.keypoints, features.scores, strict=True):
        cell = tuple((point // np.sqrt(4 * 640 * 480 / 100)).tolist())
        assert tuple(point.tolist()) in kept or score <= worst_kept.get(cell, 1)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_few_keypoints_are_all_kept(count):
    features = crowded()
    few = Features(features.keypoints[:count], features.scores[:count], features.descriptors[:count], (480, 640))
    assert cover(few, 5) is few


@pytest.mark.parametrize("levels", [1, 2])
def test_an_image_gets_the_number_asked_for_and_covers_more(photograph, levels):
    image = photograph[:480, :640]
    best, spread = (
        SuperPoint("light", max_keypoints=100, levels=levels, spread=on).extract(image) for on in (False, True)
    )
    assert len(best) == len(spread) == 100
    assert cells(spread.keypoints) > cells(best.keypoints)
