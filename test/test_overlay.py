"""The annotated image: visible keypoints, coloured by the age of their tracks."""

from __future__ import annotations

import numpy as np
import pytest

from superpoint_ros import Features, Frame, FrameResult, Homography, Matches, Status
from superpoint_ros.node.overlay import annotate, draw_features


def features(points, size):
    points = np.array(points, np.float32).reshape(-1, 2)
    count = len(points)
    return Features(points, np.linspace(1, 0.5, count, dtype=np.float32), np.zeros((count, 4), np.float32), size)


def result(points, size, ages=(), coasted=None):
    image = np.full(size, 90, np.uint8)
    found = features(points, size)
    coasted = np.zeros(len(found), bool) if coasted is None else np.array(coasted)
    frame = Frame(0, lambda: image)
    ages = np.array(ages, np.int64)
    first = Homography.failed(Status.FIRST_FRAME)
    return FrameResult(frame, image, found, ages, None, 0, Matches.empty(), first, ages, coasted)


def around(image, x, y, radius):
    return image[y - radius : y + radius + 1, x - radius : x + radius + 1].astype(int)


@pytest.mark.parametrize("size", [(480, 640), (1080, 1920)])
def test_keypoints_grow_with_the_image(size):
    drawn = draw_features(np.full(size, 90, np.uint8), features([(size[1] / 2, size[0] / 2)], size))
    rows = np.flatnonzero((drawn != 90).any(axis=(1, 2)))
    assert size[1] / 150 < np.ptp(rows) < size[1] / 50


def test_colours_distinguish_new_tracks_from_old_ones():
    drawn = annotate(result([(100, 200), (300, 200), (500, 200)], (480, 640), [0, 20, 500]))
    new, old, older = (around(drawn, x, 200, 5).reshape(-1, 3) for x in (100, 300, 500))
    blueness = [int((part[:, 0] - part[:, 2]).max()) for part in (new, old)]
    assert blueness[0] > blueness[1] + 50
    np.testing.assert_array_equal(old, older)


def test_coasting_keypoints_are_thinner():
    drawn = annotate(result([(100, 200), (300, 200)], (480, 640), [3, 3], [False, True]))
    seen, coasted = (int((around(drawn, x, 200, 7) != 90).any(axis=2).sum()) for x in (100, 300))
    assert 0 < coasted < seen


def test_an_image_without_keypoints_is_drawn():
    assert annotate(result([], (480, 640))).shape == (480, 640, 3)
    assert (draw_features(np.full((48, 64), 90, np.uint8), features([], (48, 64))) == 90).all()
