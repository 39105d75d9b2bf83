"""Which frames wait for the worker: the newest of each camera, and both of a stereo pair."""

from __future__ import annotations

import numpy as np
import pytest

from superpoint_ros import Frame
from superpoint_ros.frontend.slots import Slots

LEFT, RIGHT = "left", "right"


def frame(camera, stamp):
    return Frame(stamp, lambda: np.zeros((8, 8), np.uint8), camera)


def names(frames):
    return [(each.camera, each.stamp) for each in frames]


def test_without_a_pair_each_camera_keeps_its_newest_frame_and_they_take_turns():
    slots = Slots()
    assert [slots.put(frame(*one)) for one in ((LEFT, 1), (RIGHT, 1), (LEFT, 2))] == [False, False, True]
    assert len(slots) == 2
    assert names(slots.take()) == [(LEFT, 2)]
    slots.put(frame(LEFT, 3))
    assert names(slots.take()) == [(RIGHT, 1)] and names(slots.take()) == [(LEFT, 3)] and not slots


@pytest.mark.parametrize("early", [True, False], ids=["the partner waits already", "the partner comes later"])
def test_of_a_frame_that_is_taken_the_partner_is_next_however_many_frames_come_in_between(early):
    slots = Slots((LEFT, RIGHT))
    slots.put(frame(LEFT, 1))
    if early:
        slots.put(frame(RIGHT, 1))
    assert names(slots.take()) == [(LEFT, 1)]
    if not early:
        slots.put(frame(RIGHT, 1))
    for stamp in (2, 3, 4):
        slots.put(frame(LEFT, stamp))
        slots.put(frame(RIGHT, stamp))
    taken = [names(slots.take()) for _ in range(3)]
    assert taken == [[(RIGHT, 1)], [(LEFT, 4)], [(RIGHT, 4)]] and not slots


def test_a_worker_that_is_slower_than_the_cameras_processes_pairs():
    """Six frames of each camera come while one is processed; the order within a pair varies."""
    slots, taken, rng = Slots((LEFT, RIGHT)), [], np.random.default_rng(0)
    for stamp in range(120):
        for camera in rng.permutation([LEFT, RIGHT]):
            slots.put(frame(str(camera), stamp))
            if rng.random() < 1 / 12:
                taken += names(slots.take())
    stamps = {camera: [stamp for name, stamp in taken if name == camera] for camera in (LEFT, RIGHT)}
    assert all(found == sorted(found) for found in stamps.values())
    assert len(set(stamps[LEFT]) & set(stamps[RIGHT])) >= 0.4 * len(taken) > 2


def test_a_partner_that_never_comes_holds_nothing_up():
    slots = Slots((LEFT, RIGHT))
    for stamp in range(5):
        slots.put(frame(LEFT, stamp))
        assert names(slots.take()) == [(LEFT, stamp)] and not slots


def test_stamps_may_differ_by_the_slop_and_by_no_more():
    for difference, taken in ((10, [(RIGHT, 110)]), (11, [(RIGHT, 300)])):
        slots = Slots((LEFT, RIGHT), slop=10)
        slots.put(frame(LEFT, 100))
        slots.take()
        slots.put(frame(RIGHT, 100 + difference))
        slots.put(frame(RIGHT, 300))
        assert names(slots.take()) == taken


def test_a_batch_holds_one_frame_of_each_camera_in_the_order_asked_for():
    slots = Slots((LEFT, RIGHT))
    slots.put(frame(RIGHT, 1))
    assert names(slots.take([LEFT, RIGHT])) == [(RIGHT, 1)]
    slots.put(frame(LEFT, 1))
    slots.put(frame(LEFT, 2))
    slots.put(frame(RIGHT, 2))
    assert names(slots.take([LEFT, RIGHT])) == [(LEFT, 1), (RIGHT, 2)]
    assert names(slots.take([LEFT, RIGHT])) == [(LEFT, 2)]
    slots.put(frame(RIGHT, 3))
    assert slots.clear() == [RIGHT] and not slots
