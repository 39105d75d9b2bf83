"""Make the node visible in the ROS graph by announcing its name and endpoints."""

from __future__ import annotations

import threading

import numpy as np

from superpoint_ros.hosts.dds.endpoint import Endpoint, Publisher, Subscription
from superpoint_ros.hosts.dds.participant import Participant, gid
from superpoint_ros.hosts.wire import typesystem
from superpoint_ros.node.interface import Qos

_TOPIC = "ros_discovery_info"
_TYPE = "rmw_dds_common/msg/ParticipantEntitiesInfo"


class GraphAnnouncement:
    """Publishes on `ros_discovery_info` which publishers and subscriptions the node has."""

    def __init__(self, participant: Participant, name: str, namespace: str) -> None:
        self._participant_gid = gid(participant.entity)
        self._name = name
        self._namespace = namespace
        self._endpoints: list[Endpoint] = []
        self._lock = threading.Lock()
        self._publisher = Publisher(participant, _TOPIC, _TYPE, Qos(reliable=True, depth=1), transient_local=True)
        self._publish([self._node()])

    def add(self, endpoint: Endpoint) -> None:
        """Announce a new endpoint of the node."""
        with self._lock:
            self._endpoints.append(endpoint)
            self._publish([self._node()])

    def remove(self, endpoint: Endpoint) -> None:
        """Announce that an endpoint of the node is removed."""
        with self._lock:
            if endpoint in self._endpoints:
                self._endpoints.remove(endpoint)
                self._publish([self._node()])

    def close(self) -> None:
        """Announce that the node is gone."""
        with self._lock:
            self._endpoints.clear()
            self._publish([])
            self._publisher.close()

    def _node(self) -> object:
        return typesystem.message_class("rmw_dds_common/msg/NodeEntitiesInfo")(
            node_namespace=self._namespace,
            node_name=self._name,
            reader_gid_seq=[_gid(entry.gid) for entry in self._endpoints if isinstance(entry, Subscription)],
            writer_gid_seq=[_gid(entry.gid) for entry in self._endpoints if isinstance(entry, Publisher)],
        )

    def _publish(self, nodes: list[object]) -> None:
        self._publisher.publish(
            typesystem.message_class(_TYPE)(gid=_gid(self._participant_gid), node_entities_info_seq=nodes)
        )


def _gid(data: bytes) -> object:
    return typesystem.message_class("rmw_dds_common/msg/Gid")(data=np.frombuffer(data, np.uint8))
