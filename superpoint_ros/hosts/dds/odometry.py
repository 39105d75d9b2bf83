"""Host 2 of the odometry: a DDS participant that ROS 2 sees as a node."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from superpoint_ros.hosts.dds.standalone import StandaloneNode
from superpoint_ros.hosts.wire import messages
from superpoint_ros.node.diagnostics import Diagnostics
from superpoint_ros.odometry import interface
from superpoint_ros.odometry.node import OdometryNode

_log = logging.getLogger(__name__)


class StandaloneOdometry(StandaloneNode):
    """The node `superpoint_odometry`; topics and parameters are those of `odometry.interface`.

    Args and errors: see `StandaloneNode`.
    """

    _name, _table = interface.NODE_NAME, interface.PARAMETERS

    def _open(self) -> None:
        self._odometry = OdometryNode(self._values, self)
        for topic in interface.OUTPUTS:
            self._create_publisher(topic.key, topic)
        for key, topic in self._odometry.inputs.items():
            submit = partial(self._odometry.submit, key)
            on_problem = partial(self._odometry.report_unreadable, self.input_name(key))
            self._create_subscription(key, topic, topic.name, submit, on_problem)
        _log.info("%s: waiting for features on %s", self._node.full_name, self.input_name("features"))

    # The `Host` protocol

    def subscriber_count(self, key: str) -> int:
        return int(self._publishers[key].subscription_count)

    def publish(self, key: str, fields: Mapping[str, Any]) -> None:
        self._publishers[key].publish(messages.create_message(interface.topic(key).type, None, fields))

    def input_name(self, key: str) -> str:
        return self._node.resolve(self._odometry.inputs[key].name)

    # What differs between standalone nodes

    def _diagnostics(self) -> Iterable[Diagnostics]:
        return self._odometry.diagnostics()

    def _report_mismatch(self, place: str, topic: str, policy: str) -> None:
        self._odometry.report_incompatible_qos(place, topic, policy)
