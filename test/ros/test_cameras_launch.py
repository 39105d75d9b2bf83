"""Several cameras in one node: the launch file, topics of each camera, common diagnostics."""

from __future__ import annotations

import unittest

import pytest

pytest.importorskip("rclpy", reason="needs a ROS 2 install in the environment (make test-ros)")

import launch_testing.asserts
import launching
from camera import Listener
from sensor_msgs.msg import CameraInfo
from sensor_msgs_py import point_cloud2
from superpoint_ros.msg import MatchedHomography

NODE = "/rig/superpoint_detector"
CAMERAS = ("left", "right")


@pytest.mark.ros
@pytest.mark.launch_test
def generate_test_description():
    return launching.detector("rig", cameras=" ".join(CAMERAS), image="image_rect")


class TestCameras(launching.WithContext):
    def setUp(self):
        self.listeners = {
            camera: Listener(self.context, f"/rig/{camera}/image_rect", f"{NODE}/{camera}") for camera in CAMERAS
        }
        for listener in self.listeners.values():
            listener.connect()

    def tearDown(self):
        for listener in self.listeners.values():
            listener.close()

    def test_each_camera_is_matched_with_its_own_previous_frame_and_has_its_own_diagnostics(self):
        stamps = {}
        for turn in range(3):
            for camera, listener in self.listeners.items():
                features, homography = listener.exchange()
                self.assertEqual(features.header, homography.header)
                if turn:
                    self.assertEqual(homography.status, MatchedHomography.OK)
                    self.assertEqual(homography.reference_stamp, stamps[camera])
                stamps[camera] = homography.header.stamp
        listener = self.listeners["left"]
        names = {f"{NODE[1:]}: front end {camera}" for camera in CAMERAS}

        def states():
            return {status.name: status for message in listener.received["diagnostics"] for status in message.status}

        def counts():
            values = [{value.key: value.value for value in states()[name].values} for name in names & set(states())]
            return len(values) == 2 and all(int(one["processed"]) >= 3 for one in values)

        self.assertTrue(listener.spin_until(counts, 20))
        self.assertEqual(set(states()), names)

    def test_the_calibration_of_one_camera_does_not_affect_the_other(self):
        info = CameraInfo(height=240, width=320, distortion_model="plumb_bob", d=[0.0] * 5)
        info.k = [200.0, 0.0, 159.5, 0.0, 200.0, 119.5, 0.0, 0.0, 1.0]
        left, right = self.listeners.values()
        self.assertTrue(left.spin_until(left.info.get_subscription_count, 20))
        left.info.publish(info)

        def depth(listener):
            listener.received["keypoints_cloud"].clear()
            listener.exchange()
            clouds = listener.received["keypoints_cloud"]
            listener.spin_until(lambda: clouds, 5)
            points = [point_cloud2.read_points_numpy(cloud, ("x", "y", "z", "score")) for cloud in clouds]
            return float(points[-1][0, 2]) if points and len(points[-1]) else None

        self.assertTrue(left.spin_until(lambda: depth(left) == 1.0, 30))
        self.assertTrue(right.spin_until(lambda: depth(right) == 0.0, 30))


@launch_testing.post_shutdown_test()
class TestAfterwards(unittest.TestCase):
    def test_the_node_exits_cleanly_on_ctrl_c(self, proc_info):
        launch_testing.asserts.assertExitCodes(proc_info)
