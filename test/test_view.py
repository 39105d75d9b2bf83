"""`superpoint-ros view`: what it writes for Rerun, read back by Rerun itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("rerun", reason="rerun-sdk, which shows everything, is not installed")
pytest.importorskip("rosbags", reason="needs the Python package rosbags")

from superpoint_ros.hosts.local import LocalDetector
from superpoint_ros.hosts.wire.messages import image_message
from superpoint_ros.simulation.room import Room

IMAGE = "/world/base/camera/image"
SIZE = (240, 320)


def entities(path) -> dict[str, int]:
    """Return the number of chunks of each entity of an .rrd file; a chunk may hold several frames."""
    words = [sys.executable, "-m", "rerun", "rrd", "stats", str(path)]
    printed = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    found = {}
    for line in (printed.stdout + printed.stderr).splitlines():
        name, _, count = line.strip().rpartition(": ")
        if name.startswith("/") and count.isdigit():
            found[name] = int(count)
    return found


@pytest.mark.slow
def test_the_room_is_written_with_everything_that_belongs_to_it(command, tmp_path):
    path = tmp_path / "room.rrd"
    result = command("view", "room", "--stereo", "--frames", 3, "-p", "weights:=light", "--save", path)
    assert result.returncode == 0, result.stderr
    assert "3 frames shown" in result.stdout
    found = entities(path)
    for name in (IMAGE, f"{IMAGE}/keypoints", f"{IMAGE}/matches", "/counts/inliers", "/milliseconds/detector"):
        assert found[name] >= 1, name
    assert found["/world/base/camera/points"] >= 1
    if pytest.importorskip("gtsam", reason="gtsam, which the trajectory needs, is not installed"):
        assert found["/world/base"] >= 1 and found["/world/trajectory"] >= 1


def test_a_recording_is_shown(command, tmp_path):
    from rosbags.rosbag2 import StoragePlugin, Writer

    from superpoint_ros.hosts.wire.typesystem import serialize, typestore

    path, kind, room = tmp_path / "bag.rrd", "sensor_msgs/msg/Image", Room(SIZE)
    with Writer(tmp_path / "bag", version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        images = writer.add_connection("/camera/image", kind, typestore=typestore())
        for index in range(3):
            stamp = (index + 1) * 100_000_000
            message = image_message(stamp, "camera", room.frame(0.1 * index))
            writer.write(images, stamp, serialize(message, kind))
    result = command("view", tmp_path / "bag", "-p", "weights:=light", "--frames", 2, "--save", path)
    assert result.returncode == 0, result.stderr
    assert "2 frames shown" in result.stdout and entities(path)[f"{IMAGE}/keypoints"] >= 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["room", "--save", "a.png"], ".rrd"),
        (["nowhere", "--save", "a.rrd"], "nowhere"),
        (["room", "--stereo", "--save", "missing/folder/a.rrd"], "a.rrd"),
    ],
)
def test_misuse_is_one_sentence(command, tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    result = command("view", *words)
    assert result.returncode == 1
    assert sentence in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_topics_of_a_running_detector_are_shown(tmp_path):
    pytest.importorskip("cyclonedds", reason="needs the Python package cyclonedds")
    from superpoint_ros.hosts.dds.node import Node
    from superpoint_ros.hosts.wire.messages import camera_info_message, create_message, header_message
    from superpoint_ros.node.interface import Qos

    path, room = tmp_path / "live.rrd", Room(SIZE)
    words = [sys.executable, "-m", "superpoint_ros", "view", "--save", str(path), "-r", "image:=/camera/image"]
    with (
        subprocess.Popen(words, env=dict(os.environ), stdout=subprocess.PIPE, text=True) as process,
        Node("peer") as node,
    ):
        qos = Qos(reliable=True, depth=20)
        types = {
            "features": "superpoint_ros/msg/Features",
            "matched_homography": "superpoint_ros/msg/MatchedHomography",
        }
        outputs = {key: node.create_publisher(f"/superpoint_detector/{key}", name, qos) for key, name in types.items()}
        images = node.create_publisher("/camera/image", "sensor_msgs/msg/Image", qos)
        infos = node.create_publisher("/camera_info", "sensor_msgs/msg/CameraInfo", qos)
        everything = [*outputs.values(), images, infos]
        deadline = time.monotonic() + 60
        while not all(each.subscription_count for each in everything) and time.monotonic() < deadline:
            time.sleep(0.1)
        infos.publish(camera_info_message(header_message(1, "camera"), SIZE, room.intrinsics))
        with LocalDetector({"weights": "light"}) as detector:
            for index in range(3):
                stamp = (index + 1) * 100_000_000
                grey = np.ascontiguousarray(room.frame(0.1 * index)[:, :, 1])
                moment = detector.process(stamp, grey)
                images.publish(image_message(stamp, "camera", grey))
                for key, message in (("features", moment.features), ("matched_homography", moment.homography)):
                    fields = {name: value for name, value in vars(message).items() if name != "header"}
                    outputs[key].publish(create_message(types[key], header_message(stamp, "camera"), fields))
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "3 frames shown" in printed
    assert {IMAGE, f"{IMAGE}/keypoints", f"{IMAGE}/matches", "/milliseconds/latency"} <= set(entities(path))
