"""What the nodes without ROS 2 share: parameters, remappings, endpoints, diagnostics, start and end."""

from __future__ import annotations

import logging
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from superpoint_ros.hosts.dds.node import Node
from superpoint_ros.hosts.wire import messages
from superpoint_ros.node.declarations import ParameterTable, Qos, Topic
from superpoint_ros.node.diagnostics import Diagnostics
from superpoint_ros.node.names import parse_remappings
from superpoint_ros.node.parameters import apply_qos_overrides, read_parameters

_log = logging.getLogger(__name__)
_Self = TypeVar("_Self", bound="StandaloneNode")


class StandaloneNode(ABC):
    """A node as a DDS participant that ROS 2 sees as one of its own.

    Args:
        params_files: ROS 2 parameters files; later ones override earlier ones.
        assignments: such as "max_keypoints:=500"; they override files.
        remappings: such as "image:=/camera/image_raw", `__ns:=/front` included.
        environ: environment variables, in which those of ROS 2 are read.

    Raises:
        ValueError: in one sentence, if any of these is invalid or a package is missing.
    """

    _name: str
    """Name of the node."""
    _table: ParameterTable
    """Its parameters."""
    _diagnostics_place: Hashable = "diagnostics"
    """Place of the publisher of diagnostics among `_publishers`."""

    def __init__(
        self,
        params_files: Sequence[str | Path] = (),
        assignments: Sequence[str] = (),
        remappings: Sequence[str] = (),
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._node = Node(self._name, environ=environ, remappings=parse_remappings(remappings))
        self._stop = threading.Event()
        self._publishers: dict[Any, Any] = {}
        self._subscriptions: dict[Any, Any] = {}
        try:
            parameters = read_parameters(params_files, assignments, self._node.full_name, self._table)
            self._values, self._overrides = parameters.values, parameters.qos_overrides
            if parameters.warning:
                self.warn(parameters.warning)
            self._open()
        except BaseException:
            self.close()
            raise

    @abstractmethod
    def _open(self) -> None:
        """Create the endpoints, and what they serve, from the values of the parameters."""

    @abstractmethod
    def _diagnostics(self) -> Iterable[Diagnostics]:
        """Report the state."""

    @abstractmethod
    def _report_mismatch(self, place: Any, topic: str, policy: str) -> None:
        """Report that another node's endpoint does not match this node's of a place."""

    def warn(self, text: str) -> None:
        _log.warning("%s: %s", self._node.full_name, text)

    # Endpoints

    def _create_publisher(self, place: Hashable, topic: Topic) -> None:
        qos = self._qos(topic, topic.name, "publisher")
        self._publishers[place] = self._node.create_publisher(topic.name, topic.type, qos)

    def _create_subscription(
        self,
        place: Hashable,
        topic: Topic,
        name: str,
        callback: Callable[[Any], None],
        on_problem: Callable[[Exception], None],
    ) -> None:
        qos = self._qos(topic, name, "subscription")
        self._subscriptions[place] = self._node.create_subscription(name, topic.type, qos, callback, on_problem)

    def _qos(self, topic: Topic, name: str, kind: str) -> Qos:
        return apply_qos_overrides(topic.qos, self._overrides, self._node.resolve(name), kind)

    # Lifecycle

    def spin(self) -> None:
        """Publish diagnostics once a second until `stop`."""
        while not self._stop.wait(1.0):
            for place, endpoint in {**self._publishers, **self._subscriptions}.items():
                policy = endpoint.incompatible_policy()
                if policy:
                    self._report_mismatch(place, endpoint.topic, policy)
            message = messages.diagnostics_message(self._node.full_name, self._diagnostics())
            self._publishers[self._diagnostics_place].publish(message)

    def stop(self) -> None:
        """Make `spin` return; may be called from any thread or signal handler."""
        self._stop.set()

    def close(self) -> None:
        """Leave the ROS graph. Idempotent."""
        self._node.close()

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
