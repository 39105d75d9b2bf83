"""Odometry on the real ROS 2 with a single camera: the launch file, no pose before it has moved, and poses after."""

from __future__ import annotations

import unittest

import pytest

pytest.importorskip("rclpy", reason="needs a ROS 2 install in the environment (make test-ros)")
pytest.importorskip("gtsam", reason="the odometry needs the Python package gtsam")

import launch_testing.asserts
import launching
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
from room_cameras import RoomCameras

NODE = "/front/superpoint_odometry"


@pytest.mark.ros
@pytest.mark.launch_test
def generate_test_description():
    return launching.detector("front", "odometry.launch.py", image="/baz/image")


class TestOdometry(launching.WithContext):
    def setUp(self):
        topics = {"odometry": (f"{NODE}/odometry", Odometry), "diagnostics": ("/diagnostics", DiagnosticArray)}
        self.cameras = RoomCameras(self.context, ["/baz"], topics)

    def tearDown(self):
        self.cameras.close()

    def state(self):
        status = [each for message in self.cameras.received["diagnostics"] for each in message.status]
        return next((each.message for each in reversed(status) if NODE[1:] in each.name), "")

    def test_poses_begin_when_the_camera_has_moved(self):
        cameras, odometry = self.cameras, self.cameras.received["odometry"]
        self.assertTrue(cameras.spin_until(cameras.connected, 1200))
        self.assertTrue(cameras.spin_until(lambda: cameras.infos[0].get_subscription_count() == 2))
        for _ in range(60):  # images are best effort, so that the first ones may be lost
            cameras.show(0.0)
            if self.state() == "initialising: the camera has not moved enough to tell depth":
                break
        self.assertEqual(self.state(), "initialising: the camera has not moved enough to tell depth")
        self.assertFalse(odometry)
        for frame in range(1, 60):
            cameras.show(frame / 10)
            if len(odometry) > 5:
                break
        self.assertTrue(cameras.spin_until(lambda: self.state() == "tracking"), self.state())


@launch_testing.post_shutdown_test()
class TestAfterwards(unittest.TestCase):
    def test_the_nodes_end_cleanly_on_ctrl_c(self, proc_info):
        launch_testing.asserts.assertExitCodes(proc_info)
