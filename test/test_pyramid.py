"""Levels: features of scaled copies of an image, in pixels of the image."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from superpoint_ros import SuperPoint, match
from superpoint_ros.evaluation import methods
from superpoint_ros.extraction import pyramid
from superpoint_ros.frontend.timing import Stopwatch
from superpoint_ros.two_view.reprojection import reprojection_error


def by_place(features):
    """Sort keypoints independently of scores."""
    return np.lexsort(features.keypoints.T)


def test_levels_are_the_features_of_the_image_at_each_size(superpoint, grey):
    image = np.ascontiguousarray(grey[:240, :320])
    superpoint.configure(max_keypoints=20000)
    single = []
    for side in (320, 226, 160):
        superpoint.configure(resize=side, levels=1)
        single.append(superpoint.extract(image))
    superpoint.configure(resize=0, levels=3)
    found = superpoint.extract(image)
    assert found.image_size == (240, 320) and (np.diff(found.scores) <= 0).all()
    expected = np.concatenate([features.keypoints for features in single])
    assert len(found) == len(expected) > len(single[0])
    np.testing.assert_allclose(found.keypoints[by_place(found)], expected[np.lexsort(expected.T)], atol=1e-3)
    superpoint.configure(max_keypoints=50)
    np.testing.assert_array_equal(superpoint.extract(image).scores, found.scores[:50])


def test_the_best_of_all_levels_are_kept(make_features):
    places = np.random.default_rng(0).uniform(0, 400, (70, 2))
    first, second = make_features(places[:30], seed=1), make_features(places[30:], seed=2)
    found = pyramid.merge([first, second], 20)
    scores = np.concatenate((first.scores, second.scores))
    best = np.argsort(-scores, kind="stable")[:20]
    np.testing.assert_array_equal(found.scores, scores[best])
    np.testing.assert_array_equal(found.keypoints, np.concatenate((first.keypoints, second.keypoints))[best])
    np.testing.assert_array_equal(found.descriptors, np.concatenate((first.descriptors, second.descriptors))[best])
    assert found.device_descriptors is None
    parts = [replace(f, device_descriptors=torch.from_numpy(f.descriptors)) for f in (first, second)]
    np.testing.assert_array_equal(pyramid.merge(parts, 20).device_descriptors.numpy(), found.descriptors)


def test_keypoints_of_every_level_are_in_pixels_of_the_image(grey):
    superpoint = SuperPoint(device="cpu", precision="float32", max_keypoints=400)
    image = cv2.GaussianBlur(grey[:360, :480], (0, 0), 1.5)
    at_one = superpoint.extract(image)
    superpoint.configure(levels=4)
    every = superpoint.extract(image)
    # Keypoints that another level detects, too: a half-pixel error of the convention would shift them.
    distance = every.keypoints[:, None] - at_one.keypoints[None]
    nearest = np.linalg.norm(distance, axis=2).argmin(axis=1)
    offset = distance[np.arange(len(every)), nearest]
    again = (np.linalg.norm(offset, axis=1) < 2) & (np.linalg.norm(offset, axis=1) > 1e-3)
    assert again.sum() > 50
    assert np.abs(offset[again].mean(axis=0)).max() < 0.15


@pytest.mark.parametrize("runtime", ["auto", "pytorch", "cuda_graph"])
def test_a_batch_has_the_features_of_single_images(runtime, grey, tiny_weights):
    if runtime == "cuda_graph" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    device = "cuda" if runtime == "cuda_graph" else "cpu"
    superpoint = SuperPoint(tiny_weights, 100, levels=3, device=device, runtime=runtime, precision="float32")
    images = [np.ascontiguousarray(grey[i : i + 120, i : i + 160]) for i in (0, 30, 60)]
    for alone, together in zip(map(superpoint.extract, images), superpoint.extract_batch(images), strict=True):
        assert len(alone) == 100
        np.testing.assert_allclose(alone.scores, together.scores, atol=1e-4)


def test_levels_too_small_for_the_network_are_skipped(superpoint, grey):
    sizes = [level.size for level in pyramid.levels([grey[:64, :100]], 0, 8)]
    assert sizes == [(64, 100), (45, 71), (32, 50), (23, 35), (16, 25)]
    assert [level.size for level in pyramid.levels([grey[:64, :100]], 0, 8, 2.0)] == [(64, 100), (32, 50), (16, 25)]
    superpoint.configure(border=0)
    smallest = np.ascontiguousarray(grey[100:116, 100:140])
    expected = superpoint.extract(smallest)
    superpoint.configure(levels=8)
    np.testing.assert_array_equal(superpoint.extract(smallest).keypoints, expected.keypoints)


def test_two_levels_match_an_image_of_half_the_size_if_the_scale_factor_is_two(grey):
    superpoint = SuperPoint("light", levels=2, device="cpu", precision="float32")
    small = cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    right = []
    for factor in (1.2, 2.0):
        superpoint.configure(scale_factor=factor)
        first, second = superpoint.extract(grey), superpoint.extract(small)
        pairs = match(first, second).indices
        error = (first.keypoints[pairs[:, 0]] + 0.5) / 2 - 0.5 - second.keypoints[pairs[:, 1]]
        right.append(int((np.linalg.norm(error, axis=1) < 2).sum()))
    assert right[1] > 1.3 * right[0] > 0


def test_balanced_levels_are_equally_many_and_replace_what_one_lacks(make_features):
    places = np.random.default_rng(1).uniform(0, 400, (90, 2))
    parts = [make_features(part, seed=i) for i, part in enumerate((places[:50], places[50:55], places[55:]))]
    found = pyramid.merge(parts, 35, balanced=True)
    assert len(found) == 35 and (np.diff(found.scores) <= 0).all()
    kept = {tuple(place) for place in found.keypoints}
    best = [[rank for rank, place in enumerate(part.keypoints) if tuple(place) in kept] for part in parts]
    assert best == [list(range(15)), list(range(5)), list(range(15))]
    everything = pyramid.merge(parts, 100, balanced=True)
    np.testing.assert_array_equal(everything.scores, pyramid.merge(parts, 100).scores)


def test_balanced_levels_match_more_of_an_image_of_half_the_size(grey):
    superpoint = SuperPoint(
        "light", 300, nms_radius=2, detection_threshold=0.0005, levels=3, scale_factor=2.0, precision="float32"
    )
    small = cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    right = []
    for balanced in (False, True):
        superpoint.configure(balance_levels=balanced)
        first, second = superpoint.extract(grey), superpoint.extract(small)
        assert len(first) == len(second) == 300 and (np.diff(first.scores) <= 0).all()
        pairs = match(first, second).indices
        error = (first.keypoints[pairs[:, 0]] + 0.5) / 2 - 0.5 - second.keypoints[pairs[:, 1]]
        right.append(int((np.linalg.norm(error, axis=1) < 2).sum()))
    assert right[1] > 1.3 * right[0] > 0


@pytest.mark.parametrize("kind", ["mask", "spread", "batch"])
def test_balanced_levels_stay_balanced_with_everything_else(kind, grey):
    superpoint = SuperPoint("light", 120, nms_radius=2, detection_threshold=0.0005, levels=3, precision="float32")
    mask = np.ones(grey.shape, bool)
    mask[:, :100] = kind != "mask"
    shares = []
    for balanced in (False, True):
        superpoint.configure(balance_levels=balanced, spread=kind == "spread")
        found = superpoint.extract_batch([grey, grey])[1] if kind == "batch" else superpoint.extract(grey, mask=mask)
        assert len(found) == 120
        shares.append(np.bincount(found.levels, minlength=3) / 120)
    assert shares[1][2] > 1.1 * shares[0][2]
    if kind != "spread":
        np.testing.assert_allclose(shares[1], 1 / 3, atol=0.01)


@pytest.mark.parametrize("factor", [1.0, 0.5, float("inf"), float("nan")])
def test_levels_that_do_not_shrink_are_rejected(superpoint, factor):
    with pytest.raises(ValueError, match=f"scale_factor is {factor}, allowed is a finite number above 1"):
        superpoint.configure(levels=3, scale_factor=factor)


def test_an_image_twice_as_large_has_more_accurate_matches_with_levels(grey):
    superpoint = SuperPoint(device="cpu", precision="float32", max_keypoints=1000)
    large = cv2.resize(np.ascontiguousarray(grey[100:340, 100:420]), (640, 480), interpolation=cv2.INTER_CUBIC)
    truth = np.array([[2, 0, -199.5], [0, 2, -199.5], [0, 0, 1]])
    right = []
    for levels in (1, 3):
        superpoint.configure(levels=levels)
        first, second = superpoint.extract(grey), superpoint.extract(large)
        pairs = match(first, second).indices
        error = reprojection_error(truth, first.keypoints[pairs[:, 0]], second.keypoints[pairs[:, 1]])
        right.append(np.count_nonzero(error < 1))
    assert right[1] > 2 * right[0], right


def test_a_continued_stage_counts_as_one_run(monkeypatch):
    now = itertools.count()  # the clock advances by a second per call
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(now)))
    clock = Stopwatch()
    for again in (False, True, True):
        with clock.stage("network", again):
            pass
    assert clock.medians()["network"] == 3
    with clock.stage("match", True):
        pass
    assert clock.medians()["match"] == 1


def test_an_evaluation_keeps_its_suppression_across_levels_unless_it_has_none(grey, tiny_weights):
    spec = f"superpoint:{tiny_weights},levels=3,nms_radius=4,detection_threshold=0"
    method = methods.create(spec)
    apart, close = method.detect(grey, 100, 8), method.detect(grey, 100, 0)
    assert len(apart) == len(close) == 100
    least = [
        np.abs(f.keypoints[:, None] - f.keypoints[None]).max(2)[~np.eye(100, dtype=bool)].min() for f in (apart, close)
    ]
    assert least[0] > 7 > least[1]
    assert method.settings() != methods.create(spec.replace("levels=3", "levels=2")).settings()
