"""The standalone host with programs that are not ROS nodes, or unusual ones, over real DDS."""

from __future__ import annotations

import logging
import multiprocessing
import os
import socket
import time
from contextlib import contextmanager

import numpy as np
import pytest

pytest.importorskip("cyclonedds", reason="cyclonedds, the DDS implementation, is not installed")
pytest.importorskip("rosbags", reason="rosbags, which knows the ROS messages, is not installed")

from plain_dds_camera import plain_camera

from superpoint_ros.hosts.dds import endpoint
from superpoint_ros.hosts.dds.node import Node
from superpoint_ros.hosts.wire.messages import image_message
from superpoint_ros.hosts.wire.typesystem import deserialize, message_class, serialize
from superpoint_ros.node.errors import StandaloneError
from superpoint_ros.node.interface import Qos

IMAGE, COMPRESSED, STRING = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "std_msgs/msg/String"
RELIABLE, BEST_EFFORT = Qos(reliable=True, depth=5), Qos(reliable=False, depth=5)
ENVIRON = {"ROS_DOMAIN_ID": str(2 + os.getpid() % 8), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
FULL = 11
"""An unused domain."""


def eventually(condition, seconds=20.0):
    """Wait until `condition` is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


@contextmanager
def process(target):
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, dict(ENVIRON)))
    process.start()
    try:
        assert ours.poll(60) and ours.recv() == "ready"
        yield
        ours.send("stop")
        process.join(20)
    finally:
        process.kill()
        process.join()


def test_a_program_that_announces_the_true_type_structure_is_matched_by_type_name():
    received = []
    with Node("one", environ=ENVIRON) as node:
        node.create_subscription("image", IMAGE, BEST_EFFORT, received.append)
        other = node.create_subscription("image", COMPRESSED, BEST_EFFORT, received.append)
        with process(plain_camera):
            eventually(lambda: len(received) > 3, 30)
            assert other.publisher_count == 0
    assert {message.__msgtype__ for message in received} == {IMAGE}
    assert received[0].data.tolist() == [1, 2, 3, 4, 5, 6] and received[0].header.frame_id == "camera"


def test_readers_and_writers_of_different_types_on_one_topic_do_not_match():
    with Node("one", environ=ENVIRON) as one, Node("two", environ=ENVIRON) as two:
        publisher = one.create_publisher("image", COMPRESSED, RELIABLE)
        wrong = two.create_subscription("image", IMAGE, RELIABLE, print)
        right = two.create_subscription("image", COMPRESSED, RELIABLE, print)
        eventually(lambda: publisher.subscription_count)
        eventually(lambda: right.publisher_count)
        assert (wrong.publisher_count, right.publisher_count, publisher.subscription_count) == (0, 1, 1)


def test_incompatible_qos_is_reported_once_on_both_sides():
    with Node("one", environ=ENVIRON) as one:
        publisher = one.create_publisher("image", IMAGE, BEST_EFFORT)
        subscription = one.create_subscription("image", IMAGE, RELIABLE, print)
        for end in (publisher, subscription):
            assert end.topic == "/image"
            eventually(lambda end=end: end.incompatible_policy() == "reliability")
            assert end.incompatible_policy() == ""


def test_a_full_domain_is_an_error_with_the_remedy():
    taken = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(33)]
    try:
        for index, one in enumerate(taken):
            one.bind(("", 7400 + 250 * FULL + 10 + 2 * index))
        with pytest.raises(
            StandaloneError, match=r"all 33 participants .* are running.*ROS_DOMAIN_ID.*MaxAuto"
        ) as found:
            Node("one", environ={**ENVIRON, "ROS_DOMAIN_ID": str(FULL)})
        assert "CYCLONEDDS_URI is" not in str(found.value)
    finally:
        for one in taken:
            one.close()


@pytest.mark.parametrize(
    "text", [b"camera", b"cam\xffra", b"\xe4\xb8m\xffra", b"\xff\xfe\xfd\xfc\xfb\xfa", "Röntge".encode()[:6]]
)
def test_text_that_is_not_utf_8_is_read_as_rclpy_reads_it(text):
    picture = np.arange(16, dtype=np.uint8).reshape(4, 4)
    data = serialize(image_message(5, "x" * len(text), picture), IMAGE).replace(b"x" * len(text), text)
    message = deserialize(data, IMAGE)
    assert message.header.frame_id == text.decode(errors="replace")
    assert message.encoding == "mono8" and message.data.tolist() == list(range(16))


def test_unreadable_messages_are_reported_and_the_next_one_is_received(monkeypatch):
    received, problems = [], []
    with Node("one", environ=ENVIRON) as node:
        publisher = node.create_publisher("topic", STRING, RELIABLE)
        node.create_subscription("topic", STRING, RELIABLE, received.append, problems.append)
        eventually(lambda: publisher.subscription_count)
        with monkeypatch.context() as patch:
            patch.setattr(endpoint.typesystem, "serialize", lambda *_: b"\0\1\0\0" + (1000).to_bytes(4, "little"))
            publisher.publish("a string that is said to be longer than it is")
        publisher.publish(message_class(STRING)(data="good"))
        eventually(lambda: received)
    assert [message.data for message in received] == ["good"]
    assert len(problems) == 1 and "are not a message of type std_msgs/msg/String" in str(problems[0])


def test_without_a_handler_a_reader_logs_one_sentence_in_five_seconds(caplog):
    handled = []

    def callback(message):
        handled.append(message)
        raise RuntimeError("cannot work with this")

    with Node("one", environ=ENVIRON) as node, caplog.at_level(logging.INFO):
        publisher = node.create_publisher("topic", STRING, RELIABLE)
        node.create_subscription("topic", STRING, RELIABLE, callback)
        eventually(lambda: publisher.subscription_count)
        for _ in range(5):
            publisher.publish(message_class(STRING)(data="bad"))
        eventually(lambda: len(handled) == 5)
    assert caplog.text.count("cannot work with this") == 1 and "Traceback" not in caplog.text
