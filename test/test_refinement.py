"""Matched points are refined to a few hundredths of a pixel, or marked as not refined."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from superpoint_ros.two_view.geometry import jacobians, project
from superpoint_ros.two_view.local_motion import local_motion
from superpoint_ros.two_view.refinement import FARTHEST, Templates, detection_covariance, refine_points, smooth

SIZE = (240, 320)
TURNED = np.array([[0.97, 0.08, 6.3], [-0.07, 1.02, 9.1], [1e-4, -5e-5, 1.0]])


@pytest.fixture(scope="module")
def scene(grey):
    """Two noisy views of a photograph, corners of the first and their true positions in the second."""
    random = np.random.default_rng(3)
    first = grey[60 : 60 + SIZE[0], 100 : 100 + SIZE[1]]
    large = cv2.resize(grey, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    to_large = np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1.0]])
    shifted = np.array([[1, 0, 100], [0, 1, 60], [0, 0, 1.0]])
    view = cv2.warpPerspective(large, TURNED @ np.linalg.inv(to_large @ shifted), SIZE[::-1], flags=cv2.INTER_AREA)
    first, second = (
        np.clip(image * gain + random.normal(0, 2, SIZE), 0, 255).astype(np.uint8)
        for image, gain in ((first, 1.0), (view, 0.8))
    )
    corners = cv2.goodFeaturesToTrack(first, 150, 0.02, 8)[:, 0]
    true = project(TURNED, corners)
    inside = ((corners > 14) & (corners < np.array(SIZE[::-1]) - 15)).all(1)
    inside &= ((true > 14) & (true < np.array(SIZE[::-1]) - 15)).all(1)
    return first, second, corners[inside], true[inside]


def refine(first, second, points, start, warps):
    return refine_points(Templates.of(smooth(first), points), smooth(second), start, warps)


def test_points_are_refined_to_a_tenth_of_their_detections_error(scene):
    first, second, points, true = scene
    start = true + np.random.default_rng(0).normal(0, 0.4, true.shape)
    found = refine(first, second, points, start, jacobians(TURNED, points))
    error = np.linalg.norm(found.points - true, axis=1)[found.found]
    assert found.found.mean() > 0.85
    assert np.median(error) < 0.06 < 0.1 * 1.2 < np.median(np.linalg.norm(start - true, axis=1))


def test_the_covariance_matches_the_errors(scene):
    first, second, points, true = scene
    found = refine(first, second, points, true + 0.3, jacobians(TURNED, points))
    d, c = (found.points - true)[found.found], found.covariance[found.found]
    determinant = c[:, 0] * c[:, 2] - c[:, 1] ** 2
    squared = (c[:, 2] * d[:, 0] ** 2 - 2 * c[:, 1] * d[:, 0] * d[:, 1] + c[:, 0] * d[:, 1] ** 2) / determinant
    assert (determinant > 0).all()
    assert 0.3 < np.median(squared) < 4  # 1.39 for two degrees of freedom


def test_points_with_different_surroundings_keep_their_position(scene):
    first, _, points, true = scene
    noise = np.random.default_rng(1).integers(0, 255, SIZE).astype(np.uint8)
    found = refine(first, noise, points, true, jacobians(TURNED, points))
    assert found.found.mean() < 0.05
    np.testing.assert_array_equal(found.points[~found.found], true[~found.found].astype(np.float32))
    assert np.isinf(found.covariance[~found.found, 0]).all()


def test_more_points_than_opencv_samples_at_once_are_refined_alike(scene):
    first, second, *points = scene
    points.append(jacobians(TURNED, points[0]))
    times = 40_000 // len(points[0]) + 1
    few, many = refine(first, second, *points), refine(first, second, *(np.concatenate([p] * times) for p in points))
    for name in ("points", "covariance", "found"):
        np.testing.assert_array_equal(getattr(many, name), np.concatenate([getattr(few, name)] * times))


def test_no_point_moves_further_than_allowed(scene):
    first, second, points, true = scene
    found = refine(first, second, points, true + 5, jacobians(TURNED, points))
    assert np.linalg.norm(found.points - (true + 5), axis=1).max() <= FARTHEST + 1e-4


@pytest.mark.parametrize("level", [0, 128, 255])
def test_flat_images_yield_no_point_and_no_nan(level):
    flat = np.full(SIZE, level, np.uint8)
    points = np.array([[50, 50], [0, 0], [319, 239], [-5, 400]], np.float32)
    found = refine(flat, flat, points, points, np.tile(np.eye(2), (4, 1, 1)))
    assert not found.found.any() and np.isfinite(found.points).all()
    assert np.isfinite(detection_covariance(Templates.of(smooth(flat), points))).all()


def test_starts_and_warps_that_are_not_finite_are_not_found(scene):
    first, second, points, true = scene
    warps = jacobians(TURNED, points)
    warps[0], start = np.nan, true.copy()
    start[1] = np.inf
    found = refine(first, second, points, start, warps)
    assert not found.found[:2].any() and found.found[2:].any()


def test_without_points_nothing_is_found():
    image = np.zeros(SIZE, np.uint8)
    assert len(refine(image, image, np.zeros((0, 2)), np.zeros((0, 2)), np.zeros((0, 2, 2))).points) == 0


def test_local_motion_is_that_of_each_part_of_the_image():
    random = np.random.default_rng(0)
    first = random.uniform(0, 1, (600, 2)) * (640, 480)
    left = first[:, 0] < 320
    second = first + np.where(left[:, None], (12.0, 0.0), (-4.0, 3.0)) + random.normal(0, 0.3, first.shape)
    second[::10] += random.normal(0, 30, second[::10].shape)  # wrong matches
    motion = local_motion(first, second, (480, 640))
    probe = np.array([[100.0, 200], [500, 300]])
    np.testing.assert_allclose(motion.predict(probe), [(112, 200), (496, 303)], atol=0.6)
    np.testing.assert_allclose(motion.at(probe)[:, :, :2], np.tile(np.eye(2), (2, 1, 1)), atol=0.03)


def test_local_motion_of_one_affine_map_is_that_map():
    first = np.random.default_rng(0).uniform(0, 1, (300, 2)) * (640, 480)
    linear, offset = np.array([[1.05, 0.1], [-0.08, 0.95]]), np.array([3.0, -20.0])
    motion = local_motion(first, first @ linear.T + offset, (480, 640))
    np.testing.assert_allclose(motion.predict(first), first @ linear.T + offset, atol=0.05)


def test_local_motion_without_matches_is_none():
    points = np.array([[3.0, 4.0]])
    np.testing.assert_array_equal(local_motion(np.zeros((0, 2)), np.zeros((0, 2)), (480, 640)).predict(points), points)


def test_the_warps_of_a_homography_are_its_derivatives():
    points, step = np.array([[30.0, 40.0], [200, 100]]), 1e-4
    warps = jacobians(TURNED, points)
    for axis in range(2):
        moved = points.copy()
        moved[:, axis] += step
        slope = (project(TURNED, moved) - project(TURNED, points)) / step
        np.testing.assert_allclose(warps[:, :, axis], slope, atol=1e-6)
