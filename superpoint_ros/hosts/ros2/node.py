"""What the rclpy nodes share: parameters of a table, endpoints, diagnostics, start and end."""

from __future__ import annotations

import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from rclpy.qos import QoSProfile, QoSReliabilityPolicy, qos_policy_name_from_kind
from rclpy.qos_overriding_options import QoSOverridingOptions

from superpoint_ros.hosts.ros2.messages import message_class
from superpoint_ros.node.declarations import Parameter, ParameterError, ParameterTable, Qos, Topic, Value
from superpoint_ros.node.diagnostics import Diagnostics
from superpoint_ros.node.parameters import describe_unknown, is_standard_parameter, names_set_explicitly

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # its name in Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks, UnsupportedEventTypeError


class TableNode(Node, ABC):
    """A node with the parameters of a table, and diagnostics once a second.

    Args:
        name: of the node.
        table: its parameters.

    Attributes:
        values: of the parameters at the start.

    Raises:
        ValueError: in one sentence, if a parameter is unknown or a QoS override is invalid.
    """

    def __init__(self, name: str, table: ParameterTable, **node_options: Any) -> None:
        super().__init__(name, **node_options)
        self._table = table
        arguments = [*sys.argv, *(node_options.get("cli_args") or ())]
        self.values = self._declare_parameters(arguments)
        self._diagnostics_publisher: Any = None

    @abstractmethod
    def _diagnostics(self) -> Iterable[Diagnostics]:
        """Report the state."""

    @abstractmethod
    def _change_parameters(self, changes: Mapping[str, Any]) -> None:
        """Change parameters of the table, all or none of them; raises ParameterError."""

    @abstractmethod
    def _report_mismatch(self, place: Any, topic: str, policy: str) -> None:
        """Report that another node's endpoint does not match this node's of a place."""

    @abstractmethod
    def _report_unreadable(self, place: Any, topic: str, error: Exception) -> None:
        """Report a message that could not be processed."""

    def warn(self, text: str) -> None:
        self.get_logger().warning(text)

    def _begin(self, diagnostics: Any) -> None:
        """Accept changes of parameters and publish diagnostics from now on, on this publisher."""
        self._diagnostics_publisher = diagnostics
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self.create_timer(1.0, self._publish_diagnostics)

    # Endpoints

    def _create_output(self, place: Hashable, topic: Topic) -> Any:
        arguments = (message_class(topic.type), topic.name, _qos(topic.qos))
        events = PublisherEventCallbacks(incompatible_qos=partial(self._on_incompatible, place, topic.name))
        return _with_events(self.create_publisher, arguments, events)

    def _create_input(self, place: Hashable, topic: Topic, name: str, submit: Callable[[Any], None]) -> Any:
        callback = partial(self._process, place, name, submit)
        arguments = (message_class(topic.type), name, callback, _qos(topic.qos))
        events = SubscriptionEventCallbacks(incompatible_qos=partial(self._on_incompatible, place, name))
        return _with_events(self.create_subscription, arguments, events)

    def _process(self, place: Hashable, name: str, submit: Callable[[Any], None], message: Any) -> None:
        try:
            submit(message)
        except Exception as error:
            # A single message must not end the node.
            self._report_unreadable(place, self.resolve_topic_name(name), error)

    def _on_incompatible(self, place: Hashable, name: str, event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind).lower()
        self._report_mismatch(place, self.resolve_topic_name(name), policy)

    def _send(self, publisher: Any, message: Any) -> None:
        try:
            publisher.publish(message)
        except Exception:
            # Ctrl-C may shut the context down while a worker finishes its frame, or during a timer's callback.
            if self.context.ok():
                raise

    # Parameters

    def _declare_parameters(self, arguments: Sequence[str]) -> dict[str, Value]:
        values = {}
        for parameter in self._table:
            declared = self.declare_parameter(parameter.name, parameter.default, _descriptor(parameter))
            values[parameter.name] = declared.value
        # rclpy silently ignores undeclared parameters, but a misspelt name must be reported.
        overrides = getattr(self, "_parameter_overrides", {})
        unknown = [name for name in overrides if not is_standard_parameter(name) and not self.has_parameter(name)]
        named = names_set_explicitly(arguments, self.get_fully_qualified_name())
        for name in unknown:
            if name in named:
                self._table[name]
        if unknown:
            self.warn(describe_unknown(unknown, self._table))
        return values

    def _on_set_parameters(self, parameters: Sequence[RosParameter]) -> SetParametersResult:
        try:
            self._change_parameters({p.name: p.value for p in parameters if p.name in self._table})
        except ParameterError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _publish_diagnostics(self) -> None:
        message = DiagnosticArray()
        for state in self._diagnostics():
            status = DiagnosticStatus(
                level=bytes([state.level]),
                name=f"{self.get_fully_qualified_name()[1:]}: {state.name}",
                message=state.message,
                hardware_id=state.hardware_id,
                values=[KeyValue(key=key, value=value) for key, value in state.values.items()],
            )
            message.status.append(status)
        message.header.stamp = self.get_clock().now().to_msg()
        self._send(self._diagnostics_publisher, message)


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


def _qos(qos: Qos) -> QoSProfile:
    policy = QoSReliabilityPolicy
    reliability = policy.RELIABLE if qos.reliable else policy.BEST_EFFORT
    return QoSProfile(depth=qos.depth, reliability=reliability)


def _descriptor(parameter: Parameter) -> ParameterDescriptor:
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


def run(create: Callable[[], Node], name: str, arguments: Sequence[str] | None = None) -> int:
    """Create a node and run it until it is shut down; return the exit code.

    Args:
        create: creates the node.
        name: of the node, for error messages.
        arguments: of the command line; None for those of the process.
    """
    node = None
    try:
        try:
            rclpy.init(args=arguments)
        except RuntimeError as error:
            raise ValueError(_without_location(error)) from error
        try:
            node = create()
            rclpy.spin(node)
        except Exception:
            # If a signal arrives between a look at the context and its use, rclpy raises one of several errors.
            if rclpy.ok():
                raise
        finally:
            if node is not None:
                node.destroy_node()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (ValueError, InvalidParameterTypeException, ParameterException) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    finally:
        rclpy.try_shutdown()
    return 0
