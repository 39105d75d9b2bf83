"""Host 1, host 2 and the ROS 2 command line in one graph."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import cv2
import pytest

pytest.importorskip("rclpy", reason="needs a ROS 2 install in the environment (make test-ros)")

import rclpy
from camera import Listener
from sensor_msgs.msg import CompressedImage

pytestmark = pytest.mark.ros
IMAGE = "/camera/image"


def ros2(*words: str, attempts: int = 5, wanted: str = "") -> str:
    """Repeat a ros2 command until `wanted` is in its output, as discovery takes time."""
    for _ in range(attempts):
        done = subprocess.run(["ros2", *words], capture_output=True, text=True, timeout=60)
        if wanted in done.stdout:
            return done.stdout
        time.sleep(1)
    raise AssertionError(f"ros2 {' '.join(words)} does not show {wanted!r}: {done.stdout} {done.stderr}")


def standalone(start, *words):
    return start(
        sys.executable, "-m", "superpoint_ros", "detector", "-r", f"image:={IMAGE}", "-p", "max_gap:=600.0", *words
    )


def test_the_standalone_detector_serves_ros_subscribers(context, start):
    standalone(start)
    listener = Listener(context, IMAGE, "/superpoint_detector")
    try:
        listener.connect()
        listener.exchange_until(lambda: all(listener.received.values()))
        features, homography = listener.exchange()
        assert len(features.scores) > 50
        assert homography.status == homography.OK
    finally:
        listener.close()


def test_the_standalone_detector_looks_like_a_node_to_the_command_line(start):
    standalone(start, "-r", "__ns:=/front")
    ros2("node", "list", "--no-daemon", "--spin-time", "3", wanted="/front/superpoint_detector")
    ros2("topic", "list", "-t", "--no-daemon", "--spin-time", "3",
         wanted="/front/superpoint_detector/features [superpoint_ros/msg/Features]")  # fmt: skip
    info = ros2("topic", "info", "-v", "--no-daemon", "--spin-time", "3", "/front/superpoint_detector/features",
                wanted="Publisher count: 1")  # fmt: skip
    assert "Node name: superpoint_detector" in info
    assert "Reliability: RELIABLE" in info
    assert "RIHS01_" in info


def test_the_ros_node_serves_standalone_subscribers(context, start):
    from superpoint_ros.hosts.dds.node import Node
    from superpoint_ros.node import interface

    start("ros2", "run", "superpoint_ros", "detector", "--ros-args", "-r", f"image:={IMAGE}")
    listener = Listener(context, IMAGE, "/superpoint_detector")
    received = []
    topic = interface.topic("features")
    try:
        with Node("reader") as reader:
            reader.create_subscription("/superpoint_detector/features", topic.type, topic.qos, received.append)
            listener.connect()
            listener.exchange_until(lambda: len(received) >= 3)
            message = received[-1]
            features = listener.features_of(message.header.stamp)
            assert message.scores.tolist() == list(features.scores)
            assert bytes(message.descriptors) == bytes(features.descriptors)
    finally:
        listener.close()


def test_an_unknown_key_in_the_parameters_file_stops_the_node_with_one_sentence(start, tmp_path):
    file = tmp_path / "parameters.yaml"
    file.write_text("/superpoint_detector:\n  ros__parameters:\n    max_keypoint: 500\n")
    node = start("ros2", "run", "superpoint_ros", "detector", "--ros-args", "--params-file", str(file))
    _, errors = node.communicate(timeout=60)
    assert node.returncode == 1
    assert "parameter 'max_keypoint' is unknown" in errors
    assert "Traceback" not in errors


def test_parameters_of_other_nodes_under_a_wildcard_are_one_warning(context, start, tmp_path):
    file = tmp_path / "parameters.yaml"
    file.write_text("/**:\n  ros__parameters:\n    max_keypoint: 500\n    robot_description: none\n")
    words = ("--ros-args", "--params-file", str(file), "-p", "of_a_launch_file:=1", "-r", f"image:={IMAGE}")
    node = start("ros2", "run", "superpoint_ros", "detector", *words)
    listener = Listener(context, IMAGE, "/superpoint_detector")
    try:
        listener.connect()
        listener.exchange()
    finally:
        listener.close()
    os.killpg(node.pid, signal.SIGINT)
    _, errors = node.communicate(timeout=30)
    assert errors.count("are ignored") == 1
    assert "did you mean 'max_keypoints'" in errors and "of_a_launch_file" in errors


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("-p", "weights:=/nowhere.pth"), "weights '/nowhere.pth'"),
        (("-p", "max_keypoints:=0"), "Parameter max_keypoints out of range. Min: 1, Max: 20000, value: 0"),
        (("--params-file", "/nowhere.yaml"), "Couldn't parse params file: '--params-file /nowhere.yaml'"),
        (("-p", "qos_overrides./image.subscription.reliability:=maybe"), "override for policy `reliability`: `maybe`"),
    ],
)
def test_invalid_arguments_stop_the_node_with_one_sentence(start, words, sentence):
    node = start("ros2", "run", "superpoint_ros", "detector", "--ros-args", *words)
    _, errors = node.communicate(timeout=60)
    assert node.returncode == 1
    said = [line for line in errors.splitlines() if line.startswith("superpoint_detector: ")]
    assert len(said) == 1 and sentence in said[0]
    assert "Traceback" not in errors


def test_the_node_exits_cleanly_on_ctrl_c_while_it_is_busy(context, start):
    words = ("ros2", "run", "superpoint_ros", "detector", "--ros-args", "-r", f"image:={IMAGE}", "-p", "resize:=640")
    node = start(*words)
    listener = Listener(context, IMAGE, "/superpoint_detector")
    try:
        listener.connect()
        listener.exchange()
        for _ in range(5):
            listener.send()
            listener.spin_until(lambda: False, 0.1)
        os.killpg(node.pid, signal.SIGINT)
        _, errors = node.communicate(timeout=30)
    finally:
        listener.close()
    assert "Traceback" not in errors
    assert node.returncode in (0, -signal.SIGINT, 130)


def test_a_timer_that_fires_while_the_context_ends_raises_nothing():
    from superpoint_ros.hosts.ros2.detector import SuperPointDetector

    context = rclpy.Context()
    rclpy.init(context=context)
    node = SuperPointDetector(context=context)
    rclpy.shutdown(context=context)
    timers = list(node.timers)
    assert timers
    for timer in timers:
        timer.callback()
    node.destroy_node()


def test_compressed_images_come_from_the_topic_that_image_transport_names(context, start):
    words = ("-r", f"image:={IMAGE}", "-p", "image_transport:=compressed", "-p", "max_gap:=600.0")
    start("ros2", "run", "superpoint_ros", "detector", "--ros-args", *words)
    listener = Listener(context, IMAGE, "/superpoint_detector")
    images = listener.node.create_publisher(CompressedImage, f"{IMAGE}/compressed", 10)
    features = listener.received["features"]
    try:
        assert listener.spin_until(images.get_subscription_count, 60)

        def answered():
            message = CompressedImage(format="bgr8; jpeg compressed bgr8")
            message.data.frombytes(cv2.imencode(".jpg", listener.flight.frame(listener.time))[1].tobytes())
            message.header.stamp = listener.node.get_clock().now().to_msg()
            listener.time += 0.1
            images.publish(message)
            return listener.spin_until(lambda: len(features) >= 2, 3)

        assert listener.spin_until(answered, 60)
        assert listener.images.get_subscription_count() == 0
    finally:
        listener.close()
    assert (features[-1].image_height, features[-1].image_width) == (240, 320)
    assert len(features[-1].scores) > 50
