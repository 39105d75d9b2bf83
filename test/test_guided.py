"""Matching near predicted positions: equal to a correct full search, and correct where that fails."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from superpoint_ros import Features, Frame, FrontEnd, FrontEndSettings, SuperPoint, match
from superpoint_ros.two_view.guided import match_near

SIZE = (480, 640)


def features(points, descriptors):
    scores = np.linspace(1, 0.1, len(points), dtype=np.float32)
    return Features(np.asarray(points, np.float32), scores, np.asarray(descriptors, np.float32), SIZE)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def pair(count=300, noise=0.05, seed=0):
    """Create features of two images, of which the second is shifted and in another order."""
    rng = np.random.default_rng(seed)
    points, table = rng.uniform((0, 0), (640, 480), (count, 2)), unit(rng.standard_normal((count, 64)))
    order = rng.permutation(count)
    noisy = unit(table + noise * rng.standard_normal(table.shape))
    return features(points, table), features(points[order] + (7, -4), noisy[order])


@pytest.mark.parametrize("window", [12, 40, 200, 1000])
@pytest.mark.parametrize("ratio", [1.0, 0.8])
def test_with_distinctive_descriptors_it_equals_the_full_search(window, ratio):
    first, second = pair()
    everywhere = match(first, second, ratio=ratio)
    near = match_near(first, second, first.keypoints, window, ratio=ratio)
    np.testing.assert_array_equal(near.indices, everywhere.indices)
    np.testing.assert_allclose(near.similarity, everywhere.similarity, atol=1e-5)


def test_matches_are_mutual_and_within_the_window():
    first, second = pair(noise=0.6)  # noisy, so that wrong pairs are often the most similar
    window = 25
    near = match_near(first, second, first.keypoints, window, min_similarity=-1)
    away = np.abs(first.keypoints[near.indices[:, 0]] - second.keypoints[near.indices[:, 1]])
    assert len(near) > 100 and away.max() <= window
    cosines = first.descriptors @ second.descriptors.T
    reach = np.abs(first.keypoints[:, None] - second.keypoints[None]).max(axis=2) <= window
    cosines[~reach] = -2
    forward, backward = cosines.argmax(axis=1), cosines.argmax(axis=0)
    index = np.flatnonzero((backward[forward] == np.arange(len(first))) & reach.any(axis=1))
    np.testing.assert_array_equal(near.indices, np.column_stack((index, forward[index])))


def test_no_keypoints_or_predictions_outside_the_image_yield_no_matches():
    first, second = pair()
    empty = Features.empty(SIZE, 64)
    assert len(match_near(empty, second, empty.keypoints, 10)) == 0
    assert len(match_near(first, empty, first.keypoints, 10)) == 0
    assert len(match_near(first, second, first.keypoints + 5000, 10)) == 0
    assert len(match_near(first, second, np.full_like(first.keypoints, np.nan), 10)) == 0


def checkerboard(image):
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    image[:] = np.where((x // 50 + y // 50) % 2, 60, 200)


def facade(image):
    for y in range(20, image.shape[0], 110):
        for x in range(20, image.shape[1], 90):
            cv2.rectangle(image, (x, y), (x + 50, y + 70), 50, -1)
            cv2.rectangle(image, (x, y), (x + 50, y + 70), 220, 3)
            cv2.line(image, (x + 25, y), (x + 25, y + 70), 220, 2)
            cv2.line(image, (x, y + 30), (x + 50, y + 30), 220, 2)


def fence(image):
    for start in range(-1400, 2800, 44):
        cv2.line(image, (start, 0), (start + 1400, 1400), 60, 3, cv2.LINE_AA)
        cv2.line(image, (start, 0), (start - 1400, 1400), 60, 3, cv2.LINE_AA)


def flight_over(draw, frames=7):
    """Render images of a camera that pans, rotates and climbs over a drawing, with the homography from it to each."""
    rng = np.random.default_rng(0)
    canvas = np.full((1400, 1400), 170, np.uint8)
    draw(canvas)
    canvas = np.clip(cv2.GaussianBlur(canvas, (0, 0), 1.2) + rng.normal(0, 4, canvas.shape), 0, 255).astype(np.uint8)
    for index in range(frames):
        angle, scale = np.radians(0.6 * index), 1 + 0.006 * index
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        shift = np.array([320, 240]) - turn @ np.array([500 + 14 * index, 600 + 6 * index])
        matrix = np.column_stack((turn, shift))
        image = cv2.warpAffine(canvas, matrix, (640, 480), flags=cv2.INTER_AREA)
        yield np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8), np.vstack((matrix, [0, 0, 1]))


@pytest.fixture(scope="module")
def superpoint():
    return SuperPoint("light", precision="float32")


def share_right(superpoint, draw, **settings):
    """Compute the fraction of matches within 3 pixels of the truth, from the third frame on."""
    right, count, before = 0, 0, None
    front_end = FrontEnd(superpoint, FrontEndSettings(**settings), lambda result: None)
    for index, (image, matrix) in enumerate(flight_over(draw)):
        result = front_end.process(Frame(index * 100_000_000 + 1, lambda image=image: image))
        if index > 2:
            first, second = result.matches.indices.T
            moved = np.column_stack((result.reference.keypoints[first], np.ones(len(first))))
            moved = moved @ (matrix @ np.linalg.inv(before)).T
            error = np.linalg.norm(moved[:, :2] / moved[:, 2:] - result.features.keypoints[second], axis=1)
            right, count = right + np.count_nonzero(error < 3), count + len(error)
        before = matrix
    return right / count


@pytest.mark.parametrize(("draw", "least"), [(checkerboard, 0.9), (facade, 0.9), (fence, 0.8)])
def test_prediction_makes_matches_on_repetitive_texture_correct(superpoint, draw, least):
    """Some keypoints are on the fence's wires, along which every place looks alike, even near the predicted one."""
    everywhere, predicted = (share_right(superpoint, draw, window=window) for window in (0, 16))
    assert everywhere < 0.3
    assert predicted > least


def test_a_jump_triggers_the_full_search(superpoint):
    rng = np.random.default_rng(1)
    texture = cv2.resize(rng.integers(0, 255, (60, 80), np.uint8), (640, 480), interpolation=cv2.INTER_CUBIC)
    front_end = FrontEnd(superpoint, FrontEndSettings(window=16), lambda result: None)
    found = []
    for index, shift in enumerate((0, 4, 8, 88, 92)):  # pixels to the left: steady, a jump, steady again
        view = np.roll(texture, -shift, axis=1)
        found.append(front_end.process(Frame(index * 100_000_000 + 1, lambda view=view: view)))
    for result, step in zip(found[1:], (4, 4, 80, 4), strict=True):
        np.testing.assert_allclose(result.homography.matrix[:2, 2], (-step, 0), atol=0.1)
