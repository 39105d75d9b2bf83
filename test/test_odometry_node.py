"""The odometry node on the real detector's messages of the simulated room: its poses, and what goes wrong around it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("gtsam", reason="the odometry needs the Python package gtsam")

from room_messages import BODY, RATE, ROOM, STEP, Camera, Course, ToedIn, header, info_message, toe_in
from scipy.spatial.transform import Rotation

from superpoint_ros.node.camera import Camera as DetectorCamera
from superpoint_ros.node.interface import ParameterError
from superpoint_ros.odometry.messages import frame_from_messages
from superpoint_ros.odometry.node import OdometryNode
from superpoint_ros.odometry.values import State

START = 10**9
STEREO = {"stereo": True, "camera": "left"}
DRIFT = 0.03
"""Metres that a step may be off; a frame moves by about 0.02."""


class Host:
    """Collects what the odometry publishes; everything has a subscriber."""

    def __init__(self):
        self.published, self.warnings = [], []

    def subscriber_count(self, key):
        return 1

    def publish(self, key, fields):
        self.published.append((key, fields))

    def warn(self, text):
        self.warnings.append(text)

    def input_name(self, key):
        return f"/input/{key}"

    def of(self, key):
        return [fields for name, fields in self.published if name == key]


class Run:
    """A node, and the state after each moment that it was given."""

    def __init__(self, clock=None, calibrated=True, **values):
        self.host = Host()
        more = {"clock": clock} if clock else {}
        self.node = OdometryNode(values, self.host, live=clock is not None, **more)
        self.states = []
        if calibrated:
            self.node.submit("camera_info", info_message())

    def feed(self, moments, only=None):
        for moment in moments:
            for key, message in moment.items():
                if only is None or key in only:
                    self.node.submit(key, message)
            self.states.append(self.node.latest.state if self.node.latest else None)
        return self

    def poses(self):
        """The (4, 4) published poses by stamp; none of them, nor any other number, is anything but finite."""
        found = {}
        for fields in self.host.of("odometry"):
            pose, quaternion = np.eye(4), fields["pose"]["pose"]["orientation"]
            pose[:3, :3] = Rotation.from_quat([quaternion[axis] for axis in "xyzw"]).as_matrix()
            pose[:3, 3] = list(fields["pose"]["pose"]["position"].values())
            found[fields["header"]["stamp"]] = pose
            twist = [list(part.values()) for part in fields["twist"]["twist"].values()]
            covariances = fields["pose"]["covariance"], fields["twist"]["covariance"]
            for numbers in (pose, twist, *covariances):
                assert np.isfinite(numbers).all()
            assert all((np.diag(each.reshape(6, 6)) >= 0).all() for each in covariances)
        return found

    def state(self):
        (found,) = self.node.diagnostics()
        return found


def truth(room, stamps, start=START):
    """The true poses of the camera's body by stamp, in the frame of the first."""
    first = np.linalg.inv(room.pose(0.0))
    return {s: BODY @ first @ room.pose((s - start) * 1e-9) @ np.linalg.inv(BODY) for s in stamps}


def check_steps(run, room, tolerance=DRIFT, start=START):
    """Each step between two poses that follow each other is the true one."""
    poses = run.poses()
    true = truth(room, poses, start)
    for before, now in zip(poses, list(poses)[1:], strict=False):
        if now - before == STEP:
            step, expected = (np.linalg.inv(each[before]) @ each[now] for each in (poses, true))
            assert np.linalg.norm(step[:3, 3] - expected[:3, 3]) < tolerance, (before, now)
            turn = Rotation.from_matrix(step[:3, :3].T @ expected[:3, :3]).magnitude()
            assert np.degrees(turn) < 1.0, (before, now)
    return poses, true


def still(seconds):
    return ROOM.pose(0.0)


def turning(seconds, place=0.0):
    """30 degrees per second about the vertical, at a place on the path."""
    pose = ROOM.pose(place)
    pose[:3, :3] = Rotation.from_euler("z", 30 * seconds, degrees=True).as_matrix() @ pose[:3, :3]
    return pose


def seconds(count, first=0):
    return np.arange(first, first + count) / RATE


@pytest.fixture(scope="module")
def pair():
    """Two seconds of a stereo pair."""
    return Camera(stereo=True).watch(ROOM, seconds(20))


@pytest.fixture(scope="module")
def single():
    """Three seconds of a single camera."""
    return Camera(stereo=False).watch(ROOM, seconds(30))


def test_a_pair_follows_the_path_in_metres(pair):
    run = Run(**STEREO).feed(pair)
    assert run.states == [State.TRACKING] * len(pair) and not run.host.warnings
    poses, true = check_steps(run, ROOM)
    length = sum(np.linalg.norm(true[s][:3, 3] - true[s - STEP][:3, 3]) for s in list(true)[1:])
    assert max(np.linalg.norm(poses[s][:3, 3] - true[s][:3, 3]) for s in poses) < 0.02 * length
    state = run.state()
    assert (state.level, state.message, state.values["scale"]) == (0, "tracking", "metres")
    assert state.values["tracking, total"] == str(len(pair))


@pytest.mark.parametrize("zoom", [1.0, 1.2], ids=["P is K", "P is not K"])
@pytest.mark.parametrize("undistort", ["none", "points"])
def test_a_pair_without_distortion_that_is_not_rectified_has_the_right_camera_where_it_is(zoom, undistort):
    rig, camera = ToedIn(8.0), Camera(stereo=True, undistort=undistort)
    calibration = {"degrees": rig.degrees, "zoom": zoom}
    camera.calibrate(**calibration)
    moments = camera.watch(rig, seconds(10), covered=[5])
    # Points are in the camera's own frame, or in that of the rectified camera, which looks straight ahead.
    room, turn = (rig, toe_in(rig.degrees, 0)) if undistort == "none" else (ROOM, np.eye(3))
    expected = turn.T @ [rig.baseline, 0, 0]
    frame = frame_from_messages(*moments[0].values(), DetectorCamera.from_message(info_message(**calibration)))
    np.testing.assert_allclose(frame.right_position, expected, atol=1e-9)
    assert frame.focal_length == pytest.approx(240 * (zoom if undistort == "points" else 1))
    run = Run(**STEREO, calibrated=False)
    run.node.submit("camera_info", info_message(**calibration))
    run.feed(moments)
    # An image without keypoints does not tell, and is no reason to start another map.
    assert run.states == [State.TRACKING] * 5 + [State.LOST] + [State.TRACKING] * 4
    poses, true = check_steps(run, room)
    assert max(np.linalg.norm(poses[s][:3, 3] - true[s][:3, 3]) for s in poses) < DRIFT


def test_transform_velocity_and_path_agree_with_the_poses(pair):
    run = Run(**STEREO, odom_frame="world", base_frame="robot").feed(pair)
    poses = run.poses()
    for message, fields in zip(run.host.of("tf"), run.host.of("odometry"), strict=True):
        (transform,) = message["transforms"]
        assert transform["header"] == fields["header"] == {"stamp": fields["header"]["stamp"], "frame_id": "world"}
        assert transform["child_frame_id"] == fields["child_frame_id"] == "robot"
        assert transform["transform"]["translation"] == fields["pose"]["pose"]["position"]
        assert transform["transform"]["rotation"] == fields["pose"]["pose"]["orientation"]
        stamp = fields["header"]["stamp"]
        if stamp > START:
            step = np.linalg.inv(poses[stamp]) @ (poses[stamp][:, 3] - poses[stamp - STEP][:, 3])
            velocity = list(fields["twist"]["twist"]["linear"].values())
            np.testing.assert_allclose(velocity, step[:3] * RATE, atol=1e-9)
    path = run.node.path["poses"]
    assert len(path) == run.node.keyframes == int(run.state().values["keyframes"]) > 1
    assert path[0]["header"]["stamp"] == START
    assert all(each["pose"] == run.host.of("odometry")[(each["header"]["stamp"] - START) // STEP]["pose"]["pose"]
               for each in path)  # fmt: skip
    silent = Run(**STEREO, publish_tf=False).feed(pair[:3])
    assert len(silent.host.of("odometry")) == 3 and not silent.host.of("tf")


def test_the_path_is_published_once_a_second_and_when_the_state_changes(pair):
    now = 0.0
    run, sizes = Run(clock=lambda: now, **STEREO), []
    for moment in [*pair, *Camera(stereo=True).watch(ROOM, [2.0], START + 20 * STEP, covered=[0])]:
        run.feed([moment])
        sizes.append([len(path["poses"]) for path in run.host.of("path")])
        now += 1 / 21  # nearly a second in all
    assert run.states[-2:] == [State.TRACKING, State.LOST]
    # The start, and what has been added since as the odometry is lost.
    assert run.node.keyframes > 2 and sizes == [[1]] * 20 + [[1, run.node.keyframes]]


def test_a_single_camera_starts_once_it_has_moved_and_has_the_path_s_form(single):
    run = Run().feed(single)
    began = run.states.index(State.TRACKING)
    assert 0 < began < 15
    assert run.states == [State.INITIALISING] * began + [State.TRACKING] * (len(single) - began)
    poses = run.poses()
    true, stamps = truth(ROOM, poses), list(poses)
    assert run.state().values["scale"] == "unknown"
    est, ref = (np.array([each[s][:3, 3] - each[stamps[0]][:3, 3] for s in stamps]) for each in (poses, true))
    scale = (est * ref).sum() / (est**2).sum()
    assert np.abs(est * scale - ref).max() < 0.03 * np.linalg.norm(ref[-1])


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


def test_a_pair_that_stands_still_stays_where_it_is():
    room = Course(still)
    run = Run(**STEREO).feed(Camera(stereo=True).watch(room, seconds(20)))
    assert run.states == [State.TRACKING] * 20
    places = np.array([pose[:3, 3] for pose in run.poses().values()])
    assert np.abs(places).max() < 0.01
    assert len(run.node.path["poses"]) <= 2


def test_a_single_camera_that_stands_still_has_no_pose_and_says_why():
    run = Run().feed(Camera(stereo=False).watch(Course(still), seconds(15)))
    assert set(run.states) == {State.INITIALISING} and not run.host.published
    assert run.state().message == "initialising: the camera has not moved enough to tell depth"


def test_a_pair_that_only_turns_has_the_rotation_and_stays_in_place():
    room = Course(turning)
    run = Run(**STEREO).feed(Camera(stereo=True).watch(room, seconds(20)))
    assert run.states == [State.TRACKING] * 20
    check_steps(run, room)
    poses, true = run.poses(), truth(room, run.poses())
    last = START + 19 * STEP
    assert np.degrees(Rotation.from_matrix(poses[last][:3, :3].T @ true[last][:3, :3]).magnitude()) < 1.0
    assert max(np.linalg.norm(pose[:3, 3]) for pose in poses.values()) < DRIFT


@pytest.mark.parametrize("place", [0, 11, 33])
def test_a_single_camera_that_only_turns_from_its_start_on_has_no_pose(place):
    room = Course(lambda time: turning(time, place))
    run = Run().feed(Camera(stereo=False).watch(room, seconds(20)))
    assert set(run.states) == {State.INITIALISING} and not run.host.published


def test_a_single_camera_that_stops_to_turn_keeps_its_place():
    def pose_at(time):
        return ROOM.pose(time) if time < 2 else turning(time - 2, place=2.0)

    run = Run().feed(Camera(stereo=False).watch(Course(pose_at), seconds(40)))
    assert run.states[20:] == [State.TRACKING] * 20
    poses, true = run.poses(), truth(Course(pose_at), run.poses())
    moved = np.linalg.norm(poses[START + 20 * STEP][:3, 3])
    for stamp in list(poses)[-20:]:
        assert np.degrees(Rotation.from_matrix(poses[stamp][:3, :3].T @ true[stamp][:3, :3]).magnitude()) < 2.0
        assert np.linalg.norm(poses[stamp][:3, 3] - poses[START + 20 * STEP][:3, 3]) < 0.1 * moved


def test_after_a_reset_the_camera_is_at_the_origin(pair):
    run = Run(**STEREO).feed(pair[:10])
    run.node.reset()
    assert run.node.path["poses"] == [] and run.node.latest is None
    run.feed(pair[10:])
    poses = list(run.poses().values())
    assert np.linalg.norm(poses[9][:3, 3]) > 0.05
    np.testing.assert_allclose(poses[10], np.eye(4), atol=1e-9)


def test_parameters_change_while_it_runs_and_invalid_ones_change_nothing(pair):
    run = Run(**STEREO).feed(pair[:10])
    run.node.set_parameters({"camera_x": 1.0, "window": 4, "min_points": 10})
    run.feed(pair[10:])
    assert run.states == [State.TRACKING] * 20
    # The base is a metre behind the camera, where it would have been from the start.
    poses, true = run.poses(), truth(ROOM, run.poses())
    arm = np.eye(4)
    arm[0, 3] = 1.0
    last = list(poses)[-1]
    np.testing.assert_allclose(poses[last], arm @ true[last] @ np.linalg.inv(arm), atol=DRIFT)
    for changes, sentence in (
        ({"window": 5, "stereo": False}, "parameter 'stereo' is read-only"),
        ({"window": 5, "noise": -1.0}, "parameter 'noise' is -1.0, allowed is"),
        ({"windows": 5}, "parameter 'windows' is unknown"),
    ):
        with pytest.raises(ParameterError, match=sentence):
            run.node.set_parameters(changes)
    assert run.node.values["window"] == 4


def test_a_message_that_does_not_fit_is_skipped_and_the_next_one_is_used(pair):
    stereo = SimpleNamespace(**{**vars(pair[5]["stereo_matches"]), "left_indices": np.full(3, 10**6, np.uint32)})
    run = Run(**STEREO).feed([*pair[:5], {**pair[5], "stereo_matches": stereo}, *pair[6:]])
    assert list(run.poses()) == [START + i * STEP for i in range(20) if i != 5]
    assert len(run.host.warnings) == 1 and run.state().values["skipped, total"] == "1"
    check_steps(run, ROOM)
