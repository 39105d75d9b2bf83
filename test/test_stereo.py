"""Stereo matches against a room whose depth is known: disparities, covariances, raw images, and what is no match."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from superpoint_ros import Features, SuperPoint
from superpoint_ros.node.camera import Camera
from superpoint_ros.simulation.room import Room
from superpoint_ros.two_view.stereo import match_stereo

SECONDS = 7.0
SIZE = (360, 480)


@pytest.fixture(scope="module")
def room():
    return Room(SIZE)


@pytest.fixture(scope="module")
def images(room):
    return tuple(cv2.cvtColor(room.frame(SECONDS, camera), cv2.COLOR_BGR2GRAY) for camera in (0, 1))


@pytest.fixture(scope="module")
def extractor():
    return SuperPoint(max_keypoints=600, device="cpu")


@pytest.fixture(scope="module")
def pair(extractor, images):
    return tuple(extractor.extract(image) for image in images)


def true_disparity(room, points):
    """True disparity of (N, 2) pixels of the left image, and whether the right camera sees the point."""
    places, visible = room.transfer(points, SECONDS, SECONDS, cameras=(0, 1))
    return (points - places)[:, 0], visible


def test_disparities_and_their_variances_are_right(room, images, pair):
    found = match_stereo(*pair, images=images)
    truth, visible = true_disparity(room, pair[0].keypoints[found.indices[:, 0]])
    assert visible.mean() > 0.98
    error = found.disparity[visible] - truth[visible]
    assert np.median(np.abs(error)) < 0.05
    assert np.mean(np.abs(error) > 1) < 0.03
    # Half of normally distributed errors are below 0.67 standard deviations.
    assert 0.6 < np.median(np.abs(error) / np.sqrt(found.variance[visible])) / 0.6745 < 1.6
    assert np.median(np.abs(found.rows_off)) < 0.05 and np.median(np.abs(found.row_errors)) < 0.05
    assert found.refined.all() and not found.swapped
    _, seen = true_disparity(room, pair[0].keypoints)
    assert len(found) > 0.7 * np.count_nonzero(seen)
    depth = room.intrinsics[0, 0] * room.baseline / found.disparity[visible]
    true_depth = room.intrinsics[0, 0] * room.baseline / truth[visible]
    assert np.median(np.abs(depth / true_depth - 1)) < 0.01


def test_without_the_images_disparities_are_those_of_the_detections(room, pair):
    found = match_stereo(*pair)
    first, second = found.indices.T
    moved = pair[0].keypoints[first] - pair[1].keypoints[second]
    truth, visible = true_disparity(room, pair[0].keypoints[first])
    assert not found.refined.any()
    np.testing.assert_allclose(found.rows_off, -moved[:, 1], atol=1e-4)
    np.testing.assert_allclose(found.disparity, moved[:, 0], atol=1e-4)
    assert np.median(np.abs(found.disparity - truth)[visible]) < 0.5
    refined = match_stereo(*pair, images=tuple(np.zeros(SIZE, np.uint8) for _ in range(2)))
    assert len(refined) == 0  # images that show nothing confirm nothing


def test_matches_keep_to_the_range_of_disparities_and_to_the_rows(room, images, pair):
    everything = match_stereo(*pair, images=images)
    most = float(np.median(everything.disparity))
    near = match_stereo(*pair, images=images, max_disparity=most)
    assert 0.3 * len(everything) < len(near) < 0.7 * len(everything)
    assert near.disparity.min() > 0 and near.disparity.max() <= most
    lower = replace(pair[1], keypoints=pair[1].keypoints + np.float32([0, 5]))
    shifted = images[0], np.roll(images[1], 5, axis=0)
    assert len(match_stereo(pair[0], lower, images=shifted, row_tolerance=2.0)) < 0.1 * len(everything)
    found = match_stereo(pair[0], lower, images=shifted, row_tolerance=8.0)
    assert len(found) > 0.8 * len(everything) and np.abs(np.median(found.rows_off) - 5) < 0.5
    assert len(set(found.indices[:, 0])) == len(set(found.indices[:, 1])) == len(found)


def test_rows_that_a_calibration_puts_wrong_are_told_apart_from_errors_of_matches(room, images, pair):
    def skewed(pixels):
        x, y = (np.asarray(pixels, np.float64) / [SIZE[1] / 2, SIZE[0] / 2] - 1).T
        return pixels + np.column_stack((np.zeros(len(x)), 0.3 + 0.4 * x - 0.8 * x * y))

    found = match_stereo(*pair, (lambda pixels: np.asarray(pixels, np.float64), skewed), images)
    assert np.median(np.abs(found.rows_off)) > 0.25
    assert np.median(np.abs(found.row_errors)) < 0.06
    truth, visible = true_disparity(room, pair[0].keypoints[found.indices[:, 0]])
    assert np.median(np.abs(found.disparity - truth)[visible]) < 0.05


def test_images_that_changed_places_are_recognised(images, pair):
    found = match_stereo(*pair[::-1], images=images[::-1])
    assert found.swapped and len(found) < 0.1 * len(pair[0])
    assert match_stereo(*pair[::-1]).swapped


def test_unrelated_and_empty_images_are_not_taken_for_swapped_ones(extractor, images, pair, grey):
    other = np.ascontiguousarray(grey[: SIZE[0], : SIZE[1]])
    found = match_stereo(pair[0], extractor.extract(other), images=(images[0], other))
    assert len(found) < 10 and not found.swapped
    assert not match_stereo(pair[0], extractor.extract(other)).swapped
    empty = Features.empty(SIZE, pair[0].descriptors.shape[1])
    for left, right in ((empty, pair[1]), (pair[0], empty), (empty, empty)):
        found = match_stereo(left, right, images=images)
        assert len(found) == 0 and not found.swapped and found.indices.shape == (0, 2)


LENSES = {
    "plumb_bob": ([-0.28, 0.07, 2e-4, 2e-5, 0.0], False),
    "equidistant": ([0.02, -0.01, 0.004, -0.001], True),
}


@pytest.mark.parametrize(("distortion", "fisheye"), LENSES.values(), ids=LENSES)
def test_raw_images_of_turned_cameras_with_distorting_lenses_are_matched_as_they_are(
    room, images, extractor, distortion, fisheye
):
    """Each camera is turned against the rectified one by some degrees of its own."""
    matrix = np.array([[0.7 * SIZE[1], 0, 0.49 * SIZE[1]], [0, 0.7 * SIZE[1], 0.51 * SIZE[0]], [0, 0, 1]])
    cameras, raw = [], []
    for image, turn in zip(images, ([0.03, 0.02, -0.02], [-0.02, -0.03, 0.03]), strict=True):
        model = "equidistant" if fisheye else "plumb_bob"
        rotation = cv2.Rodrigues(np.array(turn))[0]
        camera = Camera(SIZE, matrix, np.array(distortion), fisheye, model, rotation, room.intrinsics)
        grid = np.stack(np.meshgrid(np.arange(SIZE[1]), np.arange(SIZE[0])), axis=-1).reshape(-1, 2)
        places = camera.rectified_pixels(grid).astype(np.float32).reshape(*SIZE, 2)
        raw.append(cv2.remap(image, np.nan_to_num(places, nan=-9), None, cv2.INTER_CUBIC))
        cameras.append(camera)
    pair = tuple(extractor.extract(image) for image in raw)
    rectify = cameras[0].rectified_pixels, cameras[1].rectified_pixels
    found = match_stereo(*pair, rectify, tuple(raw))
    assert len(found) > 100
    points = rectify[0](pair[0].keypoints[found.indices[:, 0]])
    truth, visible = true_disparity(room, points)
    # The raw images show a little more than those that they were made of.
    inside = ((points > 0) & (points < [SIZE[1] - 1, SIZE[0] - 1])).all(axis=1) & (points[:, 0] > found.disparity)
    assert visible[inside].mean() > 0.97
    assert np.median(np.abs(found.disparity - truth)[visible]) < 0.1
    assert np.median(np.abs(found.rows_off)) < 0.1
