"""Host 2: the detector as a DDS participant that ROS 2 sees as a node."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from superpoint_ros.hosts.dds.standalone import StandaloneNode
from superpoint_ros.hosts.wire import messages
from superpoint_ros.node import interface
from superpoint_ros.node.detector import Detector, stamp_to_ns
from superpoint_ros.node.diagnostics import Diagnostics

_log = logging.getLogger(__name__)


class StandaloneDetector(StandaloneNode):
    """The node `superpoint_detector`; topics and parameters are those of `interface`.

    Args and errors: see `StandaloneNode`.
    """

    _name, _table = interface.NODE_NAME, interface.TABLE
    _diagnostics_place = ("diagnostics", "")

    def _open(self) -> None:
        self._detector = Detector(self._values, self)
        for place, topic in self._detector.outputs.items():
            self._create_publisher(place, topic)
        for camera in self._detector.cameras:
            self._subscribe(camera)
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

    def header(self, stamp: Any, frame_id: str) -> Any:
        return messages.header_message(stamp_to_ns(stamp), frame_id)

    def image_topic(self, camera: str) -> str:
        image = self._node.resolve(interface.topic("image").for_camera(camera).name)
        return self._node.resolve(interface.with_transport(self._detector.image_input[0], image))

    # What differs between standalone nodes

    def _diagnostics(self) -> Iterable[Diagnostics]:
        return self._detector.diagnostics()

    def _report_mismatch(self, place: tuple[str, str], topic: str, policy: str) -> None:
        self._detector.report_incompatible_qos(place[0], topic, policy, place[1])

    def close(self) -> None:
        """Finish the current frame and leave the ROS graph. Idempotent."""
        if hasattr(self, "_detector"):
            self._detector.close()
        super().close()

    def _subscribe(self, camera: str) -> None:
        (topic, submit), info = self._detector.image_input, interface.topic("camera_info").for_camera(camera)
        mask = interface.topic("mask").for_camera(camera)
        names = {
            info: (info.name, self._detector.set_camera_info),
            mask: (mask.name, self._detector.submit_mask),
            topic: (self.image_topic(camera), submit),
        }
        for entry, (name, callback) in names.items():
            on_problem = partial(self._detector.report_unreadable, self._node.resolve(name), camera=camera)
            place = entry.key, camera
            self._create_subscription(place, entry, name, partial(callback, camera=camera), on_problem)
