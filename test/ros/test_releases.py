"""Names that differ between releases of ROS 2."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("rclpy", reason="needs a ROS 2 install in the environment (make test-ros)")

pytestmark = pytest.mark.ros

HUMBLE = """
import sys
import rclpy.node  # imports them by the name of the release that is installed
try:
    import rclpy.event_handler as events
except ImportError:
    import rclpy.qos_event as events
for name in {absent!r}, {present!r}:
    sys.modules["rclpy." + name] = None if name == {absent!r} else events
from superpoint_ros.hosts import ros2
assert ros2.PublisherEventCallbacks is events.PublisherEventCallbacks
"""


@pytest.mark.parametrize("names", [("event_handler", "qos_event"), ("qos_event", "event_handler")])
def test_quality_of_service_events_are_found_under_either_name(names):
    code = HUMBLE.format(absent=names[0], present=names[1])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
