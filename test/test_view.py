"""`superpoint-ros view`: what it writes for Rerun, read back by Rerun itself."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("rerun", reason="rerun-sdk, which shows everything, is not installed")
pytest.importorskip("rosbags", reason="needs the Python package rosbags")

from superpoint_ros.hosts.bag.writing import BagWriter
from superpoint_ros.hosts.local import LocalDetector
from superpoint_ros.hosts.wire.messages import camera_info_message, header_message, image_message
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


@pytest.fixture
def bag(tmp_path):
    """Write a recording of a camera, calibrated for images of `size` if that is given; return its path."""

    def write(size=None):
        room, topics = Room(SIZE), {"image": ("/camera/image", "sensor_msgs/msg/Image")}
        if size is not None:
            topics["info"] = ("/camera/camera_info", "sensor_msgs/msg/CameraInfo")
        writer = BagWriter(tmp_path / "bag", "mcap", topics)
        for index in range(3):
            stamp = (index + 1) * 100_000_000
            if size is not None:
                writer.write("info", stamp, camera_info_message(header_message(stamp, "camera"), size, room.intrinsics))
            writer.write("image", stamp, image_message(stamp, "camera", room.frame(0.1 * index)))
        writer.close()
        return tmp_path / "bag"

    return write


def test_a_recording_is_shown(command, bag, tmp_path):
    path = tmp_path / "bag.rrd"
    result = command("view", bag(), "-p", "weights:=light", "--frames", 2, "--save", path)
    assert result.returncode == 0, result.stderr
    assert "2 frames shown" in result.stdout and entities(path)[f"{IMAGE}/keypoints"] >= 1


def test_frames_that_the_odometry_cannot_use_are_shown_with_one_warning(command, bag, tmp_path):
    pytest.importorskip("gtsam", reason="gtsam, which the trajectory needs, is not installed")
    path = tmp_path / "bag.rrd"
    result = command("view", bag((480, 640)), "-p", "weights:=light", "--save", path)
    assert result.returncode == 0, result.stderr
    assert "3 frames shown" in result.stdout
    assert result.stderr.count("no pose: ") == 1 and "no camera_info for images of this size" in result.stderr


@pytest.mark.parametrize("words", [["nowhere"], ["room", "-p", "weights:=nowhere"], ["BAG", "--topic", "/other"]])
def test_a_source_that_cannot_be_shown_leaves_the_file_of_another_one(command, bag, tmp_path, words):
    path = tmp_path / "a.rrd"
    path.write_bytes(b"of another source")
    result = command("view", *(str(bag()) if word == "BAG" else word for word in words), "--save", path)
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert path.read_bytes() == b"of another source"


@pytest.mark.parametrize(
    "words",
    [["room", "--camera", "left"], ["room", "-r", "image:=/a"], ["--topic", "/a"], ["--stereo"], ["--frames", "3"],
     ["-p", "weights:=light"], ["--params-file", "a.yaml"]],
    ids=lambda words: " ".join(words),
)  # fmt: skip
def test_an_option_of_the_other_mode_is_misuse(command, tmp_path, words):
    path = tmp_path / "a.rrd"
    ending = ["--frames", "1"] if "room" in words else ["-r", "image"]  # no remapping, so nothing waits for topics
    result = command("view", *words, *ending, "--save", path)
    use = "live topics, leave the source out" if "room" in words else "a source, name one"
    assert result.returncode == 2 and f"is for {use}" in result.stderr and not path.exists()


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


def test_of_live_topics_each_calibration_is_shown_once_and_that_of_a_rectified_image_is_p(tmp_path):
    pytest.importorskip("cyclonedds", reason="needs the Python package cyclonedds")
    from superpoint_ros.adapters.rerun import RerunView
    from superpoint_ros.hosts.dds.node import Node
    from superpoint_ros.hosts.dds.viewer import LiveViewer
    from superpoint_ros.node.interface import Qos

    path, shown = tmp_path / "live.rrd", []

    class View(RerunView):
        def add_calibration(self, matrix, size):
            super().add_calibration(matrix, size)
            shown.append(matrix[0, 0])

    remappings = ["image:=/camera/image_rect", "camera_info:=/camera/camera_info"]
    with Node("peer") as node, LiveViewer(View(path), remappings=remappings):
        infos = node.create_publisher("/camera/camera_info", "sensor_msgs/msg/CameraInfo", Qos(reliable=True, depth=20))
        deadline = time.monotonic() + 60
        while not infos.subscription_count:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        for focal in (250.0, 250.0, 250.0, 275.0):
            message = camera_info_message(header_message(1, "camera"), SIZE, np.diag([focal, focal, 1.0]))
            message.k = np.diag([300.0, 300.0, 1.0]).reshape(-1)
            message.d = np.array([-0.2, 0.0, 0.0, 0.0, 0.0])
            infos.publish(message)
        while 275.0 not in shown:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    words = [sys.executable, "-m", "rerun", "rrd", "print", "-vvv", str(path)]
    printed = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True).stdout
    assert re.findall(r"\[\[(\d+\.\d), 0\.0, 0\.0, 0\.0, \d+\.\d, ", printed) == ["250.0", "275.0"]


@pytest.mark.parametrize(
    ("words", "opened"), [({"camera": "left cam"}, ["node", "view"]), ({"remappings": ["image"]}, ["view"])]
)
def test_a_live_viewer_that_cannot_start_closes_what_was_opened(tmp_path, monkeypatch, words, opened):
    pytest.importorskip("cyclonedds", reason="needs the Python package cyclonedds")
    from superpoint_ros.adapters.rerun import RerunView
    from superpoint_ros.hosts.dds import viewer
    from superpoint_ros.hosts.dds.node import Node

    closed = []

    class ClosedView(RerunView):
        def close(self):
            super().close()
            closed.append("view")

    class ClosedNode(Node):
        def close(self):
            super().close()
            closed.append("node")

    monkeypatch.setattr(viewer, "Node", ClosedNode)
    with pytest.raises(ValueError, match="is invalid, allowed"):
        viewer.LiveViewer(ClosedView(tmp_path / "a.rrd"), **words)
    assert closed == opened


@pytest.mark.slow
def test_the_topics_of_a_running_detector_are_shown(tmp_path):
    pytest.importorskip("cyclonedds", reason="needs the Python package cyclonedds")
    from superpoint_ros.hosts.dds.node import Node
    from superpoint_ros.hosts.wire.messages import create_message
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
