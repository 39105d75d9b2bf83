"""The path of the keyframes: short, from the first to the latest, and not published more often than it can be read."""

from __future__ import annotations

from itertools import pairwise

import pytest

from superpoint_ros.odometry.path import MAX_POSES, KeyframePath
from superpoint_ros.odometry.values import State

TRACKING = State.TRACKING


def path_of(count):
    path = KeyframePath()
    for number in range(count):
        path.add({"number": number})
    return path


@pytest.mark.parametrize("count", [0, 1, 2, 999, 1000, 1001, 1002, 1998, 1999, 2000, 5000, 12345])
def test_a_path_has_few_poses_evenly_from_the_first_to_the_latest_keyframe(count):
    path = path_of(count)
    numbers = [pose["number"] for pose in path.poses]
    assert path.count == count and len(numbers) <= MAX_POSES == 1000
    assert len(numbers) == count if count < MAX_POSES else len(numbers) >= MAX_POSES // 2
    assert numbers[:1] + numbers[-1:] == ([0, count - 1] if count else [])
    steps = {after - before for before, after in pairwise(numbers[:-1])}
    assert len(steps) <= 1  # the last step may be shorter


def test_a_growing_path_is_due_once_a_second():
    path, due = KeyframePath(), []
    for tenth in range(35):
        path.add({})
        if path.is_due(1, TRACKING, tenth / 10):
            due.append(tenth)
    assert due == [0, 10, 20, 30]


def test_a_path_that_has_not_grown_is_due_for_a_new_subscriber_only():
    path = path_of(3)
    assert path.is_due(1, TRACKING, 0.0)
    assert not path.is_due(1, TRACKING, 5.0) and not path.is_due(1, State.LOST, 5.1)
    assert path.is_due(2, State.LOST, 5.2) and not path.is_due(1, State.LOST, 7.0)
    assert not path.is_due(0, State.LOST, 8.0) and path.is_due(1, State.LOST, 8.1)


def test_a_path_that_has_grown_is_due_when_the_state_changes():
    path = path_of(3)
    assert path.is_due(1, TRACKING, 0.0)
    path.add({})
    assert not path.is_due(1, TRACKING, 0.1) and path.is_due(1, State.LOST, 0.2)


def test_a_path_is_not_due_without_subscribers_or_keyframes():
    assert not path_of(3).is_due(0, TRACKING, 0.0)
    path = KeyframePath()
    assert not path.is_due(1, State.INITIALISING, 0.0)
    path.add({})
    assert path.is_due(1, TRACKING, 0.1)
