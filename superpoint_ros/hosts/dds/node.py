"""A ROS 2 node without a ROS 2 install, which looks like any other node in the ROS graph."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from superpoint_ros.hosts.dds.discovery import Discovery
from superpoint_ros.hosts.wire import typesystem
from superpoint_ros.node.errors import StandaloneError
from superpoint_ros.node.interface import Qos
from superpoint_ros.node.names import NameRules

if TYPE_CHECKING:
    from superpoint_ros.hosts.dds.endpoint import Publisher, Subscription


class Node:
    """A node with publishers and subscriptions.

    `remappings` maps names to names as "from:=to" does in ROS 2, including `__node` and `__ns`. `environ` is where
    ROS_DOMAIN_ID, ROS_AUTOMATIC_DISCOVERY_RANGE, ROS_STATIC_PEERS, ROS_LOCALHOST_ONLY and CYCLONEDDS_URI are read.

    Raises:
        StandaloneError: for an invalid name, remapping or environment, and where cyclonedds or rosbags is missing.
    """

    def __init__(
        self,
        name: str,
        namespace: str = "/",
        *,
        environ: Mapping[str, str] = os.environ,
        remappings: Mapping[str, str] | None = None,
    ) -> None:
        self._rules = NameRules(name, namespace, remappings)
        discovery = Discovery.from_environment(environ)
        typesystem.typestore()
        try:
            from superpoint_ros.hosts.dds.graph import GraphAnnouncement
            from superpoint_ros.hosts.dds.participant import Participant
        except ImportError as error:
            raise StandaloneError(
                f"package 'cyclonedds' is not installed ({error}), install it with: pip install cyclonedds"
            ) from error
        self._participant = Participant(discovery)
        self._graph = GraphAnnouncement(self._participant, self.name, self.namespace)
        self._endpoints: list[Publisher | Subscription] = []
        self._lock = threading.Lock()
        self._closed = False

    @property
    def name(self) -> str:
        """Return the node's remapped name."""
        return self._rules.name

    @property
    def namespace(self) -> str:
        """Return the node's remapped namespace, with its leading slash."""
        return self._rules.namespace

    @property
    def full_name(self) -> str:
        """Return namespace and name, as `ros2 node list` shows it."""
        return self._rules.full_name

    def resolve(self, topic: str) -> str:
        """Resolve a topic to its absolute, remapped name: "image" is "/ns/image", "~/features" is "/ns/name/features".

        Raises:
            StandaloneError: if `topic` is not a valid topic name.
        """
        return self._rules.resolve(topic)

    def create_publisher(self, topic: str, type_name: str, qos: Qos) -> Publisher:
        """Create a publisher of messages of type `type_name` ("sensor_msgs/msg/Image") on `topic`.

        Raises:
            StandaloneError: for an invalid topic, an unknown type, or a closed node.
        """
        from superpoint_ros.hosts.dds.endpoint import Publisher

        dds_topic = typesystem.dds_topic_name(self.resolve(topic))
        publisher = Publisher(self._open(), dds_topic, type_name, qos, on_close=self._forget)
        self._remember(publisher)
        return publisher

    def create_subscription(
        self,
        topic: str,
        type_name: str,
        qos: Qos,
        callback: Callable[[Any], None],
        on_problem: Callable[[Exception], None] | None = None,
    ) -> Subscription:
        """Create a subscription that calls `callback(message)` for every message on `topic`, on its own thread.

        Exceptions in the callback and from unreadable messages are passed to `on_problem` or, by default, logged.
        Arrays in the message are read-only views of the received bytes.

        Raises:
            StandaloneError: for an invalid topic, an unknown type, or a closed node.
        """
        from superpoint_ros.hosts.dds.endpoint import Subscription

        dds_topic = typesystem.dds_topic_name(self.resolve(topic))
        subscription = Subscription(
            self._open(), dds_topic, type_name, qos, callback, on_problem=on_problem, on_close=self._forget
        )
        self._remember(subscription)
        return subscription

    def close(self) -> None:
        """Leave the ROS graph; no callback starts after this returns. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            endpoints = list(self._endpoints)
        for endpoint in endpoints:
            endpoint.close()
        self._graph.close()
        self._participant.close()

    def __enter__(self) -> Node:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self) -> Any:
        if self._closed:
            raise StandaloneError(f"node {self.full_name} is closed, endpoints must be created before close()")
        return self._participant

    def _remember(self, endpoint: Publisher | Subscription) -> None:
        with self._lock:
            self._endpoints.append(endpoint)
        self._graph.add(endpoint)

    def _forget(self, endpoint: Publisher | Subscription) -> None:
        with self._lock:
            if endpoint in self._endpoints:
                self._endpoints.remove(endpoint)
        self._graph.remove(endpoint)
