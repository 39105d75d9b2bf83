"""Synthetic Shapes: every class, and corners at their labels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from superpoint_ros.training.homographies import HomographyRange
from superpoint_ros.training.shapes import classes, render
from superpoint_ros.training.shapes.scene import Layer, Scene
from superpoint_ros.two_view.geometry import inside, project

SIZE = (120, 160)


def draw(rng, name, ranges=None):
    """Render a shape as (H, W) uint8, with its corners."""
    scene = classes.random_scene(rng, SIZE, name, ranges)
    picture = render.render([scene], SIZE, torch.Generator().manual_seed(0))
    return (picture[0, 0] * 255).round().byte().numpy(), scene.corners[inside(scene.corners, SIZE)]


@pytest.mark.parametrize("name", classes.CLASSES)
def test_every_class_renders_something_and_only_those_with_corners_have_labels(name):
    rng = np.random.default_rng(3)
    count = 0
    for _ in range(20):
        image, corners = draw(rng, name)
        assert image.shape == SIZE
        assert image.std() > 0.5
        count += len(corners)
    assert (count == 0) == (name in ("ellipses", "gaussian_noise"))


@pytest.mark.parametrize("ranges", [None, HomographyRange(rotation=180, outside=0.2)], ids=["plain", "warped"])
@pytest.mark.parametrize("name", ["checkerboard", "polygon", "cube"])
def test_labels_are_on_the_corners_that_opencv_refines_to(name, ranges):
    """An independent corner refinement, started at the labels, must not move far."""
    rng = np.random.default_rng(5)
    shifts = []
    for _ in range(40):
        image, corners = draw(rng, name, ranges)
        well_inside = ((corners > 12) & (corners < [SIZE[1] - 13, SIZE[0] - 13])).all(axis=1)
        start = corners[well_inside].astype(np.float32).reshape(-1, 1, 2)
        if len(start):
            criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_COUNT, 30, 0.01)
            refined = cv2.cornerSubPix(image, start.copy(), (3, 3), (-1, -1), criteria)
            shifts += np.linalg.norm(refined - start, axis=2).ravel().tolist()
    assert len(shifts) > 40
    assert np.median(shifts) < 0.3


def test_an_edge_between_pixels_is_antialiased():
    square = np.array([[9.75, 9.5], [30.25, 9.5], [30.25, 20.5], [9.75, 20.5]])
    scene = Scene(np.zeros((2, 2)), (Layer((square,), (1.0,)),), square)
    picture = render.render([scene], (32, 40), torch.Generator())[0, 0]
    assert picture[15, 20] == 1
    assert picture[15, 5] == 0
    torch.testing.assert_close(picture[15, [9, 10, 30, 31]], torch.tensor([0.0, 0.75, 0.75, 0.0]))
    assert float(picture.sum()) == pytest.approx(20.5 * 11, rel=0.01)


def test_there_are_no_gaps_between_adjacent_tiles():
    a = np.array([[0, 0], [20.3, 0], [25.7, 40], [0, 40]], float)
    b = np.array([[20.3, 0], [60, 0], [60, 40], [25.7, 40]], float)
    scene = Scene(np.zeros((2, 2)), (Layer((a, b), (0.5, 0.6)),), np.zeros((0, 2)))
    picture = render.render([scene], (40, 60), torch.Generator())[0, 0]
    assert float(picture[3:-3, 3:-3].min()) >= 0.5 - 1e-6
    assert float(picture[3:-3, 3:-3].max()) <= 0.6 + 1e-6


def test_a_homography_moves_corners_and_image_alike():
    scene = classes.random_scene(np.random.default_rng(2), SIZE, "checkerboard")
    to_view = np.array([[0.9, -0.2, 20], [0.15, 1.1, -10], [2e-4, -1e-4, 1]])
    seen = scene.warp(to_view)
    np.testing.assert_allclose(seen.corners, project(to_view, scene.corners))
    pictures = render.render([scene, seen], SIZE, torch.Generator()).numpy()[:, 0]
    warped = cv2.warpPerspective(pictures[0], to_view, SIZE[::-1])
    shown = cv2.erode(cv2.warpPerspective(np.ones(SIZE, np.uint8), to_view, SIZE[::-1]), np.ones((9, 9), np.uint8))
    # The background is not in the scene's plane, so only the board is compared.
    hull = cv2.convexHull(seen.corners.astype(np.float32)).astype(np.int32)
    board = cv2.erode(cv2.fillPoly(np.zeros(SIZE, np.uint8), [hull], 1), np.ones((5, 5), np.uint8))
    difference = np.abs(warped - pictures[1])[(shown * board) > 0]
    assert len(difference) > 1000
    assert np.median(difference) < 0.01


def test_the_same_seed_renders_the_same_images():
    def draw_images(seed):
        rng = np.random.default_rng(seed)
        scenes = [classes.random_scene(rng, SIZE) for _ in range(12)]
        return render.render(scenes, SIZE, torch.Generator().manual_seed(seed))

    torch.testing.assert_close(draw_images(1), draw_images(1), rtol=0, atol=0)
    assert not torch.equal(draw_images(1), draw_images(2))


def test_the_preview_shows_every_class():
    assert render.preview(columns=2, zoom=1, size=(48, 64)).shape == (48 * len(classes.CLASSES), 128, 3)
