"""The corner step of keypoints: it moves to corners, keeps the position along edges, and ignores uniform regions."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from superpoint_ros.extraction import corners


def drawn(corner, kind, size=(64, 72)):
    """Render an antialiased junction at a subpixel position."""
    fine = 16
    y, x = ((np.arange(side * fine) + 0.5) / fine - 0.5 for side in size)
    right, below = x[None] > corner[0], y[:, None] > corner[1]
    white = {"corner": right & below, "saddle": right == below, "edge": right | np.zeros_like(below)}[kind]
    image = white.reshape(size[0], fine, size[1], fine).mean(axis=(1, 3)) * 180 + 30
    return np.rint(cv2.GaussianBlur(image, (0, 0), 0.8)).astype(np.uint8)


@pytest.mark.parametrize("kind", ["corner", "saddle"])
def test_a_keypoint_near_a_junction_moves_closer_to_it(kind):
    random = np.random.default_rng(0)
    for _ in range(20):
        true = random.uniform(20, 40, 2)
        image = drawn(true, kind)
        start = (true + random.uniform(-1.2, 1.2, (30, 2))).astype(np.float32)
        before = np.linalg.norm(start - true, axis=1)
        after = np.linalg.norm(corners.corner_step_cpu(image, start) - true, axis=1)
        assert after.mean() < 0.6 * before.mean()
        assert (after < before + 0.25).all()


def test_a_keypoint_moves_across_an_edge_but_not_along_it():
    image = drawn((30.3, 0), "edge")
    start = np.array([[31.2, 25.4], [29.6, 30.0]], np.float32)
    end = corners.corner_step_cpu(image, start)
    np.testing.assert_allclose(end[:, 1], start[:, 1], atol=0.02)
    assert (np.abs(end[:, 0] - 30.3) < 0.5 * np.abs(start[:, 0] - 30.3)).all()


def test_without_texture_a_keypoint_stays():
    flat = np.full((40, 50), 77, np.uint8)
    start = np.array([[0, 0], [49, 39], [20.4, 13.7]], np.float32)
    np.testing.assert_array_equal(corners.corner_step_cpu(flat, start), start)
    assert corners.corner_step_cpu(flat, np.zeros((0, 2), np.float32)).shape == (0, 2)


def test_no_step_exceeds_the_maximum():
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (60, 60), dtype=np.uint8)
    start = random.uniform(0, 59, (500, 2)).astype(np.float32)
    steps = np.linalg.norm(corners.corner_step_cpu(image, start) - start, axis=1)
    assert 0.9 * corners.MAX_STEP < steps.max() <= corners.MAX_STEP * 1.0001


def test_both_implementations_agree_up_to_the_image_border():
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (2, 1, 41, 53), dtype=np.uint8)
    start = np.concatenate((random.uniform(0, 1, (2, 300, 2)) * [52, 40], [[[0, 0], [52, 40]]] * 2), axis=1)
    start = start.astype(np.float32)
    found = corners.corner_step(torch.from_numpy(images), torch.from_numpy(start)).numpy()
    assert found.dtype == np.float32
    for image, points, moved in zip(images, start, found, strict=True):
        np.testing.assert_allclose(corners.corner_step_cpu(image[0], points), moved, atol=2e-4)
