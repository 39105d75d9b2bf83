"""Camera motion from matched rays: exact on exact scenes, robust, and with a status for degenerate ones."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from superpoint_ros.evaluation.odometry import angle_between, rotation_angle
from superpoint_ros.two_view import motion
from superpoint_ros.two_view.motion import MotionStatus, estimate_motion, ransac_motion

FOCAL = 500.0
PIXEL = 1 / FOCAL


def scene(turn=(1.0, -3.0, 0.5), translation=(0.1, 0.02, 0.5), count=300, noise=0.0, wrong=0.0, seed=0):
    """Create rays of points 4 to 20 m away before and after a motion, with noise in pixels and outliers."""
    rng = np.random.default_rng(seed)
    points = rng.uniform([-4, -3, 4], [4, 3, 20], (count, 3))
    rotation = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    moved = points @ rotation.T + np.array(translation)
    rays = [p / p[:, 2:] for p in (points, moved)]
    for ray in rays:
        ray[:, :2] += rng.normal(0, noise * PIXEL, (count, 2))
    bad = int(wrong * count)
    rays[1][:bad, :2] = rng.uniform(-0.8, 0.8, (bad, 2))
    return rays[0], rays[1], rotation, np.array(translation)


def degrees(rotation, true):
    return np.degrees(np.linalg.norm(Rotation.from_matrix(rotation @ true.T).as_rotvec()))


@pytest.mark.parametrize("translation", [(0, 0, 0.5), (0.5, 0, 0), (-0.2, 0.3, -0.4)])
@pytest.mark.parametrize("estimate", [estimate_motion, ransac_motion])
def test_exact_rays_give_the_exact_motion(estimate, translation):
    first, second, rotation, t = scene(translation=translation)
    found = estimate(first, second, PIXEL)
    assert found.status == MotionStatus.OK
    assert degrees(found.rotation, rotation) < 1e-3
    assert angle_between(found.direction, t) < 1e-2  # and not its opposite
    assert found.inliers.all()


def test_refinement_is_more_accurate_than_ransac_alone():
    errors = []
    for seed in range(5):
        first, second, rotation, t = scene(noise=0.5, wrong=0.1, seed=seed)
        found = [estimate(first, second, PIXEL) for estimate in (estimate_motion, ransac_motion)]
        errors.append([degrees(f.rotation, rotation) + angle_between(f.direction, t) for f in found])
    refined, plain = np.median(errors, axis=0)
    assert refined < 1.2 and refined < 0.6 * plain


def test_wrong_matches_are_outliers_and_have_no_effect():
    first, second, rotation, t = scene(noise=0.3, wrong=0.4)
    found = estimate_motion(first, second, PIXEL)
    assert found.inliers[:120].mean() < 0.1  # a few are on their epipolar lines by chance
    assert found.inliers[120:].mean() > 0.9
    assert degrees(found.rotation, rotation) < 0.1 and angle_between(found.direction, t) < 1


@pytest.mark.parametrize("translation", [(0, 0, 0), (0.001, 0, 0.0005)])
def test_without_parallax_only_the_rotation_is_estimated(translation):
    first, second, rotation, _ = scene(translation=translation, noise=0.3, wrong=0.2)
    found = estimate_motion(first, second, PIXEL)
    assert found.status == MotionStatus.ROTATION_ONLY
    assert not found.direction.any()
    assert degrees(found.rotation, rotation) < 0.02
    assert found.inliers[60:].mean() > 0.9


def test_a_stationary_camera_has_not_rotated():
    first, _, _, _ = scene()
    found = estimate_motion(first, first, PIXEL)
    assert found.status == MotionStatus.ROTATION_ONLY
    assert degrees(found.rotation, np.eye(3)) < 1e-6


def test_a_small_parallax_above_the_noise_is_a_translation():
    first, second, _, t = scene(translation=(0.05, 0, 0), noise=0.2)
    found = estimate_motion(first, second, PIXEL)
    assert found.status == MotionStatus.OK and angle_between(found.direction, t) < 10


@pytest.mark.parametrize("estimate", [estimate_motion, ransac_motion])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_too_few_matches_yield_no_motion(estimate, count):
    first, second, _, _ = scene(count=count)
    found = estimate(first, second, PIXEL)
    assert found.status == MotionStatus.FAILED and found.inliers.shape == (count,) and not found.inliers.any()
    np.testing.assert_array_equal(found.rotation, np.eye(3))


@pytest.mark.parametrize("estimate", [estimate_motion, ransac_motion])
def test_degenerate_matches_raise_nothing(estimate):
    rng = np.random.default_rng(0)
    same = np.tile([0.1, 0.2, 1.0], (50, 1))
    noise = [np.column_stack((rng.uniform(-1, 1, (50, 2)), np.ones(50))) for _ in range(2)]
    for first, second in ((same, same), tuple(noise)):
        found = estimate(first, second, PIXEL)
        assert np.isfinite(found.rotation).all() and np.isfinite(found.direction).all()


def test_the_sampson_error_is_the_distance_to_the_nearest_exact_match():
    first, second, rotation, t = scene(noise=1.0, count=40)
    pose = (rotation, t / np.linalg.norm(t))
    x, y, z = pose[1]
    fundamental = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ rotation
    corrected = cv2.correctMatches(fundamental, first[None, :, :2].copy(), second[None, :, :2].copy())
    exact = np.sqrt(sum(((c[0] - r[:, :2]) ** 2).sum(axis=1) for c, r in zip(corrected, (first, second), strict=True)))
    np.testing.assert_allclose(np.abs(motion.sampson(pose, first, second)), exact, rtol=0.02, atol=1e-6)


def test_depths_are_those_of_the_scene():
    rng = np.random.default_rng(1)
    points = rng.uniform([-4, -3, 4], [4, 3, 20], (30, 3))
    _, _, rotation, t = scene()
    moved = points @ rotation.T + t
    found = motion.depths((rotation, t), points / points[:, 2:], moved / moved[:, 2:])
    np.testing.assert_allclose(found, np.column_stack((points[:, 2], moved[:, 2])), rtol=1e-6)


@pytest.mark.parametrize("angle", [1e-6, 0.01, 30.0, 179.0])
def test_small_angles_are_exact(angle):
    rotation = Rotation.from_rotvec(np.radians(angle) * np.array([0.6, 0, 0.8])).as_matrix()
    assert rotation_angle(rotation) == pytest.approx(angle, rel=1e-6)
    turned = Rotation.from_euler("z", angle, degrees=True).apply([1.0, 0, 0])
    assert angle_between(np.array([1.0, 0, 0]), turned) == pytest.approx(angle, rel=1e-6)
