"""The demo's camera process: publishes images, and their ground truth if it is known."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterable

import numpy as np

from superpoint_ros.demo.sources import SourceFrame
from superpoint_ros.hosts.dds.node import Node
from superpoint_ros.hosts.wire import messages
from superpoint_ros.node.interface import Qos

IMAGE_TOPIC, TRUTH_TOPIC = "camera/image", "camera/true_homography"
INFO_TOPIC, RIGHT_TOPIC, RIGHT_INFO_TOPIC = "camera/camera_info", "camera/right/image", "camera/right/camera_info"
POSE_TOPIC, POSE_TYPE, WORLD = "ground_truth", "geometry_msgs/msg/PoseStamped", "map"
TRUTH_TYPE = "superpoint_ros/msg/MatchedHomography"
# The ground truth must not be lost, while a late image is worthless.
IMAGE_QOS, TRUTH_QOS = Qos(reliable=True, depth=4), Qos(reliable=True, depth=1000)


def publish(frames: Iterable[SourceFrame], frame_id: str = "camera", wait: float = 30.0) -> int:
    """Wait for subscribers, publish images in real time, and return their number.

    The ground truth precedes its image, with the image's stamp: a MatchedHomography from a fixed plane to it, or the
    camera's pose in the world. For a calibrated camera, CameraInfo messages have the same stamp, and a
    right image accompanies the left one.
    """
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    count = 0
    with Node("camera") as node:
        image_out = node.create_publisher(IMAGE_TOPIC, "sensor_msgs/msg/Image", IMAGE_QOS)
        truth_out = node.create_publisher(TRUTH_TOPIC, TRUTH_TYPE, TRUTH_QOS)
        pose_out = node.create_publisher(POSE_TOPIC, POSE_TYPE, TRUTH_QOS)
        info_out, right_info_out = (
            node.create_publisher(topic, "sensor_msgs/msg/CameraInfo", IMAGE_QOS)
            for topic in (INFO_TOPIC, RIGHT_INFO_TOPIC)
        )
        right_out = node.create_publisher(RIGHT_TOPIC, "sensor_msgs/msg/Image", IMAGE_QOS)
        _await_subscribers((image_out, truth_out, pose_out), stopped, wait)
        start = time.time_ns()
        for frame in frames:
            due = start + round(frame.time * 1e9)
            if stopped.wait(max(0.0, (due - time.time_ns()) * 1e-9)):
                break
            stamp = time.time_ns()
            header = messages.header_message(stamp, frame_id)
            if frame.truth is not None:
                truth_out.publish(messages.create_message(TRUTH_TYPE, header, _truth_fields(frame.truth)))
            if frame.pose is not None:
                pose_out.publish(messages.pose_message(stamp, WORLD, frame.pose))
            if frame.intrinsics is not None:
                size = frame.image.shape[:2]
                info_out.publish(messages.camera_info_message(header, size, frame.intrinsics))
                if frame.right is not None:
                    right = messages.camera_info_message(header, size, frame.intrinsics, frame.baseline)
                    right_info_out.publish(right)
                    right_out.publish(messages.image_message(stamp, frame_id, frame.right))
            image_out.publish(messages.image_message(stamp, frame_id, frame.image))
            count += 1
        stopped.wait(1.0)  # let reliable transfers complete before the writers are deleted
    return count


def _await_subscribers(publishers: tuple[object, ...], stopped: threading.Event, wait: float) -> None:
    deadline = time.monotonic() + wait
    while not all(publisher.subscription_count for publisher in publishers):  # type: ignore[attr-defined]
        if stopped.wait(0.05) or time.monotonic() > deadline:
            return
    stopped.wait(0.5)


def _truth_fields(matrix: np.ndarray) -> dict[str, object]:
    none32, nonef = np.zeros(0, np.uint32), np.zeros(0, np.float32)
    return {
        "reference_stamp": 0,
        "status": 0,
        "reference_indices": none32,
        "current_indices": none32,
        "reference_points": nonef,
        "current_points": nonef,
        "similarity": nonef,
        "refined": np.zeros(0, bool),
        "match_covariance": nonef,
        "inliers": np.zeros(0, bool),
        "inlier_count": 0,
        "homography": matrix.reshape(-1),
        "rmse": 0.0,
        "covariance": np.zeros(64),
        "scene": 1,
        "fundamental": np.zeros(9),
        "epipolar_inliers": np.zeros(0, bool),
        "epipolar_inlier_count": 0,
    }
