"""The odometry node without its host: messages of the detector in, fields of messages out."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from superpoint_ros.node.camera import Camera
from superpoint_ros.node.detector import stamp_to_ns
from superpoint_ros.node.diagnostics import ERROR, OK, WARNING, Diagnostics
from superpoint_ros.node.joining import StampJoiner
from superpoint_ros.node.poses import pose_fields, transform_fields, twist_fields
from superpoint_ros.node.qos import explain_mismatch
from superpoint_ros.node.warnings import ThrottledWarnings, format_error, unexpected
from superpoint_ros.odometry import interface
from superpoint_ros.odometry.messages import are_rectified, base_pose, camera_in_base, frame_from_messages
from superpoint_ros.odometry.odometry import Odometry
from superpoint_ros.odometry.path import KeyframePath
from superpoint_ros.odometry.values import Estimate, Settings, State

_TIME_JUMP = 1_000_000_000
"""Nanoseconds by which a stamp that goes back is of a clock that was set, and not of a late message."""
_SILENCE = 5.0
"""Time without features that /diagnostics reports as an error, in seconds."""
_SKIPPED = "skipped"
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

    def input_name(self, key: str) -> str:
        """Return the full name of an input topic."""


class OdometryNode:
    """Joins the messages of a moment, estimates its pose and publishes it. Thread-safe.

    Args:
        values: parameter values by name; missing ones take their defaults.
        host: where results are published.
        live: whether messages arrive as the clock goes, so that repeated warnings are throttled by it.
        clock: monotonic clock in seconds.

    Attributes:
        counts: number of frames by the name of their state, and of messages that were skipped.

    Raises:
        ValueError: in one sentence, if a parameter is invalid.
    """

    def __init__(
        self, values: Mapping[str, Any], host: Host, live: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.values: dict[str, Any] = {**interface.PARAMETERS.defaults(), **interface.PARAMETERS.checked(values)}
        self._host, self._lock = host, threading.Lock()
        self._warn = ThrottledWarnings(host.warn, clock=clock if live else None)
        camera = "" if self.values["camera"] == "none" else str(self.values["camera"])
        self.inputs = interface.inputs(camera, self.values["stereo"])
        self._needed = {"features", "matched_homography"} | ({"stereo_matches"} if self.values["stereo"] else set())
        self._odometry = Odometry(_settings(self.values))
        self._clock, self._heard = clock, clock()
        self._mismatches: dict[str, str] = {}
        self.counts: Counter[str] = Counter()
        self._camera_message: Any = None
        self._rectified = True
        self._speeds: deque[tuple[int, float]] = deque(maxlen=2)
        self._travelled: float | None = None
        self._clear()

    def _clear(self) -> None:
        self._joiner = StampJoiner(self._needed)
        self._before: tuple[Estimate, Any] | None = None
        self._latest: Estimate | None = None
        self._problem = ""
        self._path = KeyframePath()
        self._times: deque[float] = deque(maxlen=100)

    @property
    def latest(self) -> Estimate | None:
        """Return the estimate of the last frame; None before the first."""
        return self._latest

    @property
    def problem(self) -> str:
        """Return why there is no pose, or what was skipped last; one sentence or empty."""
        return self._problem

    @property
    def path(self) -> dict[str, Any]:
        """Return the fields of a nav_msgs/Path with poses of the keyframes so far, see `KeyframePath`."""
        poses = self._path.poses
        header = poses[-1]["header"] if poses else {"stamp": 0, "frame_id": self.values["odom_frame"]}
        return {"header": header, "poses": poses}

    @property
    def keyframes(self) -> int:
        """Return the number of keyframes so far."""
        return self._path.count

    def set_parameters(self, changes: Mapping[str, Any]) -> None:
        """Change parameters, all or none of them.

        Raises:
            ParameterError: in one sentence; nothing is changed.
        """
        with self._lock:
            self.values = interface.PARAMETERS.changed(self.values, changes)
            self._odometry.configure(_settings(self.values))

    def reset(self) -> None:
        """Start again at the origin."""
        with self._lock:
            self._odometry.reset()
            self._clear()

    def submit(self, key: str, message: Any) -> None:
        """Submit a message of the input topic `key`; a message that cannot be used costs one warning."""
        with self._lock:
            if key == "features":
                self._heard = self._clock()
            try:
                if key == "camera_info":
                    self._camera_message = message
                elif key == "speed":
                    self._add_speed(message)
                else:
                    self._add(key, message)
            except Exception as error:
                self._skip(f"{key} skipped", error)

    def report_unreadable(self, topic: str, error: Exception) -> None:
        """Count and warn about an input message that the host failed to read."""
        with self._lock:
            self._skip(f"{topic}: message skipped", error)

    def report_incompatible_qos(self, key: str, topic: str, policy: str) -> None:
        """Warn that another node's endpoint does not match this node's; see `node.qos.explain_mismatch`.

        Args:
            key: key of the topic in the table.
            topic: full name of the topic.
            policy: name of the policy.
        """
        reason = explain_mismatch(topic, "subscription" if key in self.inputs else "publisher", policy)
        with self._lock:
            self._mismatches[f"quality of service of {topic}"] = reason
            self._warn(f"{topic}: a node's quality of service does not match", reason)

    def _skip(self, what: str, error: Exception) -> None:
        self.counts[_SKIPPED] += 1
        self._problem = format_error(error)
        self._warn(what, self._problem, unexpected(error))

    def _add(self, key: str, message: Any) -> None:
        stamp = stamp_to_ns(message.header.stamp)
        if self._latest is not None and stamp < self._latest.stamp - _TIME_JUMP:
            # As the stamps of a recording that is played again, or after the clock was set.
            back = (self._latest.stamp - stamp) * 1e-9
            self._warn("time jump", f"stamps went back by {back:.3f} s, so another map is started where the camera was")
            self._odometry.restart()
            self._joiner, self._before, self._latest = StampJoiner(self._needed), None, None
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
                f"there is no message on {self._host.input_name('camera_info')}, which the focal length is from"
            )
        # That of an image which is rectified already may lack K.
        camera = Camera.from_message(self._camera_message) or Camera.from_message(self._camera_message, rectified=True)
        if camera is None:
            raise ValueError("the camera_info is of a camera that is not calibrated (K is zero)")
        stereo = parts.get("stereo_matches")
        self._rectified = are_rectified(features, stereo, camera, self._rectified)
        frame = frame_from_messages(
            features,
            parts["matched_homography"],
            stereo,
            camera,
            self.values["noise"],
            self.values["disparity_offset"],
            self._travelled,
            self._rectified,
        )
        estimate = self._odometry.register(frame)
        self._latest, self._problem = estimate, estimate.reason
        self.counts[estimate.state.name.lower()] += 1
        if estimate.state is State.TRACKING:
            self._publish(estimate)
        elif self._before is not None or estimate.state is State.LOST:
            self._before = None
            self._warn(estimate.state.name.lower(), estimate.reason)
        if self._path.is_due(self._host.subscriber_count("path"), estimate.state, self._clock()):
            self._host.publish("path", self.path)
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
            self._path.add({"header": header, "pose": pose_fields(pose)})

    def diagnostics(self) -> list[Diagnostics]:
        """Report the state."""
        with self._lock:
            latest, silent = self._latest, self._clock() - self._heard
            features, values = self._host.input_name("features"), {**self._mismatches}
            if latest is None:
                waiting = f"no pose yet: {self._problem or 'no message on ' + features}"
                return [Diagnostics("odometry", WARNING, waiting, "", values)]
            state, unit = latest.state.name.lower(), "metres" if latest.metric else "unknown"
            text = f"{state}: {self._problem}" if self._problem else state
            level = max(_LEVELS[latest.state], WARNING if self._problem else OK)
            if silent > _SILENCE:
                level, text = ERROR, f"no message on {features} for {silent:.0f} s; before that {text}"
            values |= {"state": state, "scale": unit, "points": str(latest.points), "keyframes": str(self.keyframes)}
            values |= {f"{name}, total": str(count) for name, count in sorted(self.counts.items())}
            if self._times:
                values["time of a frame, median (ms)"] = f"{float(np.median(self._times)) * 1e3:.1f}"
            return [Diagnostics("odometry", level, text, "", values)]


def _settings(values: Mapping[str, Any]) -> Settings:
    return Settings(**{name: values[name] for name in _SETTINGS})
