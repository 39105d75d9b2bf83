"""The refinement in tensor form finds what the one in NumPy finds: on a GPU as a graph, here step by step."""

from __future__ import annotations

import logging

import cv2
import numpy as np
import pytest
import torch
from operations import UNRECORDABLE, Operations

from superpoint_ros import Frame, FrontEnd, SuperPoint
from superpoint_ros.simulation.flight import Flight
from superpoint_ros.two_view import refiner as module
from superpoint_ros.two_view.refinement import FARTHEST, Templates, refine_points, smooth
from superpoint_ros.two_view.refiner import MULTIPLE, Step, TensorRefiner, refiner

MOVE = np.array([[0.97, 0.08, 6.3], [-0.07, 1.02, 9.1]])
EXACT = int(cv2.__version__.split(".")[0]) >= 5  # before that, OpenCV rounds places in an image to 1/32 pixel


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def tensors(request):
    return TensorRefiner(torch.device(request.param))


def search(grey, count, size=(300, 400), seed=0):
    """A noisy view of a photograph with points all over it and beyond, as arguments of `refine_points`."""
    random = np.random.default_rng(seed)
    first = grey[: size[0], : size[1]]
    second = cv2.warpAffine(first, MOVE, size[::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    second = np.clip(second * 0.8 + random.normal(0, 2, size), 0, 255).astype(np.uint8)
    points = random.uniform(-5, 5 + max(size), (count, 2)).astype(np.float32)
    start = points @ MOVE[:, :2].T + MOVE[:, 2] + random.normal(0, 0.5, points.shape)
    warps = np.tile(MOVE[:, :2], (count, 1, 1)) + random.normal(0, 0.02, (count, 2, 2))
    return Templates.of(smooth(first), points), smooth(second), start, warps, FARTHEST


def assert_same(found, expected):
    assert found.points.shape == expected.points.shape and found.covariance.shape == expected.covariance.shape
    assert found.points.dtype == found.covariance.dtype == found.correlation.dtype == np.float32
    both, none = found.found & expected.found, ~found.found & ~expected.found
    assert np.count_nonzero(~both & ~none) <= 0.01 * len(both)
    # Where little holds a point, a rounded place leads a step more or less astray.
    places, rest = (1e-3, 1e-4) if EXACT else (0.2, 0.01)
    np.testing.assert_allclose(found.points[both], expected.points[both], atol=places)
    assert not both.any() or np.median(np.abs(found.points[both] - expected.points[both])) < 0.01
    np.testing.assert_allclose(found.covariance[both], expected.covariance[both], rtol=1e-2, atol=rest)
    np.testing.assert_allclose(found.correlation[both], expected.correlation[both], atol=rest)
    np.testing.assert_array_equal(found.points[none], expected.points[none])
    np.testing.assert_array_equal(found.covariance[none], expected.covariance[none])


def test_points_covariance_and_correlation_are_those_of_numpy(tensors, grey):
    given = search(grey, 600)
    expected = refine_points(*given)
    assert 0.3 < expected.found.mean() < 0.9 and 0 < given[0].usable.mean() < 1
    assert_same(tensors(*given), expected)


def test_a_search_that_may_go_further_does(tensors, grey):
    templates, image, start, warps, _ = search(grey, 400)
    found = [tensors(templates, image, start, warps, farthest) for farthest in (0.5, 3.0)]
    for each, farthest in zip(found, (0.5, 3.0), strict=True):
        assert_same(each, refine_points(templates, image, start, warps, farthest))
    assert 2 * np.count_nonzero(found[0].found) < np.count_nonzero(found[1].found)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e9])
def test_what_is_not_usable_or_not_a_place_is_never_found(tensors, grey, value):
    templates, image, start, warps, farthest = search(grey, 300)
    expected = refine_points(templates, image, start, warps, farthest)
    good = np.flatnonzero(expected.found)[:3]
    start[good[0], 1] = warps[good[1], 0, 1] = value
    templates.usable[good[2]] = False
    found = tensors(templates, image, start, warps, farthest)
    assert not found.found[good].any() and np.isinf(found.covariance[good, 0]).all()
    np.testing.assert_array_equal(found.points[good], start[good].astype(np.float32))
    assert_same(found, refine_points(templates, image, start, warps, farthest))


@pytest.mark.parametrize("level", [0, 255])
def test_flat_images_give_no_point(tensors, level):
    flat, points = smooth(np.full((64, 96), level, np.uint8)), np.array([[40, 30], [0, 0], [95, 63]], np.float32)
    found = tensors(Templates.of(flat, points), flat, points, np.tile(np.eye(2), (3, 1, 1)))
    assert not found.found.any() and np.isfinite(found.points).all()


def test_without_points_nothing_is_found(tensors):
    image = smooth(np.zeros((64, 96), np.uint8))
    found = tensors(Templates.of(image, np.zeros((0, 2))), image, np.zeros((0, 2)), np.zeros((0, 2, 2)))
    assert len(found.points) == len(found.covariance) == len(found.found) == len(found.correlation) == 0


def test_calls_of_different_sizes_do_not_disturb_each_other(tensors, grey):
    """Also fewer points after more in the same buffers, whose rest must not be found again."""
    sizes = [(MULTIPLE, (300, 400)), (5, (300, 400)), (MULTIPLE + 1, (200, 240)), (1, (200, 240)), (200, (300, 400))]
    given = [search(grey, *size, seed) for seed, size in enumerate(sizes)]
    expected = [refine_points(*one) for one in given]
    for _ in range(2):
        found = [tensors(*one) for one in given]  # all are kept while others are found
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    shared = tensors._searches[(300, 400, MULTIPLE)]  # the last of its calls had 200 points
    assert shared._output[:200, -1].any() and not shared._output[200:, -1].any()
    assert found[0].found.flags.writeable and found[0].points.flags.writeable


def test_only_so_many_sizes_are_kept(tensors, monkeypatch, grey):
    monkeypatch.setattr(module, "_KEPT", 2)
    for width in (60, 70, 80, 60):
        given = search(grey, 10, (50, width))
        assert_same(tensors(*given), refine_points(*given))
    assert len(tensors._searches) == 2


def test_a_step_takes_nothing_from_the_host_and_never_waits_for_a_value():
    step = Step((64, 96), MULTIPLE, torch.device("cpu"))
    with torch.no_grad(), Operations() as seen:
        assert step().shape == (MULTIPLE, 7)
    assert "grid_sampler_2d" in seen.names
    assert not seen.names & UNRECORDABLE


def test_where_nothing_can_be_recorded_the_same_is_found_and_the_log_says_why(monkeypatch, caplog, grey):
    def fails(step, stream):
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    monkeypatch.setattr(module, "_recorded", fails)
    caplog.set_level(logging.DEBUG, module.__name__)
    step = Step((64, 96), MULTIPLE, torch.device("cpu"))
    assert module._prepared(step, stream=object()) is step
    (record,) = caplog.records
    assert record.levelno == logging.DEBUG
    assert record.message.endswith("RuntimeError: operation not permitted when stream is capturing")


@pytest.mark.cuda
def test_on_a_gpu_a_size_is_recorded_once(caplog, grey):
    caplog.set_level(logging.DEBUG, module.__name__)
    superpoint = SuperPoint("light", device="cuda")
    refine = FrontEnd(superpoint).refine
    assert isinstance(refine, TensorRefiner) and refine.device.type == "cuda"
    for seed in range(3):
        given = search(grey, 600, seed=seed)
        assert_same(refine(*given), refine_points(*given))
    (one,) = refine._searches.values()
    assert not isinstance(one._run, Step) and not caplog.records


def test_on_the_processor_numpy_is_quicker_and_chosen():
    assert refiner(torch.device("cpu")) is refine_points
    assert FrontEnd(SuperPoint("light", device="cpu")).refine is refine_points


def flown(images, refine=None):
    front_end = FrontEnd(SuperPoint("light", device="cpu"))
    front_end.refine = refine or front_end.refine
    stamps = range(1, 1 + len(images) * 100_000_000, 100_000_000)
    return [front_end.process(Frame(*given)) for given in zip(stamps, [lambda i=i: i for i in images], strict=True)]


def test_the_front_end_has_the_same_matches_and_tracks(photograph, tensors):
    camera, calls = Flight(photograph, (240, 320)), []

    def counted(*given):
        calls.append(len(given[2]))
        return tensors(*given)

    images = [camera.frame(index / 10) for index in range(6)]
    ids, matches, shared = set(), 0, 0
    for ours, theirs in zip(flown(images, counted), flown(images), strict=True):
        # Compared by their places: one point that is just found or just not shifts the numbers of all others.
        distance = np.linalg.norm(ours.features.keypoints[:, None] - theirs.features.keypoints[None], axis=2)
        nearest, same = distance.argmin(axis=1), distance.min(axis=1) < (0.01 if EXACT else 0.1)
        assert len(ours.features) == pytest.approx(len(theirs.features), rel=0.02) and same.mean() > 0.98
        ids |= set(zip(ours.track_ids[same].tolist(), theirs.track_ids[nearest[same]].tolist(), strict=True))
        ends = [
            {tuple(np.round(found.features.keypoints[second]).astype(int)) for _, second in found.matches.indices}
            for found in (ours, theirs)
        ]
        matches, shared = matches + len(ends[1]), shared + len(ends[0] & ends[1])
    assert len(calls) >= 5 and max(calls) > 50
    assert matches > 300 and shared > 0.97 * matches
    # Each track of the one is one track of the other.
    assert all(len({pair[side] for pair in ids}) > 0.98 * len(ids) for side in (0, 1))
