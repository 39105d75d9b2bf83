"""Measure the transport of features between two processes, over DDS on the loopback interface."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.connection import Connection
from typing import Any, Protocol

import numpy as np

from superpoint_ros.benchmark.measure import summary
from superpoint_ros.features import Features, Homography, Matches, Status
from superpoint_ros.frontend.frames import Frame, FrameResult
from superpoint_ros.node import interface
from superpoint_ros.node.messages import DESCRIPTOR_TYPES, features_fields, features_from_message

PERIOD = 1 / 30
"""Seconds between two messages, as with a camera."""

_LABEL = "benchmark:000000000000"
_WARM_UP = 5
_TIMEOUT = 30.0


def loopback() -> dict[str, str]:
    """Return an environment for nodes that are invisible outside this machine."""
    return {
        **{name: value for name, value in os.environ.items() if name != "ROS_STATIC_PEERS"},
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    }


def namespace() -> str:
    """Return a namespace for this process's nodes, which keeps them apart from others."""
    return f"/superpoint_bench_{os.getpid()}"


class Publisher(Protocol):
    """A host's publisher of features."""

    def matched(self) -> int:
        """Return the number of matched subscribers."""

    def fill(self, number: int, fields: Mapping[str, Any]) -> Any:
        """Build a message from these fields, with `number` as the nanoseconds of its stamp."""

    def publish(self, message: Any) -> None: ...

    def serialize(self, message: Any) -> bytes: ...

    def deserialize(self, data: bytes) -> Any: ...


class Host(Protocol):
    """Creates a publisher, and a subscription in another process, as context managers."""

    def publisher(self, namespace: str) -> AbstractContextManager[Publisher]: ...

    def subscription(self, namespace: str, take: Callable[[Any], None]) -> AbstractContextManager[Callable[[], int]]:
        """Subscribe; the context's value returns the number of matched publishers."""


class Standalone:
    """The host without ROS 2.

    Raises:
        StandaloneError: if cyclonedds or rosbags is not installed.
    """

    @contextmanager
    def publisher(self, namespace: str) -> Iterator[Publisher]:
        from superpoint_ros.hosts.dds.node import Node

        topic = interface.topic("features")
        with Node("publisher", namespace, environ=loopback()) as node:
            yield _StandalonePublisher(node.create_publisher("~/features", topic.type, topic.qos), topic.type)

    @contextmanager
    def subscription(self, namespace: str, take: Callable[[Any], None]) -> Iterator[Callable[[], int]]:
        from superpoint_ros.hosts.dds.node import Node

        topic = interface.topic("features")
        with Node("subscriber", namespace, environ=loopback()) as node:
            found = node.create_subscription(f"{namespace}/publisher/features", topic.type, topic.qos, take)
            yield lambda: found.publisher_count


class _StandalonePublisher:
    def __init__(self, publisher: Any, type_name: str) -> None:
        from superpoint_ros.hosts.wire import messages, typesystem

        self._messages, self._typesystem = messages, typesystem
        self._publisher, self._type = publisher, type_name

    def matched(self) -> int:
        return int(self._publisher.subscription_count)

    def fill(self, number: int, fields: Mapping[str, Any]) -> Any:
        return self._messages.create_message(self._type, self._messages.header_message(number, "camera"), fields)

    def publish(self, message: Any) -> None:
        self._publisher.publish(message)

    def serialize(self, message: Any) -> bytes:
        return bytes(self._typesystem.serialize(message, self._type))

    def deserialize(self, data: bytes) -> Any:
        return self._typesystem.deserialize(data, self._type)


def measure_middleware(
    keypoints: int = 1000, descriptor_size: int = 256, messages: int = 60, host: Host | None = None
) -> dict[str, Any]:
    """Measure durations in milliseconds (see `measure.summary`) by descriptor type, for the features of one image.

    `fill` converts features to a message; `serialise` and `deserialise` are the CDR conversions alone; `publish` is the
    time that publish() blocks; `total` is from before `fill` until the subscriber, in another process, has the features
    as arrays. `bytes` is the size of the message.

    Args:
        host: picklable; default: the host without ROS 2.
    """
    results: dict[str, Any] = {"keypoints": keypoints, "descriptor_size": descriptor_size}
    result = _random_features(keypoints, descriptor_size)
    for descriptor_type in DESCRIPTOR_TYPES:
        results[descriptor_type] = _measure_type(result, descriptor_type, messages, host or Standalone())
    return results


def _measure_type(result: FrameResult, descriptor_type: str, messages: int, host: Host) -> dict[str, Any]:
    filling, publishing, starts = [], [], []
    with _Subscriber(host) as subscriber, host.publisher(namespace()) as publisher:
        subscriber.await_ready(publisher.matched)
        for number in range(messages + _WARM_UP):
            begin = time.monotonic()
            message = publisher.fill(number, features_fields(result, _LABEL, descriptor_type))
            done = time.monotonic()
            publisher.publish(message)
            publishing.append(time.monotonic() - done)
            filling.append(done - begin)
            starts.append(begin)
            time.sleep(PERIOD)
        arrivals = subscriber.arrivals()
        data = publisher.serialize(message)
        serialising = _time_repeatedly(lambda: publisher.serialize(message), messages)
        deserialising = _time_repeatedly(lambda: publisher.deserialize(data), messages)
    counted = range(_WARM_UP, messages + _WARM_UP)
    totals = [arrivals[number] - starts[number] for number in counted if number in arrivals]
    figures = {
        "fill": filling[_WARM_UP:],
        "serialise": serialising,
        "publish": publishing[_WARM_UP:],
        "deserialise": deserialising,
    }
    return {
        "bytes": len(data),
        "sent": messages,
        "received": len(totals),
        **{name: summary(values) for name, values in figures.items()},
        "total": summary(totals) if totals else None,
    }


def _time_repeatedly(work: Callable[[], Any], times: int) -> list[float]:
    durations = []
    for _ in range(times):
        start = time.monotonic()
        work()
        durations.append(time.monotonic() - start)
    return durations


def _random_features(count: int, size: int) -> FrameResult:
    random = np.random.default_rng(0)
    descriptors = random.standard_normal((count, size), dtype=np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    keypoints = random.uniform(0, 480, (count, 2)).astype(np.float32)
    scores = np.sort(random.random(count, dtype=np.float32))[::-1].copy()
    features = Features(keypoints, scores, descriptors, (480, 640))
    image = np.zeros((480, 640), np.uint8)
    frame = Frame(0, lambda: image)
    none = Homography.failed(Status.FIRST_FRAME)
    return FrameResult(frame, image, features, np.arange(count), None, 0, Matches.empty(), none)


class _Subscriber:
    """A subscriber to this process's features, in a process of its own."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def __enter__(self) -> _Subscriber:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_subscribe, args=(theirs, self._host, namespace()), daemon=True)
        self._process.start()
        theirs.close()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.terminate()
        self._process.join()

    def await_ready(self, matched: Callable[[], int]) -> None:
        """Wait until publisher and subscriber have discovered each other."""
        self._receive()
        self._await(matched)
        self._pipe.send("matched")
        self._receive()

    def arrivals(self) -> Mapping[int, float]:
        """Return the times of arrival by number."""
        self._pipe.send("finish")
        return dict(self._receive())

    def _receive(self) -> Any:
        try:
            if self._pipe.poll(_TIMEOUT):
                return self._pipe.recv()
        except EOFError:
            pass
        raise OSError("the benchmark's subscriber process stopped or did not answer")

    def _await(self, condition: Callable[[], int]) -> None:
        end = time.monotonic() + _TIMEOUT
        while not condition():
            if time.monotonic() > end:
                raise OSError("the benchmark's two processes did not find each other over DDS on this machine")
            time.sleep(0.01)


def _subscribe(pipe: Connection, host: Host, where: str) -> None:
    arrived: list[tuple[int, float]] = []

    def note(message: Any) -> None:
        features = features_from_message(message)
        now = time.monotonic()
        if len(features):
            arrived.append((int(message.header.stamp.nanosec), now))

    with host.subscription(where, note) as matched:
        pipe.send("ready")
        pipe.recv()
        while not matched():
            time.sleep(0.01)
        pipe.send("matched")
        pipe.recv()
        time.sleep(0.5)  # for messages in transit
        pipe.send(arrived)
