"""Epipolar geometry: selection of the model, accuracy, and degenerate matches."""

from __future__ import annotations

import builtins
import sys

import cv2
import numpy as np
import pytest

from superpoint_ros import Homography, Scene, Status, estimate_epipolar
from superpoint_ros.two_view.epipolar import sampson_distance
from superpoint_ros.two_view.homography import homography_from_points

CAMERA = np.array([[480.0, 0, 319.5], [0, 480.0, 239.5], [0, 0, 1]])
TURN = cv2.Rodrigues(np.array([0.02, -0.05, 0.01]))[0]
STEP = np.array([0.3, 0.05, 0.2])


def views(count=300, depths=(2.0, 10.0), translation=STEP, noise=0.05, outliers=0.0, seed=0):
    """Create matched pixels of points at random depths, before and after a motion; the last ones are outliers."""
    rng = np.random.default_rng(seed)
    first = rng.uniform((20, 20), (620, 460), (count, 2))
    rays = np.column_stack((first, np.ones(count))) @ np.linalg.inv(CAMERA).T
    points = rays * rng.uniform(*depths, (count, 1))
    seen = (points @ TURN.T + translation) @ CAMERA.T
    second = seen[:, :2] / seen[:, 2:] + rng.normal(scale=noise, size=(count, 2))
    wrong = int(outliers * count)
    if wrong:
        second[-wrong:] = rng.uniform((0, 0), (640, 480), (wrong, 2))
    return first, second


def estimate(first, second, **options):
    return estimate_epipolar(first, second, homography_from_points(first, second), **options)


def true_fundamental():
    x, y, z = STEP
    inverse = np.linalg.inv(CAMERA)
    return inverse.T @ np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ TURN @ inverse


@pytest.mark.parametrize("camera_matrix", [None, CAMERA], ids=["uncalibrated", "calibrated"])
def test_a_scene_with_depth_is_general_with_the_correct_fundamental_matrix(camera_matrix):
    found = estimate(*views(outliers=0.3), camera_matrix=camera_matrix)
    assert found.scene == Scene.GENERAL
    assert np.linalg.norm(found.fundamental) == pytest.approx(1)
    assert np.linalg.det(found.fundamental) == pytest.approx(0, abs=1e-9)
    exact = views(noise=0, seed=1)
    assert np.median(sampson_distance(found.fundamental, *exact)) < 0.03
    assert np.median(sampson_distance(true_fundamental(), *exact)) < 1e-6
    assert found.inliers[:210].mean() > 0.99 and found.inliers[210:].mean() < 0.1
    assert found.inlier_count == np.count_nonzero(found.inliers)


@pytest.mark.parametrize(
    "matches",
    [views(depths=(4, 4.0001)), views(translation=np.zeros(3)), views(depths=(4, 4.0001), outliers=0.3)],
    ids=["a plane", "a pure rotation", "a plane with outliers"],
)
def test_matches_of_a_homography_are_planar_without_a_fundamental_matrix(matches):
    found = estimate(*matches)
    assert found.scene == Scene.PLANAR
    assert not found.fundamental.any() and not found.inliers.any() and found.inliers.shape == (300,)


def test_noisy_matches_of_a_plane_stay_planar():
    assert estimate(*views(depths=(4, 4.0001), noise=0.7)).scene == Scene.PLANAR


def test_inconsistent_and_too_few_matches_are_unknown():
    rng = np.random.default_rng(0)
    chaos = rng.uniform(0, 480, (2, 60, 2))
    assert estimate(*chaos).scene != Scene.PLANAR
    few = views(count=12)
    found = estimate(*few)
    assert found.scene == Scene.UNKNOWN and found.inliers.shape == (12,)
    none = estimate_epipolar(np.zeros((0, 2)), np.zeros((0, 2)), Homography.failed(Status.TOO_FEW_MATCHES))
    assert none.scene == Scene.UNKNOWN and none.inliers.shape == (0,)


def test_identical_points_raise_nothing():
    same = np.full((40, 2), 7.0)
    for camera_matrix in (None, CAMERA):
        found = estimate_epipolar(same, same, Homography.failed(Status.NO_CONSENSUS, 40), camera_matrix=camera_matrix)
        assert found.scene == Scene.UNKNOWN or np.isfinite(found.fundamental).all()


def test_without_poselib_the_scene_is_the_same_and_the_matrix_still_fits(monkeypatch):
    matches, exact = views(outliers=0.2, noise=0.3, seed=3), views(noise=0, seed=4)
    refined = estimate(*matches)
    monkeypatch.delitem(sys.modules, "poselib", raising=False)
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "poselib":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    plain = estimate(*matches)
    assert plain.scene == refined.scene == Scene.GENERAL
    assert np.median(sampson_distance(plain.fundamental, *exact)) < 0.5
