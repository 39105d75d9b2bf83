"""Covariances of matches by the scene around them."""

from __future__ import annotations

import numpy as np

from superpoint_ros import EpipolarGeometry, Homography, Scene, Status
from superpoint_ros.two_view.consistency import consistent_covariances

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


def test_matches_of_a_plane_keep_the_covariance_of_their_patches_but_for_its_scale():
    found = consistent_covariances(COVARIANCE, POINTS, POINTS, plane(), NOTHING)
    np.testing.assert_allclose(found, found[0, 0] / COVARIANCE[0, 0] * COVARIANCE)
    assert 0.3 < found[0, 0] / COVARIANCE[0, 0] < 1


def test_a_match_off_the_plane_has_a_variance_of_its_distance():
    moved = POINTS.copy()
    moved[40] += 2.0
    inliers = np.ones(len(POINTS), bool)
    inliers[40] = False
    found = consistent_covariances(COVARIANCE, POINTS, moved, plane(inliers), NOTHING)
    assert found[40, 0] > 2.0 and np.delete(found[:, 0], 40).max() < 0.01


def test_a_match_off_its_epipolar_line_is_uncertain_and_one_that_moves_along_it_is_not():
    moved = POINTS.copy()
    moved[:, 0] += 3.0  # all at one depth
    moved[40] += (0.0, 1.0)
    inliers = np.ones(len(POINTS), bool)
    inliers[40] = False
    found = consistent_covariances(COVARIANCE, POINTS, moved, Homography.failed(Status.NO_CONSENSUS), general(inliers))
    assert found[40, 2] > 0.4 and np.delete(found[:, 0], 40).max() < 0.01


def test_matches_beside_a_depth_step_are_less_certain_than_those_far_from_it():
    moved = POINTS.copy()
    near = POINTS[:, 0] > 160
    moved[near, 0] += 4.0
    found = consistent_covariances(
        COVARIANCE, POINTS, moved, Homography.failed(Status.NO_CONSENSUS), general(np.ones(len(POINTS), bool))
    )
    beside = np.abs(POINTS[:, 0] - 160) < 30
    far = np.abs(POINTS[:, 0] - 160) > 90
    assert found[beside, 0].min() > 5 * found[far, 0].max()


def test_no_matches_have_no_covariances():
    none = np.zeros((0, 2))
    found = consistent_covariances(np.zeros((0, 3)), none, none, Homography.failed(Status.TOO_FEW_MATCHES), NOTHING)
    assert found.shape == (0, 3)
