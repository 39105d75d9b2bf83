"""Adapters and Foxglove's messages on the real node: filled by rclpy's classes, and optional where they are missing."""

from __future__ import annotations

import importlib.util
import os
import signal
from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs a ROS 2 install in the environment (make test-ros)")

from camera import RELIABLE, Listener
from sensor_msgs.msg import PointCloud

from superpoint_ros.hosts.ros2.messages import fill_message, message_class

pytestmark = pytest.mark.ros
IMAGE = "/camera/image"
HAS_FOXGLOVE = importlib.util.find_spec("foxglove_msgs") is not None
needs_foxglove = pytest.mark.skipif(not HAS_FOXGLOVE, reason="needs the ROS package foxglove_msgs")


@pytest.fixture
def connected(context, start):
    """Start the node with these parameters; return its process and a listener."""
    opened = []

    def connected(*words, image=IMAGE):
        remap = ("-r", f"image:={image}", "-p", "max_gap:=600.0")
        process = start("ros2", "run", "superpoint_ros", "detector", "--ros-args", *remap, *words)
        opened.append(Listener(context, image, "/superpoint_detector"))
        return process, opened[-1]

    yield connected
    for listener in opened:
        listener.close()


def test_nested_messages_are_filled_from_mappings_and_rows():
    points = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    channels = [{"name": "id", "values": np.array([7, 8], np.float32)}, {"name": "u", "values": points[:, 0]}]
    fields = {"header": {"stamp": 1_500_000_002, "frame_id": "camera"}, "points": points, "channels": channels}
    message = fill_message(PointCloud(), {**fields, "of_another_release": []})
    assert [[point.x, point.y, point.z] for point in message.points] == points.tolist()
    assert [(one.name, list(one.values)) for one in message.channels] == [("id", [7, 8]), ("u", [1, 4])]
    header = message.header
    assert (header.stamp.sec, header.stamp.nanosec, header.frame_id) == (1, 500_000_002, "camera")


def test_a_type_that_is_not_installed_is_an_error_that_names_the_package():
    with pytest.raises(ValueError, match=r"install it with: apt install ros-\$ROS_DISTRO-unheard-of-msgs$"):
        message_class("unheard_of_msgs/msg/Any")


@needs_foxglove
def test_annotations_are_published_beside_the_features(connected):
    _, listener = connected("-p", "adapters:=[foxglove]")
    listener._listen(message_class("foxglove_msgs/msg/ImageAnnotations"), "/superpoint_detector/image_annotations",
                     "image_annotations", RELIABLE)  # fmt: skip
    listener.connect()
    features, _ = listener.exchange_until(lambda: listener.received["image_annotations"])
    stamp = features.header.stamp
    found = listener.spin_until(
        lambda: [one for one in listener.received["image_annotations"] if one.timestamp == stamp], 10
    )
    points = [[point.x, point.y] for one in found[0].points if one.type == one.POINTS for point in one.points]
    keypoints = np.array(features.keypoints, np.float64).reshape(-1, 2)
    np.testing.assert_array_equal(np.sort(points, axis=0), np.sort(keypoints + 0.5, axis=0))


@pytest.mark.skipif(HAS_FOXGLOVE, reason="the ROS package foxglove_msgs is installed")
def test_without_the_messages_the_node_says_so_once_and_goes_on(connected):
    process, listener = connected("-p", "adapters:=[foxglove]")
    listener.connect()
    features, _ = listener.exchange()
    assert len(features.scores) > 20
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert errors.count("apt install ros-$ROS_DISTRO-foxglove-msgs") == 1 and "Traceback" not in errors


@pytest.mark.skipif(HAS_FOXGLOVE, reason="the ROS package foxglove_msgs is installed")
def test_an_input_whose_messages_are_missing_stops_the_node_with_one_sentence(start):
    process = start("ros2", "run", "superpoint_ros", "detector", "--ros-args", "-p", "image_transport:=foxglove_image")
    _, errors = process.communicate(timeout=60)
    assert "apt install ros-$ROS_DISTRO-foxglove-msgs" in errors and "Traceback" not in errors


@needs_foxglove
def test_a_video_yields_features(connected):
    av = pytest.importorskip("av", reason="encoding and decoding video needs the Python package av")
    _, listener = connected("-p", "image_transport:=foxglove")
    kind = message_class("foxglove_msgs/msg/CompressedVideo")
    video = listener.node.create_publisher(kind, f"{IMAGE}/foxglove", RELIABLE)
    outputs = [f"/superpoint_detector/{name}" for name in ("features", "matched_homography")]
    assert listener.spin_until(
        lambda: video.get_subscription_count() and all(map(listener.node.count_publishers, outputs)), 60
    )
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 320, 240, "yuv420p", Fraction(1, 10)
    encoder.gop_size, encoder.options = 5, {"preset": "ultrafast", "tune": "zerolatency"}
    for number in range(12):
        picture = av.VideoFrame.from_ndarray(listener.flight.frame(number * 0.1), format="bgr24")
        picture.pts = number
        (packet,) = encoder.encode(picture.reformat(format="yuv420p"))
        message = kind(frame_id="camera_optical", format="h264")
        message.timestamp.sec = 1 + number
        message.data.frombytes(bytes(packet))
        video.publish(message)
        listener.spin_until(lambda number=number: len(listener.received["features"]) > number, 5)
    found = listener.received["features"]
    assert len(found) >= 6 and found[-1].header.stamp.sec == 12
    assert found[-1].header.frame_id == "camera_optical" and len(found[-1].scores) > 20
