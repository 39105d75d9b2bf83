"""Nodes, publishers and subscriptions of the standalone host, over real DDS on this machine only."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip("cyclonedds", reason="cyclonedds, the DDS implementation, is not installed")
pytest.importorskip("rosbags", reason="rosbags, which knows the ROS messages, is not installed")

from superpoint_ros.hosts.dds.discovery import Discovery
from superpoint_ros.hosts.dds.endpoint import Subscription
from superpoint_ros.hosts.dds.node import Node
from superpoint_ros.hosts.dds.participant import Participant
from superpoint_ros.hosts.wire.typesystem import message_class
from superpoint_ros.node.errors import StandaloneError
from superpoint_ros.node.interface import Qos

STRING = "std_msgs/msg/String"
RELIABLE, BEST_EFFORT = Qos(reliable=True, depth=5), Qos(reliable=False, depth=1)
ENVIRON = {name: os.environ[name] for name in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE")}


TIMEOUT = 120.0  # timeout in seconds; one or two suffice on an idle machine


def eventually(condition, seconds=TIMEOUT):
    """Wait until `condition` is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def test_a_reliable_reader_does_not_match_a_best_effort_writer():
    with Node("one", environ=ENVIRON) as node:
        publisher = node.create_publisher("topic", STRING, BEST_EFFORT)
        node.create_subscription("topic", STRING, BEST_EFFORT, print)
        node.create_subscription("topic", STRING, RELIABLE, print)
        eventually(lambda: publisher.subscription_count == 1)


def test_a_node_keeps_announcing_itself_to_addresses_that_have_not_answered():
    """Otherwise a lost datagram could prevent discovery for ever."""
    metatraffic_port_of_index_20 = 7400 + 250 * int(ENVIRON["ROS_DOMAIN_ID"]) + 10 + 2 * 20  # RTPS 2.5, 9.6.2.3
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", metatraffic_port_of_index_20))
        other.settimeout(TIMEOUT)
        with Node("one", environ=ENVIRON):
            announcements = [other.recv(65536) for _ in range(3)]
    assert all(datagram.startswith(b"RTPS") for datagram in announcements)
    assert len({datagram[8:20] for datagram in announcements}) == 1  # all of one participant


def test_an_exception_in_a_callback_is_logged_and_the_next_message_still_comes(caplog):
    received = threading.Event()

    def callback(message):
        if message.data == "bad":
            raise RuntimeError("cannot work with this")
        received.set()

    with Node("one", environ=ENVIRON) as node, caplog.at_level(logging.ERROR):
        publisher = node.create_publisher("topic", STRING, RELIABLE)
        node.create_subscription("topic", STRING, RELIABLE, callback)
        eventually(lambda: publisher.subscription_count)
        publisher.publish(message_class(STRING)(data="bad"))
        publisher.publish(message_class(STRING)(data="good"))
        assert received.wait(TIMEOUT)
    assert "cannot work with this" in caplog.text


def test_subscribers_are_counted_as_they_come_and_go():
    with Node("one", environ=ENVIRON) as one, Node("two", environ=ENVIRON) as two:
        publisher = one.create_publisher("topic", STRING, RELIABLE)
        assert publisher.subscription_count == 0
        subscriptions = [two.create_subscription("topic", STRING, RELIABLE, print) for _ in range(2)]
        eventually(lambda: publisher.subscription_count == 2 and subscriptions[0].publisher_count == 1)
        subscriptions[0].close()
        eventually(lambda: publisher.subscription_count == 1)
        two.close()
        eventually(lambda: publisher.subscription_count == 0)


def test_after_close_nothing_is_delivered_published_or_created():
    received = []
    node = Node("one", environ=ENVIRON)
    publisher = node.create_publisher("topic", STRING, RELIABLE)
    subscription = node.create_subscription("topic", STRING, RELIABLE, received.append)
    eventually(lambda: publisher.subscription_count)
    subscription.close()
    publisher.publish(message_class(STRING)(data="unheard"))
    node.close()
    node.close()
    assert publisher.publish(message_class(STRING)(data="late")) is False
    assert publisher.subscription_count == 0
    assert received == []
    with pytest.raises(StandaloneError, match="node /one is closed"):
        node.create_publisher("topic", STRING, RELIABLE)


def test_a_subscription_may_be_closed_in_its_own_callback():
    received = []
    with Node("one", environ=ENVIRON) as node:
        publisher = node.create_publisher("topic", STRING, RELIABLE)

        def once(message):
            received.append(message.data)
            subscription.close()

        subscription = node.create_subscription("topic", STRING, RELIABLE, once)
        eventually(lambda: publisher.subscription_count)
        for text in ("first", "second"):
            publisher.publish(message_class(STRING)(data=text))
        eventually(lambda: publisher.subscription_count == 0)
    assert received == ["first"]


def test_the_node_announces_its_name_and_endpoints_as_they_come_and_go():
    received = []
    observer = Participant(Discovery.from_environment(ENVIRON))
    kind = "rmw_dds_common/msg/ParticipantEntitiesInfo"
    graph = Subscription(observer, "ros_discovery_info", kind, Qos(reliable=True, depth=100), received.append)

    def latest():
        nodes = received[-1].node_entities_info_seq if received else []
        return [
            (
                info.node_namespace,
                info.node_name,
                [gid.data.tobytes() for gid in info.writer_gid_seq],
                [gid.data.tobytes() for gid in info.reader_gid_seq],
            )
            for info in nodes
        ]

    try:
        with Node("detector", "/robot", environ=ENVIRON) as node:
            publisher = node.create_publisher("~/out", STRING, RELIABLE)
            subscription = node.create_subscription("in", STRING, RELIABLE, print)
            eventually(lambda: latest() == [("/robot", "detector", [publisher.gid], [subscription.gid])])
            publisher.close()
            eventually(lambda: latest() == [("/robot", "detector", [], [subscription.gid])])
        eventually(lambda: latest() == [])
    finally:
        graph.close()
        observer.close()


def test_a_process_without_close_exits_at_once():
    code = (
        "from superpoint_ros.node.interface import Qos\n"
        "from superpoint_ros.hosts.dds.node import Node\n"
        f"node = Node('one', environ={ENVIRON!r})\n"
        f"node.create_subscription('topic', {STRING!r}, Qos(True, 5), print)\n"
        f"node.create_publisher('topic', {STRING!r}, Qos(True, 5))\n"
        "raise SystemExit(7)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=TIMEOUT, check=False).returncode == 7


@pytest.mark.parametrize("package", ["cyclonedds", "rosbags"])
def test_a_missing_package_is_named_with_its_installation(package):
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from superpoint_ros.hosts.dds.node import Node\n"
        f"Node('one', environ={ENVIRON!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert f"StandaloneError: package '{package}' is not installed" in done.stderr
    assert f"pip install {package}" in done.stderr


def test_nodes_of_one_process_must_agree_on_discovery():
    with (
        Node("one", environ=ENVIRON),
        pytest.raises(StandaloneError, match=f"already in domain {ENVIRON['ROS_DOMAIN_ID']}"),
    ):
        Node("two", environ={**ENVIRON, "ROS_STATIC_PEERS": "127.0.0.1"})


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("a//b", STRING, RELIABLE), "topic name 'a//b' is invalid"),
        (("topic", "std_msgs/msg/Nonsense", RELIABLE), "message type 'std_msgs/msg/Nonsense' is unknown"),
        (("topic", STRING, Qos(reliable=True, depth=0)), "history depth is 0, allowed is an integer from 1"),
    ],
)
def test_an_invalid_endpoint_is_rejected_in_one_sentence(arguments, sentence):
    with Node("one", environ=ENVIRON) as node:
        with pytest.raises(StandaloneError, match=sentence):
            node.create_publisher(*arguments)
        with pytest.raises(StandaloneError, match=sentence):
            node.create_subscription(*arguments, print)


def test_a_configuration_that_cyclone_dds_rejects_is_named():
    bad = {**ENVIRON, "CYCLONEDDS_URI": "<General><Nonsense>1</Nonsense></General>"}
    with pytest.raises(StandaloneError, match=r"CYCLONEDDS_URI is .*Nonsense"):
        Node("one", environ=bad)
