"""Odometry on the real ROS 2: the launch file with a stereo pair, poses, TF, reset, parameters and a clean exit."""

from __future__ import annotations

import unittest

import pytest

pytest.importorskip("rclpy", reason="needs a ROS 2 install in the environment (make test-ros)")
pytest.importorskip("gtsam", reason="the odometry needs the Python package gtsam")

import launch_testing.asserts
import launching
import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry, Path
from rcl_interfaces.srv import DescribeParameters, SetParameters
from rclpy.parameter import Parameter
from room_cameras import CAMERAS, ROOM, RoomCameras
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

from superpoint_ros.odometry import interface
from superpoint_ros.odometry.messages import camera_in_base

NODE = "/rig/superpoint_odometry"
BODY = camera_in_base(0, 0, 0, 0, 0, 0)


@pytest.mark.ros
@pytest.mark.launch_test
def generate_test_description():
    topics = {camera: f"/bar/{camera}/image" for camera in CAMERAS}
    return launching.detector("rig", "odometry.launch.py", stereo="true", **topics)


def true_pose(seconds):
    return BODY @ np.linalg.inv(ROOM.pose(0.0)) @ ROOM.pose(seconds) @ np.linalg.inv(BODY)


class TestOdometry(launching.WithContext):
    def setUp(self):
        topics = {
            "odometry": (f"{NODE}/odometry", Odometry),
            "path": (f"{NODE}/path", Path),
            "tf": ("/tf", TFMessage),
            "diagnostics": ("/diagnostics", DiagnosticArray),
        }
        self.cameras = RoomCameras(self.context, [f"/bar/{camera}" for camera in CAMERAS], topics)
        self.received, self.spin_until = self.cameras.received, self.cameras.spin_until

    def tearDown(self):
        self.cameras.close()

    def call(self, kind, service, request):
        client = self.cameras.node.create_client(kind, f"{NODE}/{service}")
        self.assertTrue(client.wait_for_service(20))
        future = client.call_async(request)
        self.spin_until(future.done)
        return future.result()

    def state(self):
        found = [each for message in self.received["diagnostics"] for each in message.status if NODE[1:] in each.name]
        return found[-1].message if found else ""

    def show(self, seconds):
        """Publish the images of a moment until the odometry answers, as best effort may lose one; its pose."""
        for _ in range(10):
            stamp = self.cameras.show(seconds)
            if found := self.spin_until(lambda stamp=stamp: self.cameras.of("odometry", stamp), 100):
                place = found.pose.pose.position
                return found, np.array([place.x, place.y, place.z])
        raise AssertionError(f"no pose of an image: {self.state()}")

    def test_poses_are_those_of_the_room_and_reset_and_parameters_work(self):
        self.assertTrue(self.spin_until(self.cameras.connected, 1200))
        self.assertTrue(self.spin_until(lambda: self.cameras.infos[0].get_subscription_count() == 2))
        self.assertTrue(self.spin_until(lambda: self.state().startswith("no pose yet: no message on /rig/")))
        for frame in range(12):
            message, place = self.show(frame / 10)
            self.assertLess(np.linalg.norm(place - true_pose(frame / 10)[:3, 3]), 0.02)
        self.assertEqual((message.header.frame_id, message.child_frame_id), ("odom", "base_link"))
        self.assertTrue(np.isfinite(message.pose.covariance).all() and message.pose.covariance[0] > 0)
        self.assertTrue(self.spin_until(lambda: self.state() == "tracking"))

        def transforms():
            found = [each for received in self.received["tf"] for each in received.transforms]
            return [each for each in found if each.header.stamp == message.header.stamp]

        (transform,) = self.spin_until(transforms)
        moved = transform.transform.translation
        np.testing.assert_array_equal([moved.x, moved.y, moved.z], place)
        self.assertTrue(self.spin_until(lambda: self.received["path"]))
        # The frame of the robot is a metre behind the camera.
        answer = self.call(SetParameters, "set_parameters", SetParameters.Request(parameters=[
            Parameter("camera_x", value=1.0).to_parameter_msg(), Parameter("stereo", value=False).to_parameter_msg(),
            Parameter("window", value=1).to_parameter_msg()]))  # fmt: skip
        self.assertEqual([result.successful for result in answer.results], [True, False, False])
        self.assertIn("window", answer.results[2].reason)
        arm, true = np.array([1.0, 0, 0]), true_pose(1.2)
        _, place = self.show(1.2)
        self.assertLess(np.linalg.norm(place - (true[:3, 3] + arm - true[:3, :3] @ arm)), 0.03)
        self.assertTrue(self.call(Trigger, "reset", Trigger.Request()).success)
        _, place = self.show(1.3)
        np.testing.assert_allclose(place, 0, atol=1e-9)

    def test_every_parameter_is_described(self):
        names = [parameter.name for parameter in interface.PARAMETERS]
        answer = self.call(DescribeParameters, "describe_parameters", DescribeParameters.Request(names=names))
        for parameter, descriptor in zip(interface.PARAMETERS, answer.descriptors, strict=True):
            self.assertIn(parameter.description, descriptor.description)
            self.assertEqual(descriptor.read_only, parameter.read_only)


@launch_testing.post_shutdown_test()
class TestAfterwards(unittest.TestCase):
    def test_the_nodes_end_cleanly_on_ctrl_c(self, proc_info):
        launch_testing.asserts.assertExitCodes(proc_info)
