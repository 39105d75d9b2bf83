"""Warped and augmented views in batches, and their correspondences."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from superpoint_ros.training import motion, views
from superpoint_ros.training.homographies import HomographyRange, random_homographies, random_homography
from superpoint_ros.training.photometric import Photometric, augment, augment_image
from superpoint_ros.two_view.geometry import homography_from_corners, project

SIZE = (120, 160)
NOTHING = dict.fromkeys(("light", "dark", "shade", "blur", "motion", "noise", "jpeg"), 0.0)


def test_random_homographies_show_only_the_image():
    rng = np.random.default_rng(0)
    corners = np.array([[0, 0], [159, 0], [159, 119], [0, 119]], float)
    sizes = [(240, 320), (300, 100)] * 100
    for (height, width), to_picture in zip(
        sizes, random_homographies(rng, sizes, SIZE, HomographyRange(rotation=60)), strict=True
    ):
        seen = project(to_picture, corners)
        assert (seen >= -1e-6).all()
        assert (seen <= np.array([width - 1, height - 1]) + 1e-6).all()


def test_random_homographies_rotate_within_their_range():
    def angles(rotation):
        maps = random_homographies(np.random.default_rng(0), [(400, 400)] * 2000, SIZE, HomographyRange(rotation))
        return np.degrees(np.arctan2(maps[:, 1, 0], maps[:, 0, 0]))

    assert np.std(angles(20.0)) == pytest.approx(20, abs=3)
    assert np.histogram(angles(180.0), bins=4, range=(-180, 180))[0].min() > 400


def test_a_homography_from_corners_maps_them_exactly_alone_and_in_batches():
    source = np.array([[0, 0], [10, 1], [9, 8], [-1, 9]], float)
    target = np.array([[[5, 5], [30, 2], [28, 31], [3, 25]], [[0, 0], [3, 0], [3, 3], [0, 3]]], float)
    both = homography_from_corners(source, target)
    assert both.shape == (2, 3, 3)
    for one, expected in zip(both, target, strict=True):
        np.testing.assert_allclose(project(one, source), expected, atol=1e-9)
    np.testing.assert_allclose(homography_from_corners(source, target[0]), both[0])


def test_a_warp_equals_opencvs():
    rng = np.random.default_rng(1)
    image = cv2.GaussianBlur(rng.uniform(0, 1, (200, 300)).astype(np.float32), (0, 0), 2)
    to_image = random_homography(rng, image.shape, SIZE, HomographyRange())
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    expected = cv2.warpPerspective(image, to_image, SIZE[::-1], flags=flags)
    found = views.warp(torch.from_numpy(image)[None, None], torch.from_numpy(to_image)[None].float(), SIZE)
    # OpenCV rounds positions to 1/32 of a pixel.
    assert np.abs(found[0, 0].numpy() - expected)[2:-2, 2:-2].max() < 0.01
    smooth = views.warp(torch.from_numpy(image)[None, None], torch.from_numpy(to_image)[None].float(), SIZE, 2)
    assert np.abs(smooth[0, 0].numpy() - expected)[2:-2, 2:-2].mean() < 0.01


def test_projection_agrees_with_the_core_and_maps_points_behind_far_away():
    homography = np.array([[1.1, 0.1, 3], [-0.1, 0.9, 5], [0.01, 0, 1]])
    points = np.array([[3.0, 4.0], [100.0, 20.0], [-150.0, 3.0]])
    found = views.project(torch.from_numpy(homography)[None].float(), torch.from_numpy(points)[None].float())[0]
    np.testing.assert_allclose(found[:2], project(homography, points[:2]), rtol=1e-5)
    assert not views.inside(found[2:], (10**5, 10**5)).any()


def test_correspondences_are_visible_in_both_views_and_half_of_them_are_labels():
    generator = torch.Generator().manual_seed(0)
    across = torch.tensor([[[0.8, -0.3, 40.0], [0.3, 0.8, -10.0], [0.0, 0.0, 1.0]]])
    labels = torch.rand(1, 80, 2, generator=generator) * torch.tensor([159.0, 119.0])
    valid = torch.ones(1, 80, dtype=torch.bool)
    valid[:, 60:] = False
    first, second, used = motion.correspondences(labels, valid, motion.Motion(across), SIZE, 64, generator, 32)
    assert used.all()
    torch.testing.assert_close(views.project(across, first), second)
    assert views.inside(first, SIZE).all()
    assert views.inside(second, SIZE).all()
    from_labels = (first[0][:, None] == labels[0, None, :60]).all(dim=-1).any(dim=1).sum()
    assert from_labels == min(32, int((valid & views.inside(views.project(across, labels), SIZE)).sum()))


def test_views_without_overlap_have_no_correspondences():
    away = torch.tensor([[[1.0, 0.0, 1000.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    points, valid = torch.rand(1, 10, 2), torch.ones(1, 10, dtype=torch.bool)
    first, second, used = motion.correspondences(points, valid, motion.Motion(away), SIZE, 16, torch.Generator(), 8)
    assert first.shape == second.shape == (1, 16, 2)
    assert not used.any()


def test_disabled_augmentation_changes_nothing():
    images = (torch.rand(3, 1, 50, 70) * 255).round() / 255
    torch.testing.assert_close(augment(images, torch.Generator(), Photometric(**NOTHING)), images, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NOTHING)
def test_every_augmentation_changes_each_image_differently_and_keeps_it_valid(name, grey):
    picture = torch.from_numpy(grey[100:228, 100:260].copy())[None, None].float() / 255
    images = picture.expand(4, -1, -1, -1).contiguous()
    changed = augment(images, torch.Generator().manual_seed(1), Photometric(**{**NOTHING, name: 1.0}))
    assert changed.shape == images.shape
    assert float(changed.min()) >= 0
    assert float(changed.max()) <= 1
    torch.testing.assert_close((changed * 255).round() / 255, changed)
    for i in range(4):
        assert not torch.equal(changed[i], images[i])
    assert not torch.equal(changed[0], changed[1])
    # The scene must remain the same.
    flat = torch.stack((changed.flatten(1)[0], images.flatten(1)[0]))
    assert float(torch.corrcoef(flat)[0, 1]) > 0.5


def test_compression_equals_opencvs_jpeg(grey):
    from superpoint_ros.training.photometric import _jpeg

    image = grey[64:192, 64:224].copy()
    tensor = torch.from_numpy(image)[None, None].float() / 255
    ours = (_jpeg(tensor, torch.full((1, 1, 1, 1), 30.0)) * 255)[0, 0].numpy()
    coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 30])[1]
    theirs = cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE).astype(float)
    assert np.abs(ours - theirs).mean() < 0.3
    assert np.abs(ours - image).mean() > 1


def test_a_single_image_is_augmented_equally_for_the_same_seed(grey):
    once, again, other = (augment_image(grey, seed) for seed in (4, 4, 5))
    assert once.dtype == np.uint8
    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(once, other)
