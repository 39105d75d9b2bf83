"""The odometry node on the real detector's messages of the simulated room: its poses, and what it publishes."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("gtsam", reason="the odometry needs the Python package gtsam")

from odometry_run import DRIFT, START, STEREO, Run, check_steps, seconds, truth
from room_messages import RATE, ROOM, STEP, Camera, Course, ToedIn, info_message, toe_in
from scipy.spatial.transform import Rotation

from superpoint_ros.node.camera import Camera as DetectorCamera
from superpoint_ros.node.interface import ParameterError
from superpoint_ros.odometry.messages import frame_from_messages
from superpoint_ros.odometry.values import State


def still(seconds):
    return ROOM.pose(0.0)


def turning(seconds, place=0.0):
    """30 degrees per second about the vertical, at a place on the path."""
    pose = ROOM.pose(place)
    pose[:3, :3] = Rotation.from_euler("z", 30 * seconds, degrees=True).as_matrix() @ pose[:3, :3]
    return pose


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
    # After that image the place is found again by descriptors, at keypoints that no track has made precise yet.
    assert max(np.linalg.norm(poses[s][:3, 3] - true[s][:3, 3]) for s in poses) < 1.5 * DRIFT


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
    # In half of such starts of three seconds it is within 0.01, in one of ten beyond 0.05.
    assert np.abs(est * scale - ref).max() < 0.08 * np.linalg.norm(ref[-1])


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
