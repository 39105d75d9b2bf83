"""Faults around a camera on the real node: frames continue, with one warning, and diagnostics report the reason."""

from __future__ import annotations

import os
import signal

import pytest

pytest.importorskip("rclpy", reason="needs a ROS 2 install in the environment (make test-ros)")

import numpy as np
from camera import BEST_EFFORT, Listener
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, Image
from sensor_msgs_py import point_cloud2
from superpoint_ros.msg import Features

pytestmark = pytest.mark.ros
IMAGE = "/camera/image"
NODE = "/superpoint_detector"


@pytest.fixture
def listener(context):
    listener = Listener(context, IMAGE, NODE)
    yield listener
    listener.close()


@pytest.fixture
def detector(start):
    """Start the node with these parameters."""

    def detector(**parameters):
        words = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
        remap = ("-r", f"image:={IMAGE}", "-r", "camera_info:=/camera/camera_info")
        return start("ros2", "run", "superpoint_ros", "detector", "--ros-args", *remap, "-p", "max_gap:=600.0", *words)

    return detector


def log_of(node):
    """Stop the node and return its log."""
    os.killpg(node.pid, signal.SIGINT)
    _, errors = node.communicate(timeout=30)
    assert "Traceback" not in errors
    return errors


def diagnostics(listener):
    """Return the newest diagnostics: the message and its values."""
    statuses = [status for message in listener.received["diagnostics"] for status in message.status]
    return (statuses[-1].message, {v.key: v.value for v in statuses[-1].values}) if statuses else ("", {})


def test_an_unusable_calibration_costs_no_frame_and_a_later_good_one_is_used(listener, detector):
    node = detector(rectified="true")
    listener.connect()
    assert listener.spin_until(listener.info.get_subscription_count, 20)
    broken = CameraInfo(height=240, width=320, distortion_model="unheard_of", d=[0.1] * 6)
    broken.k[0] = broken.k[4] = 200.0
    good = CameraInfo(height=240, width=320, distortion_model="plumb_bob", d=[0.1, 0.0, 0.0, 0.0, 0.0])
    good.k = [150.0, 0.0, 150.0, 0.0, 150.0, 110.0, 0.0, 0.0, 1.0]
    good.p = [200.0, 0.0, 159.5, 0.0, 0.0, 200.0, 119.5, 0.0, 0.0, 0.0, 1.0, 0.0]

    def cloud(info):
        """Return the points of a cloud after this calibration arrived, with the features of the same image."""
        listener.info.publish(info)
        listener.received["keypoints_cloud"].clear()
        listener.exchange_until(lambda: listener.received["keypoints_cloud"])
        newest = listener.received["keypoints_cloud"][-1]
        points = point_cloud2.read_points_numpy(newest, ("x", "y", "z", "score"))
        return points, np.array(listener.features_of(newest.header.stamp).keypoints).reshape(-1, 2)

    assert listener.spin_until(lambda: cloud(broken) and "calibration ignored" in diagnostics(listener)[0], 60)
    assert "distortion model 'unheard_of' is unknown" in diagnostics(listener)[0]
    points, keypoints = cloud(broken)
    assert len(points) > 50
    np.testing.assert_array_equal(points[:, :3], np.column_stack((keypoints, np.zeros(len(keypoints)))))
    assert listener.spin_until(lambda: int(diagnostics(listener)[1]["processed"]) > 0, 10)
    assert diagnostics(listener)[1]["failed"] == "0"

    assert listener.spin_until(lambda: (cloud(good)[0][:, 2] == 1).all(), 60)
    points, keypoints = cloud(good)
    np.testing.assert_allclose(points[:, :2] * 200 + [159.5, 119.5], keypoints, atol=1e-2)
    assert listener.spin_until(lambda: "calibration" not in diagnostics(listener)[0], 10)
    assert f"{IMAGE}: calibration ignored: distortion model 'unheard_of' is unknown" in log_of(node)


def test_an_image_publisher_with_incompatible_qos_is_warned_about_once_and_in_the_diagnostics(listener, detector):
    reliably = f"qos_overrides.{IMAGE}.subscription.reliability"
    listener.node.destroy_publisher(listener.images)
    node = detector(**{reliably: "reliable"})
    assert listener.spin_until(lambda: listener.node.count_subscribers(IMAGE), 60)
    listener.images = listener.node.create_publisher(Image, IMAGE, BEST_EFFORT)
    reason = "a publisher offers best effort and this node requests reliable"

    def warned():
        listener.send()
        return reason in diagnostics(listener)[0]

    assert listener.spin_until(warned, 30)
    message, values = diagnostics(listener)
    assert message.startswith(f"no image on {IMAGE} yet")
    assert values["image publisher"].startswith(reason) and reliably in values["image publisher"]
    assert values["received"] == "0"
    assert log_of(node).count(reason) == 1


def test_a_subscriber_with_incompatible_qos_is_warned_about_once_and_does_not_affect_others(listener, detector):
    node = detector()
    listener.connect()
    latched = QoSProfile(
        depth=1, reliability=QoSReliabilityPolicy.RELIABLE, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL
    )
    received = []
    listener.node.create_subscription(Features, f"{NODE}/features", received.append, latched)
    note = f"quality of service of {NODE}/features"
    assert listener.spin_until(lambda: note in diagnostics(listener)[1], 30)
    features, _ = listener.exchange()
    assert len(features.scores) > 50 and not received
    # An incompatible subscriber is not a fault of the camera.
    assert listener.spin_until(lambda: "frames per second" in diagnostics(listener)[0], 10)
    reason = "a subscriber requests earlier messages (transient local)"
    assert diagnostics(listener)[1][note].startswith(reason)
    assert log_of(node).count(reason) == 1


def test_a_frame_id_that_is_not_text_costs_no_frame(listener, detector):
    node = detector()
    listener.connect()
    listener.exchange()
    image, stamps = listener.send(), []

    def answered():
        image.header.stamp = listener.node.get_clock().now().to_msg()
        stamps.append(image.header.stamp)
        listener.images.publish(serialize_message(image).replace(b"camera_optical", b"camera_\xe9\xff_ical"))
        return listener.spin_until(lambda: next(filter(None, map(listener._answer, stamps)), None), 5)

    features, homography = listener.spin_until(answered, 30)
    assert features.header.frame_id == homography.header.frame_id == "camera_\ufffd\ufffd_ical"
    assert len(features.scores) > 50
    log_of(node)


def test_an_image_with_too_many_pixels_is_skipped_because_of_its_size(listener, detector):
    node = detector(max_pixels=250_000)
    listener.connect()
    large = np.zeros((512, 512), np.uint8)

    def warned():
        listener.send(large)
        return listener.spin_until(lambda: "512x512" in diagnostics(listener)[0], 2)

    assert listener.spin_until(warned, 30)
    features, _ = listener.exchange()
    assert len(features.scores) > 50
    assert f"{IMAGE}: frame skipped" in log_of(node)
