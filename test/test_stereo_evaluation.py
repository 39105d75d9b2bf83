"""`superpoint-ros evaluate stereo`: on the room, whose calibration is exact, and on a part of KITTI."""

from __future__ import annotations

import json

import numpy as np
import pytest

from superpoint_ros.evaluation import stereo


def evaluated(command, *words):
    done = command("evaluate", "stereo", *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_in_the_room_rows_and_steps_are_right_and_no_shift_is_found(command):
    found = evaluated(command, "room", "--frames", "6")
    assert (found["name"], found["pairs"]) == ("room", 6)
    assert found["matched"] > 0.7
    assert found["row_offset"] < 0.05 and found["row_error"] < 0.05
    assert found["step_error"] < 0.015
    assert abs(found["shift"]) < 0.3


def test_on_kitti_rows_agree_but_for_the_calibration_whose_shift_the_tracks_tell(command, shared_data):
    folder = shared_data / "sequences" / "kitti_part"
    if not (folder / "image_r").is_dir():
        pytest.skip("the stereo part of KITTI is absent")
    found = evaluated(command, folder, "--frames", "10")
    assert found["matched"] > 0.5
    assert found["row_error"] < 0.15 < found["row_offset"]
    assert 0.5 < found["shift"] < 2
    assert found["shifted_step_error"] < 0.02 < found["step_error"]


def test_a_shift_of_all_disparities_is_found_without_the_truth():
    """Points in front of a camera that moves a metre ahead, with disparities that are too small."""
    rng = np.random.default_rng(0)
    intrinsics, scale = np.array([[700.0, 0, 600], [0, 700, 180], [0, 0, 1]]), 385.0
    steps = []
    for _ in range(5):
        depth = rng.uniform(6, 80, 300)
        pixels = rng.uniform((100, 20), (1100, 340), (300, 2))
        points = np.column_stack(((pixels - [600, 180]) / 700, np.ones(300))) * depth[:, None] - [0, 0, 1]
        targets = (points @ intrinsics.T)[:, :2] / points[:, 2:]
        targets += rng.normal(0, 0.05, (300, 2))
        steps.append(stereo._Step(pixels, scale / depth - 1.2, targets, 1.0))
    shift = stereo._best_shift(steps, intrinsics, scale)
    assert shift == pytest.approx(1.2, abs=0.2)
    before, after = (stereo._step_error(steps, intrinsics, scale, by) for by in (0.0, shift))
    assert after < 0.01 < before


WRONG = {
    "euroc_v1_01": "has the layout euroc, allowed for stereo is KITTI odometry",
    "tum_fr2_desk": "has no right image",
}


@pytest.mark.parametrize(("name", "reason"), WRONG.items())
def test_a_sequence_without_a_rectified_right_camera_is_an_error_of_one_sentence(command, shared_data, name, reason):
    done = command("evaluate", "stereo", shared_data / "sequences" / name)
    assert done.returncode == 1
    assert reason in done.stderr and done.stderr.count("\n") == 1
