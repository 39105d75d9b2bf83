"""A camera and a listener for the tests of the real node."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from superpoint_ros.msg import Features, MatchedHomography

from superpoint_ros.simulation.flight import Flight

RELIABLE = QoSProfile(depth=50, reliability=QoSReliabilityPolicy.RELIABLE)
BEST_EFFORT = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)


def texture(seed: int = 0) -> np.ndarray:
    """Create a (512, 512, 3) image of random rectangles, with corners everywhere."""
    import cv2

    rng = np.random.default_rng(seed)
    picture = np.full((512, 512, 3), 128, np.uint8)
    for _ in range(400):
        x, y = rng.integers(0, 512, 2).tolist()
        w, h = rng.integers(8, 60, 2).tolist()
        colour = rng.integers(0, 255, 3).tolist()
        cv2.rectangle(picture, (x, y), (x + w, y + h), colour, -1)
    return picture


class Listener:
    """A node that publishes images to the detector and collects its results."""

    def __init__(self, context: Any, image: str, detector: str) -> None:
        self.node = Node("listener", context=context)
        self.received: dict[str, list[Any]] = {}
        self.images = self.node.create_publisher(Image, image, RELIABLE)
        self.info = self.node.create_publisher(CameraInfo, image.rpartition("/")[0] + "/camera_info", RELIABLE)
        for name, kind, qos in (
            ("features", Features, RELIABLE),
            ("matched_homography", MatchedHomography, RELIABLE),
            ("image_annotated", Image, BEST_EFFORT),
            ("keypoints_cloud", PointCloud2, BEST_EFFORT),
        ):
            self._listen(kind, f"{detector}/{name}", name, qos)
        self._listen(DiagnosticArray, "/diagnostics", "diagnostics", RELIABLE)
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)
        self.calibration: CameraInfo | None = None
        self.flight = Flight(texture(), size=(240, 320))
        self.time = 0.0

    def _listen(self, kind: Any, topic: str, name: str, qos: QoSProfile) -> None:
        self.received[name] = []
        self.node.create_subscription(kind, topic, self.received[name].append, qos)

    def spin_until(self, done: Callable[[], Any], timeout: float = 30.0) -> Any:
        """Spin until `done()` is true; return its last value."""
        deadline = time.monotonic() + timeout
        while not (value := done()) and time.monotonic() < deadline:
            self.executor.spin_once(timeout_sec=0.05)
        return value

    def send(self, image: np.ndarray | None = None, **fields: Any) -> Image:
        """Publish the flight's next image, or `image`, and the calibration; `fields` replace the message's."""
        if image is None:
            self.time += 0.1
            image = self.flight.frame(self.time)
        message = Image(height=image.shape[0], width=image.shape[1], encoding="bgr8" if image.ndim == 3 else "mono8")
        message.step = image.strides[0]
        message.data.frombytes(image.tobytes())
        message.header.stamp = self.node.get_clock().now().to_msg()
        message.header.frame_id = "camera_optical"
        for name, value in fields.items():
            setattr(message, name, value)
        if self.calibration is not None:
            self.info.publish(self.calibration)
        self.images.publish(message)
        return message

    def exchange(self, timeout: float = 30.0, **fields: Any) -> tuple[Any, Any]:
        """Publish an image and wait for its features and homography.

        The detector's subscription is best effort, so an image without results in a few seconds is sent again; the
        results may be those of the previous one.
        """
        deadline = time.monotonic() + timeout
        stamps: list[Any] = []
        while time.monotonic() < deadline:
            stamps.append(self.send(**fields).header.stamp)
            if found := self.spin_until(lambda: next(filter(None, map(self._answer, stamps)), None), 5.0):
                return found
        raise AssertionError("no answer to an image")

    def exchange_until(self, done: Callable[[], Any], timeout: float = 40.0) -> tuple[Any, Any]:
        """Publish images until `done()`; return the last results.

        Discovery takes time, especially between two DDS implementations, and earlier messages are lost.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            answer = self.exchange()
            if self.spin_until(done, 0.5):
                return answer
        raise AssertionError(f"not everything arrived: { ({k: len(v) for k, v in self.received.items()}) }")

    def features_of(self, stamp: Any) -> Any:
        """Wait for the features of the image with this stamp."""
        when = (stamp.sec, stamp.nanosec)

        def find() -> Any:
            stamps = {(m.header.stamp.sec, m.header.stamp.nanosec): m for m in self.received["features"]}
            return stamps.get(when)

        return self.spin_until(find, 10)

    def _answer(self, stamp: Any) -> tuple[Any, Any] | None:
        found = [
            next((m for m in self.received[name] if m.header.stamp == stamp), None)
            for name in ("features", "matched_homography")
        ]
        return (found[0], found[1]) if None not in found else None

    def connect(self, timeout: float = 60.0) -> None:
        """Wait until the detector subscribes and all its outputs are discovered."""
        names = ("features", "matched_homography", "image_annotated", "keypoints_cloud")
        topics = [self.node.resolve_topic_name(s.topic_name) for s in self.node.subscriptions]
        outputs = [topic for topic in topics if topic.rpartition("/")[2] in names]

        def ready() -> bool:
            return self.images.get_subscription_count() > 0 and all(map(self.node.count_publishers, outputs))

        assert self.spin_until(ready, timeout), "the detector was not found"

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
