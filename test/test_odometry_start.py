"""The odometry's start with a single camera, from rays of three frames."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip("gtsam", reason="the odometry needs the Python package gtsam")

from superpoint_ros.odometry import motion


def test_a_motion_to_the_side_that_explains_a_turn_is_not_a_start(monkeypatch):
    random = np.random.default_rng(4)
    last = np.column_stack((random.uniform(-0.3, 0.3, (600, 2)), np.ones(600)))
    turns = (Rotation.from_euler("y", angle).as_matrix() for angle in (0.04, 0.02, 0.0))
    frames = [(last @ turn.T)[:, :2] / (last @ turn.T)[:, 2:] for turn in turns]
    frames = [frame + 1e-4 * random.standard_normal(frame.shape) for frame in frames]
    side = (np.eye(3), np.array([-1.0, 0.0, 0.0]))
    assert motion._check(side, *frames, 1 / 120) is not None, "it explains the turn"
    monkeypatch.setattr(motion, "_motions", lambda *others: [side])
    assert motion.start(*frames, 1 / 120, planar=True) is None


def test_a_motion_to_the_side_of_a_scene_with_depth_is_a_start():
    random = np.random.default_rng(4)
    points = np.column_stack((random.uniform(-0.5, 0.5, (60, 2)), random.uniform(0.5, 2, 60)))
    places = (np.array([step, 0, 0]) for step in (0.0, 0.05, 0.1))
    frames = [(points - place)[:, :2] / (points - place)[:, 2:] for place in places]
    frames = [frame + 1e-4 * random.standard_normal(frame.shape) for frame in frames]
    found = motion.start(*frames, 1 / 120, planar=True)
    assert found is not None
    assert np.degrees(np.arccos(found.last[0, 3])) < 3, "its unit is the distance to the last frame"
