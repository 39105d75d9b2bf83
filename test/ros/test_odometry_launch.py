"""Odometry on the real ROS 2: the launch file with a stereo pair, poses, TF, reset, parameters and a clean exit."""

from __future__ import annotations

import unittest

import pytest

pytest.importorskip("rclpy", reason="needs a ROS 2 install in the environment (make test-ros)")
pytest.importorskip("gtsam", reason="the odometry needs the Python package gtsam")

import launch_testing.asserts
import launching
import numpy as np
from camera import RELIABLE
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry, Path
from rcl_interfaces.srv import DescribeParameters, SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

from superpoint_ros.io.images import to_grey
from superpoint_ros.odometry import interface
from superpoint_ros.odometry.messages import camera_in_base
from superpoint_ros.simulation.room import Room

NODE = "/rig/superpoint_odometry"
CAMERAS = ("left", "right")
ROOM = Room((240, 320))
BODY = camera_in_base(0, 0, 0, 0, 0, 0)


@pytest.mark.ros
@pytest.mark.launch_test
def generate_test_description():
    topics = {camera: f"/bar/{camera}/image" for camera in CAMERAS}
    return launching.detector("rig", "odometry.launch.py", stereo="true", **topics)


def camera_info(camera):
    info = CameraInfo(height=ROOM.size[0], width=ROOM.size[1], distortion_model="plumb_bob", d=[0.0] * 5)
    projection = np.zeros((3, 4))
    projection[:, :3] = ROOM.intrinsics
    projection[0, 3] = -ROOM.intrinsics[0, 0] * ROOM.baseline * camera
    info.k, info.r, info.p = (matrix.reshape(-1).tolist() for matrix in (ROOM.intrinsics, np.eye(3), projection))
    return info


def true_position(seconds):
    return (BODY @ np.linalg.inv(ROOM.pose(0.0)) @ ROOM.pose(seconds))[:3, 3]


class TestOdometry(launching.WithContext):
    def setUp(self):
        self.node = Node("odometry_test", context=self.context)
        self.received = {"odometry": [], "path": [], "tf": [], "diagnostics": []}
        for name, kind, topic in (
            ("odometry", Odometry, f"{NODE}/odometry"),
            ("path", Path, f"{NODE}/path"),
            ("tf", TFMessage, "/tf"),
            ("diagnostics", DiagnosticArray, "/diagnostics"),
        ):
            self.node.create_subscription(kind, topic, self.received[name].append, RELIABLE)
        self.images = [self.node.create_publisher(Image, f"/bar/{camera}/image", RELIABLE) for camera in CAMERAS]
        self.infos = [self.node.create_publisher(CameraInfo, f"/bar/{name}/camera_info", RELIABLE) for name in CAMERAS]
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def tearDown(self):
        self.executor.shutdown()
        self.node.destroy_node()

    def spin_until(self, done, turns=400):
        for _ in range(turns):
            if found := done():
                return found
            self.executor.spin_once(timeout_sec=0.05)
        return None

    def call(self, kind, service, request):
        client = self.node.create_client(kind, f"{NODE}/{service}")
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
            stamp = self.node.get_clock().now().nanoseconds
            for camera in range(2):
                self.infos[camera].publish(camera_info(camera))
            self.spin_until(lambda: False, 2)
            for camera in range(2):
                grey = to_grey(ROOM.frame(seconds, camera))
                message = Image(height=ROOM.size[0], width=ROOM.size[1], encoding="mono8", step=ROOM.size[1])
                message.data.frombytes(grey.tobytes())
                message.header.frame_id = CAMERAS[camera]
                message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
                self.images[camera].publish(message)

            def answer(stamp=stamp):
                time = divmod(stamp, 10**9)
                return next((m for m in self.received["odometry"] if (m.header.stamp.sec, m.header.stamp.nanosec) ==
                             time), None)  # fmt: skip

            if found := self.spin_until(answer, 100):
                place = found.pose.pose.position
                return found, np.array([place.x, place.y, place.z])
        raise AssertionError(f"no pose of an image: {self.state()}")

    def test_poses_are_those_of_the_room_and_reset_and_parameters_work(self):
        publishers = self.images + self.infos
        self.assertTrue(self.spin_until(lambda: all(each.get_subscription_count() for each in publishers), 1200))
        self.assertTrue(self.spin_until(lambda: self.infos[0].get_subscription_count() == 2))
        self.assertTrue(self.spin_until(lambda: self.state().startswith("no pose yet: no message on /rig/")))
        for frame in range(12):
            message, place = self.show(frame / 10)
            self.assertLess(np.linalg.norm(place - true_position(frame / 10)), 0.02)
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
        arm = np.array([1.0, 0, 0])
        turn = (BODY @ np.linalg.inv(ROOM.pose(0.0)) @ ROOM.pose(1.2) @ np.linalg.inv(BODY))[:3, :3]
        _, place = self.show(1.2)
        self.assertLess(np.linalg.norm(place - (true_position(1.2) + arm - turn @ arm)), 0.03)
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
