"""The demo's monitor process: subscribes to the detector's outputs and measures them."""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from superpoint_ros.demo.camera import POSE_TOPIC, POSE_TYPE, TRUTH_QOS, TRUTH_TOPIC, TRUTH_TYPE
from superpoint_ros.demo.recorder import Recorder
from superpoint_ros.demo.trajectory import Trajectory
from superpoint_ros.evaluation.metrics import corner_error
from superpoint_ros.features import Status
from superpoint_ros.hosts.dds.node import Node
from superpoint_ros.node import interface
from superpoint_ros.node.detector import stamp_to_ns
from superpoint_ros.node.poses import matrix_from_pose
from superpoint_ros.odometry import interface as odometry
from superpoint_ros.odometry.messages import camera_in_base
from superpoint_ros.simulation.room import Room
from superpoint_ros.two_view.geometry import Matrix

_EDGE = 3.0
"""Pixels around edges of the depth where matches are not judged: features there belong to two surfaces."""
_RIGHT = 3.0
"""Pixels up to which a match is right."""
DETECTOR, ODOMETRY = f"/{interface.NODE_NAME}", f"/{odometry.NODE_NAME}"
_BASE = np.linalg.inv(camera_in_base(0, 0, 0, 0, 0, 0))
"""Pose of the odometry's base frame in the camera's, by default at the same place."""


@dataclass
class Record:
    """The outputs received for one frame; None where nothing has arrived yet."""

    keypoints: int | None = None
    latency: float | None = None
    matches: int | None = None
    inliers: int | None = None
    status: int | None = None
    size: tuple[int, int] | None = None
    reference: int | None = None
    estimated: Matrix | None = field(default=None, repr=False)
    matched: tuple[int, Matrix, Matrix] | None = field(default=None, repr=False)


class Monitor:
    """Collects the outputs of a detector and an odometry, by stamp.

    Args:
        recorder: receives every annotated image.
        room: the world whose camera's poses arrive, where matches are to be held against it.
        camera: name of the camera of the detector that is watched; empty for a single one.

    Attributes:
        trajectory: the true poses and those of the odometry.
        odometry: summary of the odometry's latest diagnostics, empty before the first.
    """

    def __init__(self, recorder: Recorder, room: Room | None = None, camera: str = "") -> None:
        self._room, self._camera = room, camera
        self.trajectory, self.odometry = Trajectory(), ""
        self._poses: dict[int, Matrix] = {}
        self._match_errors: dict[int, Matrix] = {}
        self._lock = threading.Lock()
        self._records: dict[int, Record] = {}
        self._truth: dict[int, Matrix] = {}
        self._arrivals: deque[float] = deque(maxlen=50)
        self._first_arrival = self._last_arrival = 0.0
        self._recorder = recorder
        self.annotated = 0
        self.counters: dict[str, str] = {}
        self._node = Node("monitor")
        for key, callback in (
            ("features", self._on_features),
            ("matched_homography", self._on_homography),
            ("image_annotated", self._on_image),
            ("diagnostics", self._on_diagnostics),
        ):
            topic = interface.topic(key).for_camera(camera)
            name = topic.name.replace("~", DETECTOR)
            self._node.create_subscription(name, topic.type, topic.qos, callback)
        poses = odometry.topic("odometry")
        self._node.create_subscription(poses.name.replace("~", ODOMETRY), poses.type, poses.qos, self._on_odometry)
        self._node.create_subscription(TRUTH_TOPIC, TRUTH_TYPE, TRUTH_QOS, self._on_truth)
        self._node.create_subscription(POSE_TOPIC, POSE_TYPE, TRUTH_QOS, self._on_pose)

    def close(self) -> None:
        """Close the node."""
        self._node.close()

    def _on_features(self, message: Any) -> None:
        now, stamp = time.time_ns(), stamp_to_ns(message.header.stamp)
        with self._lock:
            record = self._records.setdefault(stamp, Record())
            record.keypoints = len(message.scores)
            record.latency = (now - stamp) * 1e-9
            record.size = (message.image_height, message.image_width)
            self._first_arrival = self._first_arrival or now * 1e-9
            self._last_arrival = now * 1e-9
            self._arrivals.append(now * 1e-9)

    def _on_homography(self, message: Any) -> None:
        with self._lock:
            record = self._records.setdefault(stamp_to_ns(message.header.stamp), Record())
            record.matches, record.inliers = len(message.similarity), int(message.inlier_count)
            record.status = int(message.status)
            if self._room is not None and record.matches:
                before, after = _pixels(message.reference_points), _pixels(message.current_points)
                record.matched = stamp_to_ns(message.reference_stamp), before, after
            if message.status == Status.OK:
                record.reference = stamp_to_ns(message.reference_stamp)
                record.estimated = np.array(message.homography).reshape(3, 3)

    def _on_truth(self, message: Any) -> None:
        with self._lock:
            self._truth[stamp_to_ns(message.header.stamp)] = np.array(message.homography).reshape(3, 3)

    def _on_pose(self, message: Any) -> None:
        with self._lock:
            stamp = stamp_to_ns(message.header.stamp)
            self._poses[stamp] = matrix_from_pose(message.pose)
            self.trajectory.add_true(stamp, self._poses[stamp] @ _BASE)

    def _on_odometry(self, message: Any) -> None:
        self.trajectory.add_estimated(stamp_to_ns(message.header.stamp), matrix_from_pose(message.pose.pose))

    def _on_image(self, message: Any) -> None:
        self.annotated += 1
        self._recorder.add(np.asarray(message.data).reshape(message.height, message.width, 3))

    def _on_diagnostics(self, message: Any) -> None:
        for status in message.status:
            values = {entry.key: entry.value for entry in status.values}
            if status.name == f"{interface.NODE_NAME}: front end {self._camera}".rstrip():
                self.counters = values
            elif status.name.startswith(odometry.NODE_NAME):
                self.odometry = status.message
                self.trajectory.metric = values.get("scale") == "metres"

    def count(self, name: str) -> int:
        """Return a counter of the detector's latest diagnostics, -1 before the first."""
        return int(self.counters.get(name, -1))

    def _corner_error(self, stamp: int, record: Record) -> float | None:
        reference = self._truth.get(record.reference or 0)
        current = self._truth.get(stamp)
        if record.estimated is None or record.size is None or reference is None or current is None:
            return None
        return corner_error(record.estimated, current @ np.linalg.inv(reference), record.size)

    def _errors_of_matches(self, stamp: int, record: Record) -> Matrix:
        """Compute the (N,) errors of matches in pixels, without those whose point is hidden."""
        if stamp in self._match_errors:
            return self._match_errors[stamp]
        current = self._poses.get(stamp)
        reference = self._poses.get(record.matched[0]) if record.matched else None
        if self._room is None or record.matched is None or current is None or reference is None:
            return np.zeros(0)
        _, before, after = record.matched
        true, visible = self._room.transfer_between(before, reference, current, margin=_EDGE)
        self._match_errors[stamp] = np.linalg.norm(after - true, axis=1)[visible]
        return self._match_errors[stamp]

    def recent_rate(self) -> float:
        """Features messages per second over the last ones."""
        arrivals = list(self._arrivals)
        return (len(arrivals) - 1) / max(arrivals[-1] - arrivals[0], 1e-9) if len(arrivals) > 1 else 0.0

    def summary(self, last: int | None = None) -> dict[str, Any]:
        """Summarise all frames, or the `last` ones; None where there is nothing to measure."""
        with self._lock:
            stamps = sorted(self._records)[-last:] if last else sorted(self._records)
            records = [self._records[stamp] for stamp in stamps]
            errors = [e for stamp in stamps if (e := self._corner_error(stamp, self._records[stamp])) is not None]
            distances = [self._errors_of_matches(stamp, self._records[stamp]) for stamp in stamps]
            span = self._last_arrival - self._first_arrival
        latencies = [record.latency * 1e3 for record in records if record.latency is not None]
        pairs = [r for r in records if r.status not in (None, Status.FIRST_FRAME)]
        ratios = [r.inliers / r.matches for r in pairs if r.matches and r.inliers is not None]
        count = len(latencies)
        matched = np.concatenate([*distances, np.zeros(0)])
        length, drift = self.trajectory.drift() or (None, None)
        return {
            "features_messages": count,
            "homography_messages": sum(record.status is not None for record in records),
            "annotated_messages": self.annotated,
            "features_hz": _round((count - 1) / span if span > 0 and not last else self.recent_rate()),
            "latency_ms_median": _median(latencies),
            "latency_ms_p95": _round(float(np.percentile(latencies, 95))) if latencies else None,
            "keypoints_median": _median([r.keypoints for r in records if r.keypoints is not None]),
            "matches_median": _median([r.matches for r in pairs if r.matches is not None]),
            "inlier_ratio_median": _median(ratios, 4),
            "status_ok_ratio": _round(sum(r.status == Status.OK for r in pairs) / len(pairs), 4) if pairs else None,
            "match_error_px_median": _round(float(np.median(matched)), 4) if len(matched) else None,
            "right_match_ratio": _round(float(np.mean(matched <= _RIGHT)), 4) if len(matched) else None,
            "corner_error_px_median": _median(errors, 4),
            "corner_error_px_p95": _round(float(np.percentile(errors, 95)), 4) if errors else None,
            "odometry_messages": len(self.trajectory),
            "odometry_path_m": None if length is None else _round(length),
            "odometry_drift_percent": None if drift is None else _round(100 * drift),
        }


def _pixels(values: Any) -> Matrix:
    return np.array(values, np.float64).reshape(-1, 2)


def _round(value: float, digits: int = 2) -> float:
    return round(float(value), digits)


def _median(values: list[Any], digits: int = 2) -> float | None:
    return _round(statistics.median(values), digits) if values else None
