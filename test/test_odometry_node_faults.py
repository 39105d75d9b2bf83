"""What goes wrong around the odometry node: messages that lack, break or repeat, and cameras that see nothing."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("gtsam", reason="the odometry needs the Python package gtsam")

from odometry_run import DRIFT, START, STEREO, Run, check_steps, seconds
from room_messages import ROOM, STEP, Camera, header, info_message

from superpoint_ros.odometry.values import State


@pytest.fixture(scope="module")
def pair():
    """Two seconds of a stereo pair."""
    return Camera(stereo=True).watch(ROOM, seconds(20))


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("features", "no features of its stamp arrived"),
        ("matched_homography", "no matched_homography of its stamp arrived"),
        ("stereo_matches", "no stereo_matches of its stamp arrived"),
        ("camera_info", "there is no message on /input/camera_info, which the focal length is from"),
    ],
)
def test_a_missing_topic_is_named_in_the_diagnostics(pair, missing, sentence):
    run = Run(**STEREO, calibrated=missing != "camera_info")
    run.feed([*pair, *shifted(pair, 3 * 10**9)], only={"features", "matched_homography", "stereo_matches"} - {missing})
    assert run.state().level > 0 and run.state().message == f"no pose yet: {sentence}"
    assert any(sentence in warning for warning in run.host.warnings) and not run.host.of("odometry")


def test_before_the_first_message_the_topic_is_named():
    assert Run(calibrated=False).state().message == "no pose yet: no message on /input/features"


def test_a_detector_without_calibration_or_tracks_is_named(pair):
    for change, sentence in (
        ({"normalized": np.zeros(0, np.float32)}, "the detector has no camera_info for images of this size"),
        ({"track_ids": np.zeros(0, np.int64)}, "parameter 'tracking' of the detector is off"),
    ):
        features = SimpleNamespace(**{**vars(pair[0]["features"]), **change})
        run = Run(**STEREO).feed([{**pair[0], "features": features}])
        assert sentence in run.state().message and run.state().level > 0


def test_a_calibration_of_another_size_than_the_features_is_named(pair):
    run = Run(calibrated=False, **STEREO)
    run.node.submit("camera_info", SimpleNamespace(**{**vars(info_message()), "height": 480, "width": 640}))
    run.feed(pair[:2])
    assert not run.poses()
    assert run.state().message.endswith("the camera_info is for 640x480 pixels and the features are of 320x240")


def test_a_detector_that_falls_silent_is_an_error(pair):
    now = 100.0
    run = Run(clock=lambda: now, **STEREO).feed(pair[:3])
    assert run.state().level == 0
    now += 7
    assert run.state().level == 2
    assert run.state().message == "no message on /input/features for 7 s; before that tracking"


def shifted(moments, nanoseconds):
    """The same messages with later stamps."""
    found = []
    for moment in moments:
        changed = {}
        for key, message in moment.items():
            stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec + nanoseconds
            changed[key] = SimpleNamespace(**{**vars(message), "header": header(stamp)})
        found.append(changed)
    return found


def test_the_topics_of_a_moment_may_come_in_any_order_and_late(pair):
    run = Run(**STEREO)
    for key in ("stereo_matches", "matched_homography", "features"):
        run.feed([{key: moment[key]} for moment in pair[:10]])
    assert sorted(run.poses()) == [START + i * STEP for i in range(10)]
    check_steps(run, ROOM)


def test_stamps_out_of_order_and_repeated_ones_cost_themselves_and_one_warning(pair):
    order = [*range(10), 7, 9, *range(10, 20)]
    run = Run(**STEREO).feed([pair[i] for i in order])
    assert list(run.poses()) == [START + i * STEP for i in range(20)]
    check_steps(run, ROOM)
    assert all("is not later than" in warning for warning in run.host.warnings) and run.host.warnings
    assert run.state().message == "tracking" and run.state().values["skipped, total"] == "6"


def test_a_recording_that_is_played_again_starts_another_map_where_the_camera_was(pair):
    run = Run(**STEREO).feed(pair)
    end = list(run.poses().values())[-1]
    run.feed(pair)
    assert sum("stamps went back by 1.900 s" in warning for warning in run.host.warnings) == 1
    assert run.states == [State.TRACKING] * 40
    again = run.host.of("odometry")[20]["pose"]["pose"]["position"]
    np.testing.assert_allclose(list(again.values()), end[:3, 3], atol=DRIFT)


@pytest.mark.parametrize("stereo", [True, False], ids=["pair", "single"])
def test_a_changed_calibration_starts_another_map_where_the_camera_was(stereo):
    camera, run = Camera(stereo), Run(**(STEREO if stereo else {}))
    run.feed(camera.watch(ROOM, seconds(15)))
    assert run.states[-1] is State.TRACKING
    camera.calibrate(scale=1.1)
    run.node.submit("camera_info", info_message(scale=1.1))
    run.feed(camera.watch(ROOM, seconds(15, 15), START + 15 * STEP))
    if stereo:
        assert run.states == [State.TRACKING] * 30
    else:
        assert run.states[15] is State.INITIALISING and run.states[-1] is State.TRACKING
    steps = np.diff([pose[:3, 3] for pose in run.poses().values()], axis=0)
    assert np.linalg.norm(steps, axis=1).max() < (0.1 if stereo else 1.0)
    assert stereo or any("has not moved enough" in warning for warning in run.host.warnings)


def test_a_calibration_of_zeros_is_named(pair):
    run = Run(**STEREO, calibrated=False)
    run.node.submit("camera_info", info_message(scale=0.0))
    run.feed(pair[:2])
    assert run.state().message == "no pose yet: the camera_info is of a camera that is not calibrated (K is zero)"


def test_a_restarted_detector_whose_ids_start_again_is_followed_by_descriptors(pair):
    run = Run(**STEREO).feed(pair[:10])
    run.feed(Camera(stereo=True).watch(ROOM, seconds(10, 10), START + 10 * STEP))
    assert run.states == [State.TRACKING] * 20
    check_steps(run, ROOM)


def test_a_detector_with_other_weights_in_between_costs_its_frames_only(pair):
    other = Camera(stereo=True, weights="default").watch(ROOM, seconds(3, 10), START + 10 * STEP)
    run = Run(**STEREO).feed([*pair[:10], *other, *pair[13:]])
    assert run.states == [State.TRACKING] * 10 + [State.LOST] * 3 + [State.TRACKING] * 7
    poses, true = check_steps(run, ROOM)
    assert np.linalg.norm(list(poses.values())[-1][:3, 3] - list(true.values())[-1][:3, 3]) < DRIFT


@pytest.mark.parametrize("stereo", [True, False], ids=["pair", "single"])
def test_a_camera_that_was_covered_is_lost_and_found_at_its_place(stereo):
    covered = range(15, 20)
    moments = Camera(stereo).watch(ROOM, seconds(30), covered=covered)
    run = Run(**(STEREO if stereo else {})).feed(moments)
    assert [run.states[i] for i in covered] == [State.LOST] * 5
    assert set(run.states[20:]) == {State.TRACKING}
    assert not set(run.poses()) & {START + i * STEP for i in covered}
    assert [w for w in run.host.warnings if w.startswith("lost: fewer than 15 known points")]
    if stereo:
        poses, true = check_steps(run, ROOM)
        assert np.linalg.norm(list(poses.values())[-1][:3, 3] - list(true.values())[-1][:3, 3]) < DRIFT


def test_a_camera_that_is_covered_for_long_starts_another_map_where_it_was_last():
    moments = Camera(stereo=True).watch(ROOM, seconds(30), covered=range(10, 20))
    run = Run(**STEREO, lost_after=0.5).feed(moments)
    assert State.LOST in run.states[10:20] and State.TRACKING not in run.states[10:20]
    assert any("so another map is started here" in warning for warning in run.host.warnings)
    assert run.states[20:] == [State.TRACKING] * 10
    poses = run.poses()
    before, after = poses[START + 9 * STEP], poses[START + 20 * STEP]
    np.testing.assert_allclose(after[:3, 3], before[:3, 3], atol=DRIFT)


def test_a_gap_in_time_is_bridged_by_descriptors(pair):
    run = Run(**STEREO).feed(pair[:10])
    camera = Camera(stereo=True, max_gap=0.3)
    later = camera.watch(ROOM, seconds(2, 8), START + 8 * STEP) + camera.watch(ROOM, seconds(6, 16), START + 16 * STEP)
    assert later[2]["matched_homography"].status == 4  # TIME_JUMP
    run.feed(later[2:])
    assert run.states == [State.TRACKING] * 16
    poses, true = check_steps(run, ROOM)
    for stamp in poses:
        assert np.linalg.norm(poses[stamp][:3, 3] - true[stamp][:3, 3]) < DRIFT


def test_a_message_that_does_not_fit_is_skipped_and_the_next_one_is_used(pair):
    stereo = SimpleNamespace(**{**vars(pair[5]["stereo_matches"]), "left_indices": np.full(3, 10**6, np.uint32)})
    run = Run(**STEREO).feed([*pair[:5], {**pair[5], "stereo_matches": stereo}, *pair[6:]])
    assert list(run.poses()) == [START + i * STEP for i in range(20) if i != 5]
    assert len(run.host.warnings) == 1 and run.state().values["skipped, total"] == "1"
    check_steps(run, ROOM)
