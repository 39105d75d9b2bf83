"""The odometry node without its host: messages of the detector in, fields of messages out."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from superpoint_ros.node.camera import Camera, is_rectified
from superpoint_ros.node.detector import stamp_to_ns
from superpoint_ros.node.diagnostics import ERROR, OK, WARNING, Diagnostics
from superpoint_ros.node.joining import StampJoiner
from superpoint_ros.node.poses import pose_fields, transform_fields, twist_fields
from superpoint_ros.node.warnings import ThrottledWarnings, format_error
from superpoint_ros.odometry import interface
from superpoint_ros.odometry.messages import base_pose, camera_in_base, frame_from_messages
from superpoint_ros.odometry.odometry import Odometry
from superpoint_ros.odometry.values import Estimate, Settings, State

_SETTINGS = ("min_points", "max_error", "window", "lost_after", "start_depth")
_LEVELS = {State.TRACKING: OK, State.INITIALISING: WARNING, State.LOST: ERROR}


class Host(Protocol):
    """The program around the odometry, as the odometry sees it."""

    def subscriber_count(self, key: str) -> int:
        """Return the number of subscribers of an output topic."""

    def publish(self, key: str, fields: Mapping[str, Any]) -> None:
        """Publish a message of the topic's type."""

    def warn(self, text: str) -> None:
        """Log a warning."""


class OdometryNode:
    """Joins the messages of a moment, estimates its pose and publishes it. Thread-safe.

    Args:
        values: parameter values by name; missing ones take their defaults.
        host: where results are published.
        live: whether messages arrive as the clock goes, so that repeated warnings are throttled by it.

    Raises:
        ValueError: in one sentence, if a parameter is invalid.
    """

    def __init__(self, values: Mapping[str, Any], host: Host, live: bool = True) -> None:
        self.values: dict[str, Any] = {**interface.PARAMETERS.defaults(), **interface.PARAMETERS.checked(values)}
        self._host, self._lock = host, threading.Lock()
        self._warn = ThrottledWarnings(host.warn) if live else ThrottledWarnings(host.warn, clock=None)
        camera = "" if self.values["camera"] == "none" else str(self.values["camera"])
        self.inputs = interface.inputs(camera, self.values["stereo"])
        self._needed = {"features", "matched_homography"} | ({"stereo_matches"} if self.values["stereo"] else set())
        self._odometry = Odometry(Settings(**{name: self.values[name] for name in _SETTINGS}))
        self._camera_message: Any = None
        self._speeds: deque[tuple[int, float]] = deque(maxlen=2)
        self._travelled: float | None = None
        self._clear()

    def _clear(self) -> None:
        self._joiner = StampJoiner(self._needed)
        self._before: tuple[Estimate, Any] | None = None
        self._latest: Estimate | None = None
        self._problem = ""
        self._path: list[dict[str, Any]] = []
        self._times: deque[float] = deque(maxlen=100)

    def reset(self) -> None:
        """Start again at the origin."""
        with self._lock:
            self._odometry.reset()
            self._clear()

    def submit(self, key: str, message: Any) -> None:
        """Submit a message of the input topic `key`; a message that cannot be used costs one warning."""
        with self._lock:
            try:
                if key == "camera_info":
                    self._camera_message = message
                elif key == "speed":
                    self._add_speed(message)
                else:
                    self._add(key, message)
            except Exception as error:
                self._problem = format_error(error)
                self._warn(f"{key} skipped", self._problem, None if isinstance(error, ValueError) else error)

    def _add(self, key: str, message: Any) -> None:
        stamp = stamp_to_ns(message.header.stamp)
        if self._latest is not None and stamp <= self._latest.stamp:
            raise ValueError(
                f"stamp {stamp * 1e-9:.3f} s is not later than {self._latest.stamp * 1e-9:.3f} s, which was processed"
            )
        parts = self._joiner.add(key, stamp, message)
        if parts is not None:
            self._process(parts)

    def _add_speed(self, message: Any) -> None:
        linear = message.twist.linear
        self._speeds.append(
            (stamp_to_ns(message.header.stamp), float(np.hypot(np.hypot(linear.x, linear.y), linear.z)))
        )
        if len(self._speeds) == 2:
            (before, first), (now, second) = self._speeds
            if before < now:
                self._travelled = (self._travelled or 0.0) + (first + second) / 2 * (now - before) * 1e-9

    def _process(self, parts: Mapping[str, Any]) -> None:
        start = time.perf_counter()
        features = parts["features"]
        if self._camera_message is None:
            raise ValueError(
                f"there is no message on {self.inputs['camera_info'].name}, which the focal length is from"
            )
        rectified = features.camera_model_of_points == "pinhole"
        camera = Camera.from_message(self._camera_message, is_rectified(str(rectified).lower(), ""))
        if camera is None:
            raise ValueError("the camera_info is of a camera that is not calibrated (K is zero)")
        frame = frame_from_messages(
            features,
            parts["matched_homography"],
            parts.get("stereo_matches"),
            camera,
            self.values["noise"],
            self.values["disparity_offset"],
            self._travelled,
        )
        estimate = self._odometry.register(frame)
        self._latest, self._problem = estimate, estimate.reason
        if estimate.state is State.TRACKING:
            self._publish(estimate)
        elif self._before is not None or estimate.state is State.LOST:
            self._before = None
            self._warn(estimate.state.name.lower(), estimate.reason)
        self._times.append(time.perf_counter() - start)

    def _publish(self, estimate: Estimate) -> None:
        values = self.values
        names = ("camera_x", "camera_y", "camera_z", "camera_roll", "camera_pitch", "camera_yaw")
        pose, covariance = base_pose(estimate, camera_in_base(*(float(values[name]) for name in names)))
        header = {"stamp": estimate.stamp, "frame_id": values["odom_frame"]}
        twist = dict.fromkeys(("linear", "angular"), dict.fromkeys("xyz", 0.0))
        spread = np.zeros((6, 6))
        if self._before is not None:
            seconds = (estimate.stamp - self._before[0].stamp) * 1e-9
            twist = twist_fields(self._before[1], pose, seconds)
            spread = (estimate.local_covariance + self._before[0].local_covariance) / seconds**2
        self._before = estimate, pose
        fields = {
            "header": header,
            "child_frame_id": values["base_frame"],
            "pose": {"pose": pose_fields(pose), "covariance": covariance.reshape(-1)},
            "twist": {"twist": twist, "covariance": spread.reshape(-1)},
        }
        self._host.publish("odometry", fields)
        if values["publish_tf"]:
            self._host.publish("tf", {"transforms": [transform_fields(header, str(values["base_frame"]), pose)]})
        if estimate.keyframe:
            self._path.append({"header": header, "pose": pose_fields(pose)})
            if self._host.subscriber_count("path"):
                self._host.publish("path", {"header": header, "poses": self._path})

    def diagnostics(self) -> list[Diagnostics]:
        """Report the state."""
        with self._lock:
            latest = self._latest
            if latest is None:
                waiting = f"no pose yet: {self._problem or 'no message on ' + self.inputs['features'].name}"
                return [Diagnostics("odometry", WARNING, waiting, "", {})]
            state, unit = latest.state.name.lower(), "metres" if latest.metric else "unknown"
            text = f"{state}: {self._problem}" if self._problem else state
            level = max(_LEVELS[latest.state], WARNING if self._problem else OK)
            values = {"state": state, "scale": unit, "points": str(latest.points), "keyframes": str(len(self._path))}
            if self._times:
                values["time of a frame, median (ms)"] = f"{float(np.median(self._times)) * 1e3:.1f}"
            return [Diagnostics("odometry", level, text, "", values)]
