"""Measure the transport of features between two rclpy processes, as the ROS 2 node publishes them.

    source install/setup.bash
    RMW_IMPLEMENTATION=rmw_cyclonedds_cpp python benchmarks/ros_messages.py

Prints a table in Markdown. All traffic stays on this machine.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from superpoint_ros.benchmark.middleware import loopback, measure_middleware
from superpoint_ros.benchmark.report import messages
from superpoint_ros.node import interface

DEPTH = interface.topic("features").qos.depth


class Rclpy:
    """A `middleware.Host` in rclpy."""

    @contextmanager
    def publisher(self, namespace: str) -> Iterator[RclpyPublisher]:
        with node("publisher", namespace) as opened:
            yield RclpyPublisher(opened)

    @contextmanager
    def subscription(self, namespace: str, take: Callable[[Any], None]) -> Iterator[Callable[[], int]]:
        from superpoint_ros.msg import Features

        with node("subscriber", namespace) as opened:
            name = f"{namespace}/publisher/features"
            opened.create_subscription(Features, name, take, DEPTH)
            yield lambda: opened.count_publishers(name)


class RclpyPublisher:
    """A `middleware.Publisher` in rclpy."""

    def __init__(self, opened: Any) -> None:
        from superpoint_ros.msg import Features

        self._message = Features
        self._publisher = opened.create_publisher(Features, "~/features", DEPTH)

    def matched(self) -> int:
        return int(self._publisher.get_subscription_count())

    def fill(self, number: int, fields: Mapping[str, Any]) -> Any:
        from superpoint_ros.hosts.ros2.messages import fill_message

        message = fill_message(self._message(), fields)
        message.header.stamp.nanosec = number
        return message

    def publish(self, message: Any) -> None:
        self._publisher.publish(message)

    def serialize(self, message: Any) -> bytes:
        from rclpy.serialization import serialize_message

        return bytes(serialize_message(message))

    def deserialize(self, data: bytes) -> Any:
        from rclpy.serialization import deserialize_message

        return deserialize_message(data, self._message)


@contextmanager
def node(name: str, namespace: str) -> Iterator[Any]:
    """Create a node that spins on its own thread."""
    import rclpy
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

    context = rclpy.Context()
    rclpy.init(context=context)
    opened = rclpy.create_node(name, namespace=namespace, context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(opened)

    def spin() -> None:
        try:
            executor.spin()
        except ExternalShutdownException:
            pass

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    try:
        yield opened
    finally:
        rclpy.shutdown(context=context)
        thread.join()
        opened.destroy_node()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keypoints", type=int, default=1000, help="(default: %(default)s)")
    parser.add_argument("--descriptor-size", type=int, default=256, help="(default: %(default)s)")
    parser.add_argument("--messages", type=int, default=60, help="number per descriptor type (default: %(default)s)")
    options = parser.parse_args()
    environ = loopback()  # without this environment's static peers
    os.environ.clear()
    os.environ.update(environ)
    try:
        import rclpy

        found = measure_middleware(options.keypoints, options.descriptor_size, options.messages, Rclpy())
    except ImportError as error:
        print(f"ros_messages.py: needs a shell with ROS 2 and this package's messages: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"ros_messages.py: {error}", file=sys.stderr)
        return 1
    print(f"{rclpy.get_rmw_implementation_identifier()}, {options.keypoints} keypoints\n\n{messages(found)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
