"""`superpoint-ros bag` on recordings of several cameras: each has its outputs, and a stereo pair has depth."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

pytest.importorskip("rosbags", reason="reading and writing bags needs the Python package rosbags")

from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer

from superpoint_ros.hosts.wire.messages import camera_info_message, header_message, image_message
from superpoint_ros.hosts.wire.typesystem import message_class, serialize, typestore
from superpoint_ros.simulation.room import Room

ROOM = Room((240, 320))
FRAMES = 3
IMAGE, COMPRESSED, INFO = (f"sensor_msgs/msg/{name}" for name in ("Image", "CompressedImage", "CameraInfo"))
CAMERAS = ("left", "right")


@pytest.fixture
def record(tmp_path):
    """Write a recording of both cameras: record(compressed, lost=(frame, camera), baseline)."""

    def write(compressed=False, lost=None, baseline=ROOM.baseline):
        target, kind = tmp_path / "recording", COMPRESSED if compressed else IMAGE
        suffix = "/compressed" if compressed else ""
        with Writer(target, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
            images, infos = (
                [writer.add_connection(f"/rig/{camera}/{name}", type_, typestore=typestore()) for camera in CAMERAS]
                for name, type_ in ((f"image{suffix}", kind), ("camera_info", INFO))
            )
            for frame in range(FRAMES):
                time = frame * 100_000_000
                for index in range(2):
                    if (frame, CAMERAS[index]) == lost:
                        continue
                    image = cv2.cvtColor(ROOM.frame(time * 1e-9, index), cv2.COLOR_BGR2GRAY)
                    header = header_message(time, CAMERAS[index])
                    message = image_message(time, CAMERAS[index], image)
                    if compressed:
                        data = cv2.imencode(".png", image)[1].reshape(-1)
                        message = message_class(COMPRESSED)(header=header, format="mono8; png compressed", data=data)
                    info = camera_info_message(header, ROOM.size, ROOM.intrinsics, baseline * index)
                    writer.write(infos[index], 10**9 + time + index * 1_000_000, serialize(info, INFO))
                    writer.write(images[index], 10**9 + time + index * 1_000_000, serialize(message, kind))
        return target

    return write


def read(path):
    found: dict[str, list] = {}
    with AnyReader([path]) as reader:
        for connection in reader.connections:
            found[connection.topic] = []
        for connection, stamp, data in reader.messages():
            found[connection.topic].append((stamp, reader.deserialize(data, connection.msgtype)))
    return found


REMAPPED = [word for camera in CAMERAS for word in ("-r", f"{camera}/image:=/rig/{camera}/image")]
NAMED = [word for camera in CAMERAS for word in ("--topic", f"/rig/{camera}/image")]
STEREO = ["-p", "cameras:=[left, right]", "-p", "stereo:=true"]


def test_every_camera_has_its_features_and_tracks(bag, record, tmp_path, tiny_weights):
    options = ["-p", "cameras:=[left, right]", "-p", f"weights:={tiny_weights}", "--json"]
    summary = json.loads(bag(record(), tmp_path / "out", *NAMED, *options).stdout)
    assert summary["topics"] == ["/rig/left/image", "/rig/right/image"] and summary["processed"] == 2 * FRAMES
    assert "unpaired" not in summary
    found = read(tmp_path / "out")
    assert {name: len(messages) for name, messages in found.items()} == {
        name.format(camera): FRAMES
        for camera in CAMERAS
        for name in (
            "/superpoint_detector/{}/features",
            "/superpoint_detector/{}/matched_homography",
            "/rig/{}/camera_info",
        )
    }
    for camera in CAMERAS:
        homographies = [message for _, message in found[f"/superpoint_detector/{camera}/matched_homography"]]
        assert [message.header.frame_id for message in homographies] == [camera] * FRAMES
        assert homographies[0].status == 1
        assert all(message.status != 1 for message in homographies[1:])


@pytest.mark.parametrize("compressed", [False, True], ids=["raw", "compressed"])
def test_a_stereo_pair_has_matches_and_a_cloud_at_the_true_depth(bag, record, tmp_path, compressed):
    done = bag(record(compressed), tmp_path / "out", *REMAPPED, *STEREO, "--cloud", "--json")
    summary = json.loads(done.stdout)
    assert (summary["processed"], summary["unpaired"]) == (2 * FRAMES, 0) and not done.stderr
    found = read(tmp_path / "out")
    matches = found["/superpoint_detector/stereo_matches"]
    features = found["/superpoint_detector/left/features"]
    clouds = found["/superpoint_detector/left/keypoints_cloud"]
    assert len(matches) == len(clouds) == FRAMES
    for frame, ((stamp, message), (_, left), (_, cloud)) in enumerate(zip(matches, features, clouds, strict=True)):
        assert stamp == 10**9 + frame * 100_000_000 + 1_000_000  # when the right image completed the pair
        assert message.header == left.header and message.right_stamp == message.header.stamp
        keypoints = left.keypoints.reshape(-1, 2)[message.left_indices]
        places, visible = ROOM.transfer(keypoints, frame * 0.1, frame * 0.1, cameras=(0, 1))
        depth = ROOM.intrinsics[0, 0] * ROOM.baseline / (keypoints - places)[:, 0]
        assert np.median(np.abs(message.depth / depth - 1)[visible]) < 0.02
        points = cloud.data.view("<f4").reshape(-1, 4)
        np.testing.assert_array_equal(points[message.left_indices, 2], message.depth)


def test_a_frame_without_a_partner_is_counted(bag, record, tmp_path):
    done = bag(record(lost=(1, "right")), tmp_path / "out", *NAMED, *STEREO, "--json")
    summary = json.loads(done.stdout)
    assert (summary["processed"], summary["unpaired"]) == (2 * FRAMES - 1, 1)
    assert len(read(tmp_path / "out")["/superpoint_detector/stereo_matches"]) == FRAMES - 1
    done = bag(tmp_path / "recording", tmp_path / "again", *NAMED, *STEREO)
    assert "5 of 5 frames of /rig/left/image, /rig/right/image, 1 without a stereo partner" in done.stdout


def test_without_a_baseline_the_features_go_on_and_one_warning_says_why(bag, record, tmp_path, tiny_weights):
    done = bag(record(baseline=0.0), tmp_path / "out", *NAMED, *STEREO, "-p", f"weights:={tiny_weights}")
    assert done.stderr.count("\n") == 1 and "has a baseline of 0 m" in done.stderr
    found = read(tmp_path / "out")
    assert len(found["/superpoint_detector/left/features"]) == FRAMES
    assert not found["/superpoint_detector/stereo_matches"]


WRONG = {
    "too few topics": (["--topic", "/rig/left/image"], "1 image topics are named, allowed is one for each camera of"),
    "one topic twice": (2 * ["--topic", "/rig/left/image"], "two cameras have the same image topic"),
    "no such topic": ([], "topic '/left/image' is not among the image topics /rig/left/image, /rig/right/image"),
    "one camera": ([*NAMED, "-p", "cameras:=[left]"], "2 image topics are named, allowed is one for each camera"),
    "stereo of one": (
        [NAMED[0], NAMED[1], "-p", "cameras:=[left]", "-p", "stereo:=true"],
        "allowed with 'stereo' are two",
    ),
}


@pytest.mark.parametrize(("words", "expected"), WRONG.values(), ids=WRONG)
def test_topics_that_do_not_fit_the_cameras_are_rejected_and_nothing_is_written(bag, record, tmp_path, words, expected):
    done = bag(record(), tmp_path / "out", "-p", "cameras:=[left, right]", *words, code=1)
    assert expected in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
