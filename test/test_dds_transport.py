"""Large messages of the standalone host between processes, over real DDS on this machine only."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from contextlib import contextmanager

import numpy as np
import pytest

pytest.importorskip("cyclonedds", reason="cyclonedds, the DDS implementation, is not installed")
pytest.importorskip("rosbags", reason="rosbags, which knows the ROS messages, is not installed")

from superpoint_ros.hosts.dds.node import Node
from superpoint_ros.hosts.wire.typesystem import message_class
from superpoint_ros.node.interface import Qos

IMAGE, FEATURES = "sensor_msgs/msg/Image", "superpoint_ros/msg/Features"
RELIABLE, BEST_EFFORT = Qos(reliable=True, depth=5), Qos(reliable=False, depth=1)
ENVIRON = {name: os.environ[name] for name in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE")}
RATE = 30.0
TIMEOUT = 120.0  # timeout in seconds; one or two suffice on an idle machine


def eventually(condition, seconds=TIMEOUT):
    """Wait until `condition` is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def header(number):
    stamp = message_class("builtin_interfaces/msg/Time")(sec=0, nanosec=0)
    return message_class("std_msgs/msg/Header")(stamp=stamp, frame_id=str(number))


def image(number):
    """900 kB; every byte depends on the number."""
    data = np.full(640 * 480 * 3, number % 251, np.uint8)
    return message_class(IMAGE)(
        header=header(number), height=480, width=640, encoding="bgr8", is_bigendian=0, step=1920, data=data
    )


def features(number, count=1000):
    """1 MB; every number depends on the number."""
    return message_class(FEATURES)(
        header=header(number),
        image_height=480,
        image_width=640,
        weights="default:0123456789ab",
        keypoints=np.full(2 * count, number, np.float32),
        scores=np.full(count, number, np.float32),
        track_ids=np.full(count, number, np.int64),
        track_ages=np.full(count, number, np.uint32),
        coasted=np.zeros(count, bool),
        covariance=np.full(3 * count, number, np.float32),
        camera_model_of_points="",
        normalized=np.zeros(0, np.float32),
        velocity=np.zeros(0, np.float32),
        sizes=np.full(count, number, np.float32),
        levels=np.zeros(count, np.uint8),
        descriptor_size=256,
        descriptor_type=0,
        descriptors=np.full(count * 256, number, np.float32).view(np.uint8),
    )


def is_intact(message):
    number = int(message.header.frame_id)
    if hasattr(message, "step"):
        return len(message.data) == 640 * 480 * 3 and bool((message.data == number % 251).all())
    descriptors = message.descriptors.view(np.float32)
    return len(descriptors) == 256_000 and all((a == number).all() for a in (message.keypoints, descriptors))


def report(pipe, type_name, qos, environ):
    """Send each message's number, negative if damaged, and the end when the writer is gone; runs in its own process."""
    with Node("reporter", environ=environ) as node:
        numbers = []

        def note(message):
            number = int(message.header.frame_id)
            numbers.append(number if is_intact(message) else -number)

        subscription = node.create_subscription("topic", type_name, qos, note)
        pipe.send("ready")
        eventually(lambda: subscription.publisher_count)
        while subscription.publisher_count and not pipe.poll():
            time.sleep(0.02)
        pipe.send(numbers)


@contextmanager
def reporter(type_name, qos, environ=ENVIRON):
    """Start a process that subscribes to "topic"; yield the process and its pipe."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=report, args=(theirs, type_name, qos, dict(environ)))
    process.start()
    try:
        assert ours.poll(TIMEOUT) and ours.recv() == "ready"
        yield process, ours
    finally:
        process.kill()
        process.join()


def publish_all(messages, qos, pipe, environ=ENVIRON):
    """Publish at `RATE` to one reader and return what it received, in order."""
    with Node("camera", environ=environ) as node:
        publisher = node.create_publisher("topic", messages[0].__msgtype__, qos)
        eventually(lambda: publisher.subscription_count)
        time.sleep(0.3)  # the reader may discover the writer slightly later than vice versa
        for message in messages:
            assert publisher.publish(message)
            time.sleep(1 / RATE)
        time.sleep(0.5)
    assert pipe.poll(TIMEOUT)
    return pipe.recv()


@pytest.mark.parametrize(("kind", "make"), [(IMAGE, image), (FEATURES, features)], ids=["image", "features"])
def test_large_messages_arrive_complete_and_in_order_between_processes(kind, make):
    qos = Qos(reliable=True, depth=45)
    with reporter(kind, qos) as (_, pipe):
        assert publish_all([make(number) for number in range(1, 46)], qos, pipe) == list(range(1, 46))


def test_lost_fragments_are_retransmitted():
    """With every tenth datagram dropped, and a reader with Linux's default receive buffer."""
    qos = Qos(reliable=True, depth=30)
    small = {**ENVIRON, "CYCLONEDDS_URI": '<Internal><SocketReceiveBufferSize max="208kB"/></Internal>'}
    lossy = {**ENVIRON, "CYCLONEDDS_URI": "<Internal><Test><XmitLossiness>100</XmitLossiness></Test></Internal>"}
    with reporter(IMAGE, qos, small) as (_, pipe):
        found = publish_all([image(number) for number in range(1, 31)], qos, pipe, lossy)
        assert found == list(range(1, 31))


def test_a_best_effort_reader_receives_from_a_reliable_writer():
    with reporter(IMAGE, BEST_EFFORT) as (_, pipe):
        found = publish_all([image(number) for number in range(1, 31)], RELIABLE, pipe)
        assert found and found == sorted(found)
        assert set(found) <= set(range(1, 31))


@pytest.mark.serial
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="processes cannot be stopped on this system")
def test_a_stopped_reader_blocks_no_writer_and_receives_the_newest_message_when_it_continues():
    with reporter(IMAGE, RELIABLE) as (process, pipe), Node("camera", environ=ENVIRON) as node:
        publisher = node.create_publisher("topic", IMAGE, RELIABLE)
        eventually(lambda: publisher.subscription_count)
        os.kill(process.pid, signal.SIGSTOP)
        durations = []
        for number in range(1, 61):
            message, start = image(number), time.monotonic()
            publisher.publish(message)
            durations.append(time.monotonic() - start)
        os.kill(process.pid, signal.SIGCONT)
        time.sleep(1)
        pipe.send("stop")
        assert pipe.poll(TIMEOUT) and pipe.recv()[-1] == 60
    assert np.median(durations) < 0.05
    assert max(durations) < 1.0
