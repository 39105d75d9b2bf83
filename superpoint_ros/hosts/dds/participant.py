"""The process's Cyclone DDS domains with their configuration, and participants in them."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from pathlib import Path

from cyclonedds.core import DDSException, Entity
from cyclonedds.domain import Domain, DomainParticipant
from cyclonedds.qos import Policy, Qos

from superpoint_ros.hosts.dds.discovery import Discovery
from superpoint_ros.node.errors import StandaloneError

logger = logging.getLogger(__name__)

_MAX_RECEIVE_BUFFER = Path("/proc/sys/net/core/rmem_max")
_RECOMMENDED_RECEIVE_BUFFER = 4_194_304  # bytes, a few messages of 1 MB


@dataclass
class _OpenDomain:
    domain: Domain
    discovery: Discovery
    users: int = 1


# Cyclone DDS has one instance of each domain per process, so users are counted per process as well.
_open_domains: dict[int, _OpenDomain] = {}
_lock = threading.Lock()


class Participant:
    """A DDS participant that ROS 2 recognises as a process with nodes.

    Raises:
        StandaloneError: if Cyclone DDS rejects the configuration, or this process is already in the domain with other
            discovery settings.
    """

    def __init__(self, discovery: Discovery) -> None:
        self._domain_id = discovery.domain_id
        _acquire(discovery)
        try:
            self.entity = DomainParticipant(self._domain_id, Qos(Policy.Userdata(b"enclave=/;")))
        except DDSException as error:
            _release(self._domain_id)
            if discovery.is_domain_full():
                raise StandaloneError(discovery.describe_full_domain()) from error
            raise StandaloneError(
                f"no DDS participant could be created in domain {self._domain_id}: {error}"
            ) from error
        self._closed = False

    def close(self) -> None:
        """Leave the domain, and delete everything created in the participant. Idempotent."""
        if not self._closed:
            self._closed = True
            delete(self.entity)
            _release(self._domain_id)


def delete(entity: Entity) -> None:
    """Delete a DDS entity and its children now, not when Python collects the object."""
    entity.__del__()


def gid(entity: Entity) -> bytes:
    """Return the 16 bytes that identify an endpoint or participant in the ROS graph."""
    return entity.get_guid().bytes


def _acquire(discovery: Discovery) -> None:
    with _lock:
        opened = _open_domains.get(discovery.domain_id)
        if opened is None:
            try:
                domain = Domain(discovery.domain_id, discovery.configuration())
            except DDSException as error:
                if discovery.is_domain_full():
                    raise StandaloneError(discovery.describe_full_domain()) from error
                raise StandaloneError(
                    f"Cyclone DDS rejects its configuration for domain {discovery.domain_id} (CYCLONEDDS_URI is "
                    f"{discovery.cyclonedds_uri!r}, ROS_STATIC_PEERS {';'.join(discovery.static_peers)!r}): {error}"
                ) from error
            _open_domains[discovery.domain_id] = _OpenDomain(domain, discovery)
            _check_receive_buffer()
        elif opened.discovery == discovery:
            opened.users += 1
        else:
            raise StandaloneError(
                f"this process is already in domain {discovery.domain_id} with {opened.discovery}, allowed is the same "
                f"for every node, not {discovery}"
            )


def _release(domain_id: int) -> None:
    with _lock:
        opened = _open_domains[domain_id]
        opened.users -= 1
        if not opened.users:
            del _open_domains[domain_id]
            delete(opened.domain)


def _check_receive_buffer() -> None:
    try:
        size = int(_MAX_RECEIVE_BUFFER.read_text())
    except (OSError, ValueError):
        return  # not Linux
    if size < _RECOMMENDED_RECEIVE_BUFFER:
        logger.warning(
            "the system limits receive buffers to %d bytes, so best-effort images may arrive incomplete and be "
            "dropped; recommended: sudo sysctl -w net.core.rmem_max=%d",
            size,
            _RECOMMENDED_RECEIVE_BUFFER,
        )
