"""The detector as an rclpy node."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import rclpy
from cv_bridge import CvBridge, CvBridgeError
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from numpy.typing import NDArray
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, QoSReliabilityPolicy, qos_policy_name_from_kind
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import Image, PointField
from sensor_msgs_py import point_cloud2
from std_msgs.msg import Header

from superpoint_ros.extraction.superpoint import ImageError
from superpoint_ros.hosts.ros2.messages import fill_message, message_class
from superpoint_ros.node import interface
from superpoint_ros.node.detector import Detector
from superpoint_ros.node.images import Grey
from superpoint_ros.node.parameters import describe_unknown, is_standard_parameter, names_set_explicitly

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # its name in Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks, UnsupportedEventTypeError

_CLOUD_FIELDS = [
    PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
    for i, name in enumerate(("x", "y", "z", "score"))
]


class SuperPointDetector(Node):
    """The node `superpoint_detector`; topics and parameters are those of `interface`."""

    def __init__(self, **node_options: Any) -> None:
        super().__init__(interface.NODE_NAME, **node_options)
        self._bridge = CvBridge()
        arguments = [*sys.argv, *(node_options.get("cli_args") or ())]
        values = self._declare_parameters(arguments)
        self.detector = Detector(values, self, self._to_mono8 if self._bridge_works() else None)
        outputs = self.detector.outputs
        self._outputs = {
            place: self._create_publisher(topic, place[1]) for place, topic in outputs.items() if self._has_type(topic)
        }
        self._inputs = {camera: self._create_inputs(camera) for camera in self.detector.cameras}
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self.create_timer(1.0, self._publish_diagnostics)
        runtime = self.detector.front_end.superpoint.runtime
        self.get_logger().info(
            f"weights {self.detector.label} on {runtime.device} ({runtime.name}, {runtime.precision}), "
            f"waiting for images on {', '.join(map(self.image_topic, self.detector.cameras))}"
        )

    # The `Host` protocol

    def subscriber_count(self, key: str, camera: str) -> int:
        publisher = self._outputs.get((key, camera)) if self.context.ok() else None
        return 0 if publisher is None else publisher.get_subscription_count()

    def publish(self, key: str, camera: str, header: Any, fields: Mapping[str, Any]) -> None:
        if key == "keypoints_cloud":
            message = point_cloud2.create_cloud(header, _CLOUD_FIELDS, np.ascontiguousarray(fields["points"]))
        else:
            message = fill_message(message_class(interface.topic(key).type)(), {"header": header, **fields})
        self._send(key, camera, message)

    def _send(self, key: str, camera: str, message: Any) -> None:
        try:
            self._outputs[key, camera].publish(message)
        except Exception:
            # Ctrl-C may shut the context down while the worker finishes its frame, or during a timer's callback.
            if self.context.ok():
                raise

    def now(self) -> int:
        return self.get_clock().now().nanoseconds

    def warn(self, text: str) -> None:
        self.get_logger().warning(text)

    def header(self, stamp: Any, frame_id: str) -> Any:
        return Header(stamp=stamp, frame_id=frame_id)

    def image_topic(self, camera: str) -> str:
        return str(self._inputs[camera].topic_name)

    # ROS 2 to the detector

    def _declare_parameters(self, arguments: Sequence[str]) -> dict[str, interface.Value]:
        values = {}
        for parameter in interface.PARAMETERS:
            declared = self.declare_parameter(parameter.name, parameter.default, _descriptor(parameter))
            values[parameter.name] = declared.value
        # rclpy silently ignores undeclared parameters, but a misspelt name must be reported.
        overrides = getattr(self, "_parameter_overrides", {})
        unknown = [name for name in overrides if not is_standard_parameter(name) and not self.has_parameter(name)]
        named = names_set_explicitly(arguments, self.get_fully_qualified_name())
        for name in unknown:
            if name in named:
                interface.parameter(name)
        if unknown:
            self.get_logger().warning(describe_unknown(unknown))
        return values

    def _create_inputs(self, camera: str) -> Any:
        topic, submit = self.detector.image_input
        info = interface.topic("camera_info").for_camera(camera)
        self._create_subscription(info, info.name, self.detector.set_camera_info, camera)
        mask = interface.topic("mask").for_camera(camera)
        self._create_subscription(mask, mask.name, self.detector.submit_mask, camera)
        image = self.resolve_topic_name(interface.topic("image").for_camera(camera).name)
        name = interface.with_transport(topic, image)
        return self._create_subscription(topic, name, submit, camera)

    def _create_subscription(self, topic: interface.Topic, name: str, submit: Any, camera: str) -> Any:
        callback = partial(self._process, submit, name, camera)
        arguments = (message_class(topic.type), name, callback, _qos(topic))
        events = SubscriptionEventCallbacks(incompatible_qos=partial(self._on_incompatible, topic.key, name, camera))
        return _with_events(self.create_subscription, arguments, events)

    def _has_type(self, topic: interface.Topic) -> bool:
        """Tell whether the messages of an adapter's topic are installed; warn if they are not."""
        try:
            message_class(topic.type)
        except ValueError as error:
            if not topic.adapter:
                raise
            self.warn(f"adapter '{topic.adapter}' has no topic {topic.name}: {error}")
            return False
        return True

    def _create_publisher(self, topic: interface.Topic, camera: str) -> Any:
        arguments = (message_class(topic.type), topic.name, _qos(topic))
        events = PublisherEventCallbacks(incompatible_qos=partial(self._on_incompatible, topic.key, topic.name, camera))
        return _with_events(self.create_publisher, arguments, events)

    def _process(self, submit: Any, name: str, camera: str, message: Any) -> None:
        try:
            submit(message, camera=camera)
        except Exception as error:
            # A single message must not end the node.
            self.detector.report_unreadable(self.resolve_topic_name(name), error, camera)

    def _on_incompatible(self, key: str, name: str, camera: str, event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind).lower()
        self.detector.report_incompatible_qos(key, self.resolve_topic_name(name), policy, camera)

    def _on_set_parameters(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        ours = {parameter.name for parameter in interface.PARAMETERS}
        try:
            self.detector.set_parameters({p.name: p.value for p in parameters if p.name in ours})
        except interface.ParameterError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _to_mono8(self, message: Image) -> Grey:
        try:
            grey: NDArray[np.uint8] = self._bridge.imgmsg_to_cv2(message, "mono8")
        except CvBridgeError as error:
            raise ImageError(f"cv_bridge cannot convert image encoding '{message.encoding}': {error}") from error
        return grey

    def _bridge_works(self) -> bool:
        """Tell whether cv_bridge's compiled module loads, which fails if it was built for another NumPy."""
        try:
            self._to_mono8(Image(height=2, width=2, encoding="bgr8", step=6, data=bytes(12)))
        except (ImportError, AttributeError, SystemError) as error:
            self.get_logger().warning(f"cv_bridge does not work here, images are converted without it: {error}")
            return False
        return True

    def _publish_diagnostics(self) -> None:
        message = DiagnosticArray()
        for state in self.detector.diagnostics():
            status = DiagnosticStatus(
                level=bytes([state.level]),
                name=f"{self.get_fully_qualified_name()[1:]}: {state.name}",
                message=state.message,
                hardware_id=state.hardware_id,
                values=[KeyValue(key=key, value=value) for key, value in state.values.items()],
            )
            message.status.append(status)
        message.header.stamp = self.get_clock().now().to_msg()
        self._send("diagnostics", "", message)

    def destroy_node(self) -> None:
        self.detector.close()
        super().destroy_node()


def _with_events(create: Any, arguments: tuple[Any, ...], events: Any) -> Any:
    """Create a publisher or subscription with QoS overrides and, if the middleware supports them, event callbacks.

    Raises:
        ValueError: in one sentence, for an invalid override.
    """
    options = QoSOverridingOptions.with_default_policies()
    try:
        try:
            return create(*arguments, event_callbacks=events, qos_overriding_options=options)
        except UnsupportedEventTypeError:
            return create(*arguments, qos_overriding_options=options)
    except RuntimeError as error:
        raise ValueError(f"topic '{arguments[1]}' with its quality of service: {_without_location(error)}") from error


def _without_location(error: Exception) -> str:
    """Format an error of rcl without its source locations."""
    return re.sub(r", at \S+:\d+", "", str(error))


def _qos(topic: interface.Topic) -> QoSProfile:
    policy = QoSReliabilityPolicy
    reliability = policy.RELIABLE if topic.qos.reliable else policy.BEST_EFFORT
    return QoSProfile(depth=topic.qos.depth, reliability=reliability)


def _descriptor(parameter: interface.Parameter) -> ParameterDescriptor:
    allowed = f" ({parameter.allowed})" if parameter.choices else ""
    # YAML reads unquoted true and false as booleans.
    untyped = {"true", "false"} <= set(parameter.choices)
    descriptor = ParameterDescriptor(
        description=parameter.description + allowed, read_only=parameter.read_only, dynamic_typing=untyped
    )
    if parameter.minimum is not None and parameter.maximum is not None:
        if parameter.type is int:
            limits = IntegerRange(from_value=int(parameter.minimum), to_value=int(parameter.maximum))
            descriptor.integer_range = [limits]
        else:
            limits = FloatingPointRange(from_value=float(parameter.minimum), to_value=float(parameter.maximum))
            descriptor.floating_point_range = [limits]
    return descriptor


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node until it is shut down."""
    node = None
    try:
        try:
            rclpy.init(args=arguments)
        except RuntimeError as error:
            raise ValueError(_without_location(error)) from error
        try:
            node = SuperPointDetector()
            rclpy.spin(node)
        finally:
            if node is not None:
                node.destroy_node()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (ValueError, InvalidParameterTypeException, ParameterException) as error:
        print(f"{interface.NODE_NAME}: {error}", file=sys.stderr)
        return 1
    finally:
        rclpy.try_shutdown()
    return 0
