"""Host 2: the detector as a DDS participant that ROS 2 sees as a node."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from superpoint_ros.hosts.dds.node import Node
from superpoint_ros.hosts.wire import messages
from superpoint_ros.node import interface
from superpoint_ros.node.detector import Detector, stamp_to_ns
from superpoint_ros.node.names import parse_remappings
from superpoint_ros.node.parameters import apply_qos_overrides, read_parameters

_log = logging.getLogger(__name__)


class StandaloneDetector:
    """The node `superpoint_detector`; topics and parameters are those of `interface`.

    Args:
        params_files: ROS 2 parameters files; later ones override earlier ones.
        assignments: such as "max_keypoints:=500"; they override files.
        remappings: such as "image:=/camera/image_raw", `__ns:=/front` included.
        environ: environment variables, in which those of ROS 2 are read.

    Raises:
        ValueError: in one sentence, if any of these is invalid or a package is missing.
    """

    def __init__(
        self,
        params_files: Sequence[str | Path] = (),
        assignments: Sequence[str] = (),
        remappings: Sequence[str] = (),
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._node = Node(interface.NODE_NAME, environ=environ, remappings=parse_remappings(remappings))
        try:
            parameters = read_parameters(params_files, assignments, self._node.full_name)
            self._overrides = parameters.qos_overrides
            if parameters.warning:
                self.warn(parameters.warning)
            self._stop = threading.Event()
            self._publishers: dict[tuple[str, str], Any] = {}
            self._subscriptions: dict[tuple[str, str], Any] = {}
            self._detector = Detector(parameters.values, self)
            for key, topic in self._detector.outputs.items():
                qos = self._qos(topic, topic.name, "publisher")
                self._publishers[key] = self._node.create_publisher(topic.name, topic.type, qos)
            for camera in self._detector.cameras:
                self._subscribe(camera)
        except BaseException:
            self.close()
            raise
        runtime = self._detector.front_end.superpoint.runtime
        _log.info(
            "%s: weights %s on %s (%s, %s), waiting for images on %s",
            self._node.full_name,
            self._detector.label,
            runtime.device,
            runtime.name,
            runtime.precision,
            ", ".join(map(self.image_topic, self._detector.cameras)),
        )

    # The `Host` protocol

    def subscriber_count(self, key: str, camera: str) -> int:
        return int(self._publishers[key, camera].subscription_count)

    def publish(self, key: str, camera: str, header: Any, fields: Mapping[str, Any]) -> None:
        topic = interface.topic(key)
        if key == "keypoints_cloud":
            message = messages.cloud_message(header, fields["points"])
        else:
            message = messages.create_message(topic.type, header, fields)
        self._publishers[key, camera].publish(message)

    def now(self) -> int:
        return time.time_ns()

    def warn(self, text: str) -> None:
        _log.warning("%s: %s", self._node.full_name, text)

    def header(self, stamp: Any, frame_id: str) -> Any:
        return messages.header_message(stamp_to_ns(stamp), frame_id)

    def image_topic(self, camera: str) -> str:
        image = self._node.resolve(interface.topic("image").for_camera(camera).name)
        return self._node.resolve(interface.with_transport(self._detector.image_input[0], image))

    # Lifecycle

    def spin(self) -> None:
        """Publish diagnostics once a second until `stop`."""
        while not self._stop.wait(1.0):
            self._report_mismatches()
            message = messages.diagnostics_message(self._node.full_name, self._detector.diagnostics())
            self._publishers["diagnostics", ""].publish(message)

    def stop(self) -> None:
        """Make `spin` return; may be called from any thread or signal handler."""
        self._stop.set()

    def close(self) -> None:
        """Finish the current frame and leave the ROS graph. Idempotent."""
        if hasattr(self, "_detector"):
            self._detector.close()
        self._node.close()

    def __enter__(self) -> StandaloneDetector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _report_mismatches(self) -> None:
        for (key, camera), endpoint in {**self._publishers, **self._subscriptions}.items():
            policy = endpoint.incompatible_policy()
            if policy:
                self._detector.report_incompatible_qos(key, endpoint.topic, policy, camera)

    def _subscribe(self, camera: str) -> None:
        (topic, submit), info = self._detector.image_input, interface.topic("camera_info").for_camera(camera)
        mask = interface.topic("mask").for_camera(camera)
        names = {
            info: (info.name, self._detector.set_camera_info),
            mask: (mask.name, self._detector.submit_mask),
            topic: (self.image_topic(camera), submit),
        }
        for entry, (name, callback) in names.items():
            qos = self._qos(entry, name, "subscription")
            on_problem = partial(self._detector.report_unreadable, self._node.resolve(name), camera=camera)
            self._subscriptions[entry.key, camera] = self._node.create_subscription(
                name, entry.type, qos, partial(callback, camera=camera), on_problem
            )

    def _qos(self, topic: interface.Topic, name: str, kind: str) -> interface.Qos:
        return apply_qos_overrides(topic.qos, self._overrides, self._node.resolve(name), kind)
