"""Homographies refined by aligning two images."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from superpoint_ros import (
    Frame,
    FrontEnd,
    FrontEndSettings,
    SuperPoint,
    estimate_homography,
    match,
    settings_from_parameters,
)
from superpoint_ros.evaluation import metrics
from superpoint_ros.features import Status
from superpoint_ros.two_view.alignment import align
from superpoint_ros.two_view.geometry import project
from superpoint_ros.two_view.homography import homography_from_points

TRUTH = np.array([[0.98, 0.06, 12.0], [-0.05, 1.01, 9.0], [3e-5, -4e-5, 1.0]])
CORNERS = np.array([[0, 0], [511, 0], [511, 511], [0, 511]], float)


def warp(image, homography, random=None, noise=0.0, size=(512, 512)):
    """Warp an image to its second view, of (width, height) `size`."""
    view = cv2.warpPerspective(image, homography, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return noisy(view, random, noise) if noise else view


def noisy(image, random, noise):
    return np.clip(np.rint(image + random.normal(0, noise, image.shape)), 0, 255).astype(np.uint8)


def off_by(homography, pixels, random):
    """Perturb a homography by this many pixels at the corners."""
    there = project(homography, CORNERS)
    push = random.normal(size=(4, 2))
    push *= pixels / np.linalg.norm(push, axis=1, keepdims=True)
    return cv2.getPerspectiveTransform(CORNERS.astype(np.float32), (there + push).astype(np.float32))


def corner_error(first, second):
    return metrics.corner_error(first, second, (512, 512))


def corners_of(image, count=300):
    return cv2.goodFeaturesToTrack(image, count, 0.01, 6)[:, 0]


@pytest.mark.parametrize("pixels", [0.5, 2.0])
def test_a_homography_off_by_pixels_is_aligned_to_a_tenth_of_a_pixel(grey, pixels):
    random = np.random.default_rng(0)
    first, second = noisy(grey, random, 4), warp(grey, TRUTH, random, 4)
    for _ in range(5):
        start = off_by(TRUTH, pixels, random)
        found = align(first, second, start, corners_of(first))
        assert corner_error(found.matrix, TRUTH) < 0.1 < corner_error(start, TRUTH)


def test_brightness_and_contrast_may_change_and_vary_across_the_image(grey):
    random = np.random.default_rng(1)
    light = 0.5 + 0.4 * np.linspace(0, 1, 512)[:, None]
    second = np.rint(light * warp(grey, TRUTH) + 20).astype(np.uint8)
    found = align(grey, second, off_by(TRUTH, 1.0, random), corners_of(grey))
    assert corner_error(found.matrix, TRUTH) < 0.15


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_views_of_other_scale_are_aligned(grey, factor):
    random = np.random.default_rng(2)
    scale = np.array([[factor, 0, (factor - 1) / 2], [0, factor, (factor - 1) / 2], [0, 0, 1]])
    side = round(512 * factor)
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    second = cv2.resize(grey, (side, side), interpolation=how)
    found = align(grey, second, off_by(scale, 1.0, random), corners_of(grey))
    assert corner_error(found.matrix, scale) < 0.15


def test_independently_moving_objects_do_not_count(grey):
    random = np.random.default_rng(3)
    second = warp(grey, TRUTH)
    second[150:350, 150:330] = warp(grey, np.array([[1, 0, 2.5], [0, 1, -2], [0, 0, 1]]) @ TRUTH)[150:350, 150:330]
    found = align(grey, second, off_by(TRUTH, 1.0, random), corners_of(grey))
    assert corner_error(found.matrix, TRUTH) < 0.25


def test_the_covariance_matches_the_scatter_of_many_trials(grey):
    random = np.random.default_rng(4)
    points = corners_of(grey)
    distances = []
    for _ in range(60):
        first, second = noisy(grey, random, 8), warp(grey, TRUTH, random, 8)
        found = align(first, second, off_by(TRUTH, 0.5, random), points)
        error = (found.matrix - TRUTH).reshape(9)[:8]
        scale = np.sqrt(np.diag(found.covariance))
        distances.append(error / scale @ np.linalg.solve(found.covariance / np.outer(scale, scale), error / scale))
        assert np.array_equal(found.covariance, found.covariance.T)
    # Of eight parameters: 8 on average if the covariance is consistent.
    assert 4 < np.median(distances) < 24, np.median(distances)


def test_images_without_texture_leave_the_homography_unchanged(grey):
    flat = np.full((512, 512), 90, np.uint8)
    points = corners_of(grey)
    assert align(flat, flat, np.eye(3), points) is None
    assert align(grey, flat, np.eye(3), points) is None
    assert align(grey, grey, np.eye(3), points[:3]) is None
    assert align(grey, grey, np.eye(3), np.zeros((0, 2), np.float32)) is None
    assert align(grey, grey, np.diag([1.0, 0.0, 1.0]), points) is None
    beyond_the_horizon = np.array([[1, 0, 0], [0, 1, 0], [-1 / 200, 0, 1.0]])
    assert align(grey, grey, beyond_the_horizon, points) is None
    random = np.random.default_rng(5)
    other = random.integers(0, 255, (512, 512)).astype(np.uint8)
    there = project(TRUTH, points)
    plain = homography_from_points(points, there)
    for images in ((flat, flat), (grey, other)):
        found = homography_from_points(points, there, images=images)
        assert found.status == Status.OK
        np.testing.assert_array_equal(found.matrix, plain.matrix)
        np.testing.assert_array_equal(found.covariance, plain.covariance)


def test_with_images_an_estimate_is_several_times_as_accurate(photograph):
    random = np.random.default_rng(6)
    superpoint = SuperPoint(device="cpu", precision="float32", max_keypoints=500)
    first = photograph
    second = warp(photograph, TRUTH, random, 3)
    a, b = superpoint.extract(first), superpoint.extract(second)
    matches = match(a, b)
    plain, aligned = (estimate_homography(a, b, matches, images=images) for images in (None, (first, second)))
    errors = [corner_error(found.matrix, TRUTH) for found in (plain, aligned)]
    assert errors[1] < errors[0] / 2 and errors[1] < 0.15, errors
    assert aligned.inlier_count > 0.9 * plain.inlier_count and aligned.rmse < 2
    greys = [cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) for image in (first, second)]
    in_grey = estimate_homography(a, b, matches, images=(greys[0], greys[1]))
    np.testing.assert_array_equal(in_grey.matrix, aligned.matrix)
    with pytest.raises(ValueError, match=r"the second image is \(100, 512\)"):
        estimate_homography(a, b, matches, images=(first, second[:100]))


def test_the_front_end_aligns_by_default(grey):
    random = np.random.default_rng(7)
    superpoint = SuperPoint(device="cpu", precision="float32", max_keypoints=500)
    views = [noisy(grey, random, 3), warp(grey, TRUTH, random, 3)]
    error = {}
    for wanted in (True, False):
        front_end = FrontEnd(superpoint, settings_from_parameters({"homography.align": wanted}))
        results = [front_end.process(Frame(stamp, lambda view=view: view)) for stamp, view in enumerate(views, 1)]
        error[wanted] = corner_error(results[1].homography.matrix, TRUTH)
    assert error[True] < error[False] / 2, error
    # Switched on between two frames: the previous frame has no image yet, the next one has.
    back = np.linalg.inv(TRUTH)
    front_end.configure(FrontEndSettings())
    later = [front_end.process(Frame(stamp, lambda view=view: view)) for stamp, view in enumerate(views * 2, 3)]
    assert all(result.homography.status == Status.OK for result in later)
    assert max(corner_error(later[index].homography.matrix, back) for index in (0, 2)) < error[False] / 2
