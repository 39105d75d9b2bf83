"""Host 1 of the odometry: an rclpy node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from std_srvs.srv import Trigger

from superpoint_ros.hosts.ros2.messages import fill_message, message_class
from superpoint_ros.hosts.ros2.node import TableNode, run
from superpoint_ros.node.diagnostics import Diagnostics
from superpoint_ros.odometry import interface


class SuperPointOdometry(TableNode):
    """The node `superpoint_odometry`; topics and parameters are those of `odometry.interface`.

    The service `~/reset` (std_srvs/Trigger) starts again at the origin.
    """

    def __init__(self, **node_options: Any) -> None:
        super().__init__(interface.NODE_NAME, interface.PARAMETERS, **node_options)
        try:
            from superpoint_ros.odometry.node import OdometryNode
        except ModuleNotFoundError as error:
            raise ValueError(
                f"Python package '{error.name}' is missing, install it with: pip install {error.name}"
            ) from error
        self.odometry = OdometryNode(self.values, self)
        self._outputs = {topic.key: self._create_output(topic.key, topic) for topic in interface.OUTPUTS}
        self._inputs = {
            key: self._create_input(key, topic, topic.name, partial(self.odometry.submit, key))
            for key, topic in self.odometry.inputs.items()
        }
        self.create_service(Trigger, "~/reset", self._on_reset)
        self._begin(self._outputs["diagnostics"])
        self.get_logger().info(f"waiting for features on {self.input_name('features')}")

    # The `Host` protocol

    def subscriber_count(self, key: str) -> int:
        return int(self._outputs[key].get_subscription_count()) if self.context.ok() else 0

    def publish(self, key: str, fields: Mapping[str, Any]) -> None:
        self._send(self._outputs[key], fill_message(message_class(interface.topic(key).type)(), fields))

    def input_name(self, key: str) -> str:
        return str(self._inputs[key].topic_name)

    # What differs between nodes

    def _diagnostics(self) -> Iterable[Diagnostics]:
        return self.odometry.diagnostics()

    def _change_parameters(self, changes: Mapping[str, Any]) -> None:
        self.odometry.set_parameters(changes)

    def _report_mismatch(self, place: str, topic: str, policy: str) -> None:
        self.odometry.report_incompatible_qos(place, topic, policy)

    def _report_unreadable(self, place: str, topic: str, error: Exception) -> None:
        self.odometry.report_unreadable(topic, error)

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.odometry.reset()
        response.success, response.message = True, "the odometry starts again at the origin"
        return response


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node until it is shut down."""
    return run(SuperPointOdometry, interface.NODE_NAME, arguments)
