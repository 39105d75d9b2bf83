"""A signal ends a node cleanly, whenever it arrives."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="needs a ROS 2 install in the environment (make test-ros)")

import rclpy
from rclpy.node import Node

from superpoint_ros.hosts.ros2.node import run

pytestmark = pytest.mark.ros
STEPS = {
    "another node": lambda node: Node("late"),
    "a timer": lambda node: node.create_timer(1.0, lambda: None),
    "waiting": lambda node: node.create_guard_condition(lambda: None),
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_shutdown_just_before_rclpy_uses_its_context_is_a_clean_exit(step, capsys):
    def create():
        node = Node("early")
        rclpy.shutdown()  # as the signal handler does
        with pytest.raises(Exception) as raised:
            step(node)
        raise raised.value

    assert run(create, "early", []) == 0
    assert capsys.readouterr().err == ""


def test_other_errors_are_not_taken_for_a_shutdown():
    def create():
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        run(create, "early", [])
