"""Translate ROS 2's environment variables for domain and discovery into a Cyclone DDS configuration."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from xml.sax.saxutils import quoteattr

from superpoint_ros.node.errors import StandaloneError

logger = logging.getLogger(__name__)

# 7400 + 250 * domain + 11 must be a UDP port.
_LARGEST_DOMAIN = 232
_LARGEST_INDEX = 32  # of a participant, as in Jazzy's rmw_cyclonedds
_LOCAL_PEER = re.compile(r"localhost|127\.\d+\.\d+\.\d+|\[?::1\]?", re.IGNORECASE)
_PEER = re.compile(r"[A-Za-z0-9_.:%\[\]-]+")

# Bytes of a UDP payload and of the message fragment in it. A message of 1 MB is sent in one burst, of which a reader
# with the kernel's default receive buffer of 208 KiB (as with Fast DDS) loses a part and has to request it again. On
# the loopback interface few large datagrams lose least; on a network each is split into packets that are lost together.
_LOCAL_SIZES = (65500, 65000)
_NETWORK_SIZES = (14720, 14500)

# Interval at which a node announces itself, also to addresses that have not answered yet. Cyclone DDS 11 probes each
# address once and gives up after 30 s: if that datagram is lost, two nodes never discover each other.
_ANNOUNCEMENTS = "<SPDPInterval>2s</SPDPInterval>"

# Retransmission of lost fragments. With Cyclone DDS's defaults (heartbeat every 100 ms, fragments of 1344 bytes) it
# takes longer than a frame: of 150 images of 900 kB at 30 Hz a Fast DDS reader with history 5 received 120, 80 ms late,
# and one with history 1 received 75. With these values they received 150 and 147, 3 ms late.
_RECOVERY = (
    '<HeartbeatInterval min="1ms" minsched="2ms">4ms</HeartbeatInterval>'
    "<NackDelay>10ms</NackDelay>"
    # A retransmission burst must fit into that receive buffer.
    "<BurstSize><MaxRexmit>192kB</MaxRexmit></BurstSize>"
    '<SocketReceiveBufferSize max="8MB"/>'
    # "Keep last" bounds the history. With the default watermark of 500 kB publish() would wait for the slowest reader.
    "<Watermarks><WhcHigh>256MB</WhcHigh><WhcHighInit>256MB</WhcHighInit><WhcAdaptive>false</WhcAdaptive></Watermarks>"
)


class Range(Enum):
    """The range of automatic discovery: ROS_AUTOMATIC_DISCOVERY_RANGE."""

    SUBNET = "SUBNET"
    LOCALHOST = "LOCALHOST"
    OFF = "OFF"
    SYSTEM_DEFAULT = "SYSTEM_DEFAULT"


@dataclass(frozen=True)
class Discovery:
    """Domain, range, static peers and additional Cyclone DDS configuration from the environment."""

    domain_id: int = 0
    range: Range = Range.SUBNET
    static_peers: tuple[str, ...] = ()
    cyclonedds_uri: str = ""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Discovery:
        """Read ROS_DOMAIN_ID, ROS_AUTOMATIC_DISCOVERY_RANGE, ROS_STATIC_PEERS, ROS_LOCALHOST_ONLY, CYCLONEDDS_URI.

        Raises:
            StandaloneError: if one of them has a value that ROS 2 does not define.
        """
        domain_id = _domain_id(environ.get("ROS_DOMAIN_ID", ""))
        uri = environ.get("CYCLONEDDS_URI", "")
        if not uri.isascii():
            raise StandaloneError(f"CYCLONEDDS_URI is {uri!r}, allowed are ASCII characters")
        if _localhost_only(environ.get("ROS_LOCALHOST_ONLY", "")):
            return cls(domain_id, Range.LOCALHOST, (), uri)
        discovery_range = _range(environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", ""))
        peers = _static_peers(environ.get("ROS_STATIC_PEERS", ""))
        if peers and discovery_range in (Range.OFF, Range.SYSTEM_DEFAULT):
            logger.warning(
                "ROS_STATIC_PEERS is ignored since ROS_AUTOMATIC_DISCOVERY_RANGE is %s", discovery_range.value
            )
            peers = ()
        return cls(domain_id, discovery_range, peers, uri)

    def configuration(self) -> str:
        """Build the Cyclone DDS configuration, in which CYCLONEDDS_URI overrides this package's settings."""
        domain = f"{self._general()}{self._discovery()}<Internal>{_RECOVERY}</Internal>"
        return f"<CycloneDDS><Domain>{domain}</Domain></CycloneDDS>,{self.cyclonedds_uri}"

    def is_domain_full(self) -> bool:
        """Tell whether all ports for participants of this domain are taken on this machine."""
        return all(_is_port_taken(_metatraffic_port(self.domain_id, index)) for index in range(_LARGEST_INDEX + 1))

    def describe_full_domain(self) -> str:
        """Explain to the user, in one sentence, that the domain is full."""
        return (
            f"all {_LARGEST_INDEX + 1} participants that Cyclone DDS allows on one machine in domain {self.domain_id} "
            f"are running, so no port is left: stop some of these nodes, set ROS_DOMAIN_ID to another domain, or raise "
            f"Discovery/MaxAutoParticipantIndex in CYCLONEDDS_URI for all nodes"
        )

    def _general(self) -> str:
        open_to_others = self.range in (Range.SUBNET, Range.SYSTEM_DEFAULT)
        message, fragment = _NETWORK_SIZES if open_to_others else _LOCAL_SIZES
        sizes = (
            f"<MaxMessageSize>{message}B</MaxMessageSize><MaxRexmitMessageSize>{message}B</MaxRexmitMessageSize>"
            f"<FragmentSize>{fragment}B</FragmentSize>"
        )
        multicast = "" if open_to_others else "<AllowMulticast>false</AllowMulticast>"
        interfaces = ""
        only_local_peers = all(_LOCAL_PEER.fullmatch(peer) for peer in self.static_peers)
        if self.range is Range.LOCALHOST and only_local_peers and not _selects_interfaces(self.cyclonedds_uri):
            # Otherwise the sockets would be on the first network card, though with local peers only.
            interfaces = '<Interfaces><NetworkInterface address="127.0.0.1"/></Interfaces>'
        return f"<General>{interfaces}{multicast}{sizes}</General>"

    def _discovery(self) -> str:
        if self.range is Range.SYSTEM_DEFAULT:
            return ""
        if self.range is Range.OFF:
            # A unique tag excludes all other participants.
            return (
                "<Discovery><ParticipantIndex>none</ParticipantIndex>"
                f"<Tag>superpoint_ros_discovery_off_{os.getpid()}</Tag></Discovery>"
            )
        peers = [*(("localhost",) if self.range is Range.LOCALHOST else ()), *self.static_peers]
        elements = "".join(f"<Peer address={quoteattr(peer)}/>" for peer in peers)
        # The maximum index sets how many ports are probed on each peer, so it must equal that of the other nodes.
        return (
            f"<Discovery>{_ANNOUNCEMENTS}<ParticipantIndex>auto</ParticipantIndex>"
            f"<MaxAutoParticipantIndex>{_LARGEST_INDEX}</MaxAutoParticipantIndex>"
            f"{f'<Peers>{elements}</Peers>' if elements else ''}</Discovery>"
        )


def _metatraffic_port(domain_id: int, index: int) -> int:
    """Compute the port at which a participant is discovered (RTPS 2.5, 9.6.2.3)."""
    return 7400 + 250 * domain_id + 10 + 2 * index


def _is_port_taken(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return True
    return False


def _selects_interfaces(uri: str) -> bool:
    """Tell whether the user's configuration, inline or in a file, selects network interfaces."""
    texts = [uri]
    for part in uri.split(","):
        path = Path(part.strip().removeprefix("file://"))
        with contextlib.suppress(OSError, ValueError):
            texts.append(path.read_text(encoding="utf-8"))
    return any("NetworkInterface" in text for text in texts)


def _domain_id(text: str) -> int:
    if not text:
        return 0
    try:
        # As in C: a leading 0x means hexadecimal, a leading 0 octal.
        number = int(text, 8) if re.fullmatch(r"0[0-7]+", text) else int(text, 0)
    except ValueError:
        number = -1
    if not 0 <= number <= _LARGEST_DOMAIN:
        raise StandaloneError(f"ROS_DOMAIN_ID is {text!r}, allowed is an integer from 0 to {_LARGEST_DOMAIN}")
    return number


def _range(text: str) -> Range:
    try:
        return Range(text or "SUBNET")
    except ValueError:
        allowed = ", ".join(entry.value for entry in Range)
        raise StandaloneError(f"ROS_AUTOMATIC_DISCOVERY_RANGE is {text!r}, allowed is one of {allowed}") from None


def _localhost_only(text: str) -> bool:
    if text not in ("", "0", "1"):
        raise StandaloneError(f"ROS_LOCALHOST_ONLY is {text!r}, allowed is 0 or 1")
    return text == "1"


def _static_peers(text: str) -> tuple[str, ...]:
    peers = tuple(peer.strip() for peer in text.split(";") if peer.strip())
    for peer in peers:
        if not _PEER.fullmatch(peer):
            raise StandaloneError(
                f"ROS_STATIC_PEERS has {peer!r}, allowed are host names and addresses separated by semicolons"
            )
    return peers
