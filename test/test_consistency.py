"""Covariances of matches by the scene around them."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from superpoint_ros import EpipolarGeometry, FrontEndSettings, Homography, Matches, Scene, Status
from superpoint_ros.frontend.frames import Pinhole
from superpoint_ros.frontend.models import explain
from superpoint_ros.node.camera import Camera
from superpoint_ros.two_view.consistency import consistent_covariances

SIZE = (240, 320)
POINTS = np.stack(np.meshgrid(np.arange(20.0, 320, 20), np.arange(20.0, 240, 20)), axis=-1).reshape(-1, 2)
COVARIANCE = np.tile([0.0016, 0.0, 0.0016], (len(POINTS), 1))
NOTHING = EpipolarGeometry.unknown(len(POINTS))
# A camera that moves to the side: rows stay, x changes by depth.
SIDEWAYS = np.array([[0, 0, 0], [0, 0, -1], [0, 1, 0]]) / np.sqrt(2)


def plane(inliers=None) -> Homography:
    inliers = np.ones(len(POINTS), bool) if inliers is None else inliers
    return Homography(Status.OK, np.eye(3), inliers, 0.1, np.zeros((8, 8)))


def general(inliers) -> EpipolarGeometry:
    return EpipolarGeometry(Scene.GENERAL, SIDEWAYS, inliers)


def covariances(target, homography, epipolar):
    return consistent_covariances(COVARIANCE, POINTS, target, homography, epipolar, POINTS, SIZE)


def test_matches_of_a_plane_keep_the_covariance_of_their_patches_but_for_its_scale():
    found = covariances(POINTS, plane(), NOTHING)
    np.testing.assert_allclose(found, found[0, 0] / COVARIANCE[0, 0] * COVARIANCE)
    assert 0.3 < found[0, 0] / COVARIANCE[0, 0] < 1


def test_a_match_off_the_plane_has_a_variance_of_its_distance():
    moved = POINTS.copy()
    moved[40] += 2.0
    inliers = np.ones(len(POINTS), bool)
    inliers[40] = False
    found = covariances(moved, plane(inliers), NOTHING)
    assert found[40, 0] > 2.0 and np.delete(found[:, 0], 40).max() < 0.01


def test_a_match_off_its_epipolar_line_is_uncertain_and_one_that_moves_along_it_is_not():
    moved = POINTS.copy()
    moved[:, 0] += 3.0  # all at one depth
    moved[40] += (0.0, 1.0)
    inliers = np.ones(len(POINTS), bool)
    inliers[40] = False
    found = covariances(moved, Homography.failed(Status.NO_CONSENSUS), general(inliers))
    assert found[40, 2] > 0.4 and np.delete(found[:, 0], 40).max() < 0.01


def test_matches_beside_a_depth_step_are_less_certain_than_those_far_from_it():
    moved = POINTS.copy()
    near = POINTS[:, 0] > 160
    moved[near, 0] += 4.0
    found = covariances(moved, Homography.failed(Status.NO_CONSENSUS), general(np.ones(len(POINTS), bool)))
    beside = np.abs(POINTS[:, 0] - 160) < 30
    far = np.abs(POINTS[:, 0] - 160) > 90
    assert found[beside, 0].min() > 5 * found[far, 0].max()


def test_no_matches_have_no_covariances():
    none = np.zeros((0, 2))
    failed = Homography.failed(Status.TOO_FEW_MATCHES)
    assert consistent_covariances(np.zeros((0, 3)), none, none, failed, NOTHING, none, SIZE).shape == (0, 3)


def explained(source, target, size, pinhole, scale=1.0):
    """Explain refined matches whose patches all have the same covariance; thresholds are those of `scale`."""
    count = len(source)
    indices = np.column_stack((np.arange(count),) * 2)
    patches = np.tile(np.float32([0.0016, 0.0004, 0.0016]), (count, 1))
    matches = Matches(indices, np.ones(count, np.float32), np.ones(count, bool), patches)
    defaults = FrontEndSettings()
    settings = replace(
        defaults, threshold=scale * defaults.threshold, epipolar_threshold=scale * defaults.epipolar_threshold
    )
    nothing = Homography.failed(Status.NO_CONSENSUS, count)
    return explain(matches, source.astype(np.float32), target.astype(np.float32), size, nothing, settings, pinhole)


@pytest.mark.parametrize("depth", [False, True])
def test_covariances_in_pixels_of_the_image_are_the_same_for_every_scale_of_the_pinhole_camera(depth):
    rng = np.random.default_rng(0)
    source = rng.uniform(0, (319, 239), (300, 2))
    target = source + np.array((5.0, 0.0)) + rng.normal(0, 0.05, source.shape)
    if depth:
        target[:, 0] += rng.uniform(0, 20, 300)
    target[:30] += rng.normal(0, 2, (30, 2))
    once, *others = (
        explained(source, target, SIZE, Pinhole(SIZE, np.eye(3), lambda points, s=scale: np.float64(points) * s), scale)
        for scale in (1.0, 0.5, 4.0)
    )
    assert once[2].scene == (Scene.GENERAL if depth else Scene.PLANAR)
    for matches, _, epipolar in others:
        assert epipolar.scene == once[2].scene
        ratio = matches.covariance[:, 0] / once[0].covariance[:, 0]
        for some in (ratio[:30], ratio[30:]):  # the consensus is not quite the same
            assert 0.8 < np.median(some) < 1.25


def test_pixels_at_the_edge_of_a_fisheye_image_take_little_memory_and_leave_the_others_alone():
    focal, centre = 250.0, 400.0
    matrix = np.array([[focal, 0, centre], [0, focal, centre], [0, 0, 1]])
    camera = Camera((800, 800), matrix, np.zeros(4), True, "equidistant", np.eye(3), matrix)
    source = np.random.default_rng(0).uniform(250, 550, (200, 2))
    target = source + 0.1
    edges = []
    for degrees in (45.0, 89.8, 89.99):
        source[0] = centre + focal * np.radians(degrees) * np.sqrt(0.5)
        target[0] = source[0] - 0.1
        tracemalloc.start()
        matches, _, _ = explained(source, target, (800, 800), camera.pinhole(undistort=True))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 5e6 and np.isfinite(matches.covariance).all()
        edges.append(matches.covariance[1:])
    for found in edges[1:]:
        assert 0.8 < np.median(found[:, 0] / edges[0][:, 0]) < 1.25


def test_neighbours_are_those_in_the_image_wherever_the_pinhole_camera_has_them():
    moved = POINTS + np.column_stack((POINTS[:, 0] / 20, np.zeros(len(POINTS))))
    scene = general(np.ones(len(POINTS), bool))
    failed = Homography.failed(Status.NO_CONSENSUS)
    aside = consistent_covariances(COVARIANCE, POINTS - 700, moved - 700, failed, scene, POINTS, SIZE)
    np.testing.assert_allclose(aside, covariances(moved, failed, scene))
