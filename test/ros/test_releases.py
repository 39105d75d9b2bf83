"""Names that differ between ROS 2 releases."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("rclpy", reason="needs a ROS 2 install in the environment (make test-ros)")

pytestmark = pytest.mark.ros

HUMBLE = """
import sys
import rclpy.node  # imports the events under the name of the installed release
try:
    import rclpy.event_handler as events
except ImportError:
    import rclpy.qos_event as events
sys.modules |= {"rclpy.event_handler": None, "rclpy.qos_event": events}
from superpoint_ros.hosts.ros2 import node
assert node.PublisherEventCallbacks is events.PublisherEventCallbacks
"""


def test_quality_of_service_events_are_found_under_the_name_of_humble():
    done = subprocess.run([sys.executable, "-c", HUMBLE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
