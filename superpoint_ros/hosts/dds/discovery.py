"""Which domain and which machines a node talks to: the ROS 2 environment variables as a Cyclone DDS configuration."""

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
_LARGEST_INDEX = 32  # of a participant, as of Jazzy's rmw_cyclonedds
_LOCAL_PEER = re.compile(r"localhost|127\.\d+\.\d+\.\d+|\[?::1\]?", re.IGNORECASE)
_PEER = re.compile(r"[A-Za-z0-9_.:%\[\]-]+")

# Bytes of a UDP payload and of the piece of a message in it. A message of 1 MB leaves in one burst, of which a reader
# with the kernel's usual receive buffer of 208 KiB (Fast DDS by default) loses part and has to ask for it again. On the
# loopback interface few large datagrams lose least; on a network each is split into packets that are lost together.
_LOCAL_SIZES = (65500, 65000)
_NETWORK_SIZES = (14720, 14500)

# How often a node announces itself, also to addresses where nobody has answered yet. Cyclone DDS 11 asks each address
# once and gives it up 30 s later: with the datagram of that one time lost, two nodes would never find each other.
_ANNOUNCEMENTS = "<SPDPInterval>2s</SPDPInterval>"

# How lost pieces are asked for and sent again. With Cyclone DDS's own values (heartbeat every 100 ms, pieces of 1344
# bytes) that takes longer than the next frame: of 150 images of 900 kB at 30 Hz a Fast DDS reader with history 5 got
# 120, 80 ms late, and one with history 1 got 75. With these values they got 150 and 147, 3 ms late.
_RECOVERY = (
    '<HeartbeatInterval min="1ms" minsched="2ms">4ms</HeartbeatInterval>'
    "<NackDelay>10ms</NackDelay>"
    # What is sent again must fit into that receive buffer at once.
    "<BurstSize><MaxRexmit>192kB</MaxRexmit></BurstSize>"
    '<SocketReceiveBufferSize max="8MB"/>'
    # "Keep last" bounds the history. The default watermark of 500 kB would have publish() wait for the slowest reader.
    "<Watermarks><WhcHigh>256MB</WhcHigh><WhcHighInit>256MB</WhcHighInit><WhcAdaptive>false</WhcAdaptive></Watermarks>"
)


class Range(Enum):
    """How far nodes are discovered without naming their addresses: ROS_AUTOMATIC_DISCOVERY_RANGE."""

    SUBNET = "SUBNET"
    LOCALHOST = "LOCALHOST"
    OFF = "OFF"
    SYSTEM_DEFAULT = "SYSTEM_DEFAULT"


@dataclass(frozen=True)
class Discovery:
    """Domain, range, static peers and additional Cyclone DDS configuration, as the environment sets them."""

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
        reach = _range(environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", ""))
        peers = _static_peers(environ.get("ROS_STATIC_PEERS", ""))
        if peers and reach in (Range.OFF, Range.SYSTEM_DEFAULT):
            logger.warning("ROS_STATIC_PEERS is ignored since ROS_AUTOMATIC_DISCOVERY_RANGE is %s", reach.value)
            peers = ()
        return cls(domain_id, reach, peers, uri)

    def configuration(self) -> str:
        """The Cyclone DDS configuration: ours first, then CYCLONEDDS_URI, of which every setting prevails."""
        domain = f"{self._general()}{self._discovery()}<Internal>{_RECOVERY}</Internal>"
        return f"<CycloneDDS><Domain>{domain}</Domain></CycloneDDS>,{self.cyclonedds_uri}"

    def is_full(self) -> bool:
        """Whether another participant on this machine has each of the ports that one could have in this domain."""
        return all(_taken(_metatraffic_port(self.domain_id, index)) for index in range(_LARGEST_INDEX + 1))

    def full(self) -> str:
        """What to tell the user then, in one sentence."""
        return (
            f"all {_LARGEST_INDEX + 1} participants that Cyclone DDS allows on one machine in domain {self.domain_id} "
            f"are running, so there is no port for another: end some of these nodes, set ROS_DOMAIN_ID to another "
            f"domain, or raise Discovery/MaxAutoParticipantIndex by CYCLONEDDS_URI for all nodes"
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
            # Without this the sockets would be on the first network card, if with local peers only.
            interfaces = '<Interfaces><NetworkInterface address="127.0.0.1"/></Interfaces>'
        return f"<General>{interfaces}{multicast}{sizes}</General>"

    def _discovery(self) -> str:
        if self.range is Range.SYSTEM_DEFAULT:
            return ""
        if self.range is Range.OFF:
            # A tag that nobody else has keeps all others away.
            return (
                "<Discovery><ParticipantIndex>none</ParticipantIndex>"
                f"<Tag>superpoint_ros_discovery_off_{os.getpid()}</Tag></Discovery>"
            )
        peers = [*(("localhost",) if self.range is Range.LOCALHOST else ()), *self.static_peers]
        elements = "".join(f"<Peer address={quoteattr(peer)}/>" for peer in peers)
        # The highest index decides how many ports are probed on each peer, so it must be that of the other nodes.
        return (
            f"<Discovery>{_ANNOUNCEMENTS}<ParticipantIndex>auto</ParticipantIndex>"
            f"<MaxAutoParticipantIndex>{_LARGEST_INDEX}</MaxAutoParticipantIndex>"
            f"{f'<Peers>{elements}</Peers>' if elements else ''}</Discovery>"
        )


def _metatraffic_port(domain_id: int, index: int) -> int:
    """Where a participant is found (RTPS 2.5, 9.6.2.3)."""
    return 7400 + 250 * domain_id + 10 + 2 * index


def _taken(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return True
    return False


def _selects_interfaces(uri: str) -> bool:
    """Whether the user's configuration, in the text itself or in a file it names, says which interfaces to use."""
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
