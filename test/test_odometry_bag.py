"""`superpoint-ros odometry --bag`: from a recording of cameras by `superpoint-ros bag` to a trajectory and a bag."""

from __future__ import annotations

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

pytest.importorskip("gtsam", reason="the odometry needs the Python package gtsam")
pytest.importorskip("rosbags", reason="reading and writing bags needs the Python package rosbags")

from room_messages import BODY, RATE, ROOM, STEP
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer

from superpoint_ros import cli
from superpoint_ros.hosts.wire.messages import camera_info_message, header_message, image_message
from superpoint_ros.hosts.wire.typesystem import serialize, typestore

FRAMES = 15
START, DELAY = 10**9, 7 * 10**9
IMAGE, INFO = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo"
CAMERAS = ("left", "right")
DETECTOR = "/superpoint_detector"


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """Both cameras of the room for a second and a half."""
    target = tmp_path_factory.mktemp("recordings") / "cameras"
    with Writer(target, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topics = {
            (camera, name): writer.add_connection(f"/rig/{camera}/{name}", type_, typestore=typestore())
            for camera in CAMERAS
            for name, type_ in (("image", IMAGE), ("camera_info", INFO))
        }
        for frame in range(FRAMES):
            stamp = START + frame * STEP
            for index, camera in enumerate(CAMERAS):
                image = cv2.cvtColor(ROOM.frame(frame / RATE, index), cv2.COLOR_BGR2GRAY)
                info = camera_info_message(header_message(stamp, camera), ROOM.size, ROOM.intrinsics,
                                           ROOM.baseline * index)  # fmt: skip
                for name, type_, message in (
                    ("image", IMAGE, image_message(stamp, camera, image)), ("camera_info", INFO, info)
                ):  # fmt: skip
                    writer.write(topics[camera, name], stamp + DELAY + index, serialize(message, type_))
    return target


@pytest.fixture(scope="module")
def features(recording, tmp_path_factory):
    """What the detector publishes of them, by `superpoint-ros bag`."""
    target = tmp_path_factory.mktemp("recordings") / "features"
    words = [word for camera in CAMERAS for word in ("--topic", f"/rig/{camera}/image")]
    words += ["-p", "cameras:=[left, right]", "-p", "stereo:=true", "-p", "weights:=light", "-p", "max_keypoints:=400"]
    assert cli.main(["bag", str(recording), str(target), *words]) == 0
    return target


@pytest.fixture
def odometry(command, features):
    def run(*words, bag=features, code=0):
        done = command("odometry", "--bag", bag, "-p", "camera:=left", *words)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


STEREO = ("-p", "stereo:=true")


def read(path):
    found: dict[str, list] = {}
    with AnyReader([path]) as reader:
        for connection in reader.connections:
            found[connection.topic] = []
        for connection, stamp, data in reader.messages():
            found[connection.topic].append((stamp, reader.deserialize(data, connection.msgtype)))
    return found


def true_positions():
    first = np.linalg.inv(ROOM.pose(0.0))
    return np.array([(BODY @ first @ ROOM.pose(i / RATE))[:3, 3] for i in range(FRAMES)])


def test_the_calibration_is_copied_beside_the_features(features, recording):
    found, original = read(features), read(recording)
    for camera in CAMERAS:
        name = f"/rig/{camera}/camera_info"
        assert [stamp for stamp, _ in found[name]] == [stamp for stamp, _ in original[name]]
        for (_, copy), (_, info) in zip(found[name], original[name], strict=True):
            assert repr(copy) == repr(info)  # each bag has its own classes


def test_a_trajectory_and_a_bag_are_written(odometry, tmp_path):
    out = ("--out", tmp_path / "trajectory.txt", "--out-bag", tmp_path / "out")
    summary = json.loads(odometry(*STEREO, *out, "--json").stdout)
    assert (summary["frames"], summary["tracking"], summary["skipped"]) == (FRAMES, FRAMES, 0) and summary["metric"]
    length = np.linalg.norm(np.diff(true_positions(), axis=0), axis=1).sum()
    assert summary["path_length"] == pytest.approx(length, rel=0.05)
    rows = np.loadtxt(tmp_path / "trajectory.txt")
    np.testing.assert_allclose(rows[:, 0], 1 + np.arange(FRAMES) / RATE)
    assert np.linalg.norm(rows[:, 1:4] - true_positions(), axis=1).max() < 0.02 * length
    np.testing.assert_allclose(np.linalg.norm(rows[:, 4:], axis=1), 1, atol=1e-6)
    found = read(tmp_path / "out")
    name = "/superpoint_odometry/odometry"
    assert {topic: len(each) for topic, each in found.items()} == {name: FRAMES, "/tf": FRAMES,
                                                                  "/superpoint_odometry/path": 1}  # fmt: skip
    for frame, ((stamp, message), (_, tf)) in enumerate(zip(found[name], found["/tf"], strict=True)):
        assert stamp == START + DELAY + frame * STEP + 1  # when the right image completed the moment
        assert message.header.frame_id == "odom" and message.child_frame_id == "base_link"
        place = message.pose.pose.position
        np.testing.assert_allclose([place.x, place.y, place.z], rows[frame, 1:4], atol=1e-8)
        assert tf.transforms[0].transform.translation.x == place.x
    ((_, path),) = found["/superpoint_odometry/path"]
    assert len(path.poses) == summary["keyframes"] > 1


def test_a_single_camera_without_speed_has_no_unit_and_the_summary_says_so(odometry):
    done = odometry()
    assert f"{FRAMES} frames (" in done.stdout and "0 lost), 0 messages skipped" in done.stdout
    assert "units of unknown length" in done.stdout and "tracking" in done.stdout


def test_the_calibration_may_come_from_the_original_recording(odometry, features, recording, tmp_path):
    target = tmp_path / "bare"
    with AnyReader([features]) as reader, Writer(target, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        kept = [c for c in reader.connections if c.topic.startswith(DETECTOR)]
        names = {c.topic: "/front" + c.topic for c in kept}  # another namespace
        written = {c.topic: writer.add_connection(names[c.topic], c.msgtype, typestore=typestore()) for c in kept}
        for connection, stamp, data in reader.messages(connections=kept):
            writer.write(written[connection.topic], stamp, data)
    done = odometry(*STEREO, bag=target, code=1)
    assert "contains no topic /left/camera_info and no other of its type" in done.stderr
    assert done.stderr.count("\n") == 1
    done = odometry(*STEREO, "--calibration", recording, "--json", bag=target)
    assert json.loads(done.stdout)["tracking"] == FRAMES


WRONG = {
    "no such camera": (["-p", "camera:=front"], "contains no topic /superpoint_detector/front/features, those of its "
                       "type are /superpoint_detector/left/features, /superpoint_detector/right/features"),
    "unknown parameter": (["-p", "windows:=3"], "parameter 'windows' is unknown"),
    "out of range": (["-p", "window:=1"], "parameter 'window' is 1, allowed is an integer from 2 to 50"),
    "no folder": (["--out", "/nowhere/trajectory.txt"], "trajectory '/nowhere/trajectory.txt' cannot be written: its"),
    "a bag that exists": (["--out-bag", "."], "already exists, a bag is written to a new folder"),
}  # fmt: skip


def test_a_bag_that_exists_leaves_the_trajectory_of_another_run(odometry, tmp_path):
    path = tmp_path / "trajectory.txt"
    path.write_text("of another run")
    odometry("--out", path, "--out-bag", tmp_path, code=1)
    assert path.read_text() == "of another run"


def test_a_trajectory_for_which_the_disk_is_full_fails_and_leaves_a_complete_bag(odometry, tmp_path):
    done = odometry(*STEREO, "--out", "/dev/full", "--out-bag", tmp_path / "out", code=1)
    assert "No space left on device" in done.stderr and not done.stdout
    assert len(read(tmp_path / "out")["/superpoint_odometry/odometry"]) == FRAMES


@pytest.mark.parametrize(("words", "sentence"), WRONG.values(), ids=WRONG)
def test_a_user_error_is_one_sentence(odometry, words, sentence):
    done = odometry(*words, code=1)
    assert sentence in done.stderr and done.stderr.count("\n") == 1 and not done.stdout


def test_a_recording_without_a_pose_is_a_failure_that_says_why(odometry):
    done = odometry("-p", "min_points:=1000", *STEREO, code=1)
    assert f"no pose in {FRAMES} frames of" in done.stderr and "fewer than 1000 stereo matches" in done.stderr


def test_an_output_without_a_recording_is_misuse(command):
    done = command("odometry", "--out", "trajectory.txt")
    assert done.returncode == 2 and "--out is for a recording, name it with --bag" in done.stderr


def test_without_gtsam_one_sentence_names_the_extra():
    code = "import sys; sys.modules['gtsam'] = None; from superpoint_ros import cli; sys.exit(cli.main(['odometry']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1 and done.stderr == (
        "superpoint-ros odometry: Python package 'gtsam' is missing, install it with: pip install "
        "'superpoint_ros[odometry]'\n"
    )
