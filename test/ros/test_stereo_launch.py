"""Stereo on the real ROS 2: the launch file, calibrations of both cameras, and depth in the messages."""

from __future__ import annotations

import unittest

import pytest

pytest.importorskip("rclpy", reason="needs a ROS 2 install in the environment (make test-ros)")

import launch_testing.asserts
import launching
import numpy as np
from camera import RELIABLE
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from sensor_msgs_py import point_cloud2
from superpoint_ros.msg import Features, StereoMatches

from superpoint_ros.io.images import to_grey
from superpoint_ros.simulation.room import Room

NODE = "/rig/superpoint_detector"
CAMERAS = ("left", "right")
ROOM = Room((240, 320))


@pytest.mark.ros
@pytest.mark.launch_test
def generate_test_description():
    topics = {camera: f"/bar/{camera}/image" for camera in CAMERAS}
    return launching.detector("rig", "stereo.launch.py", stereo_slop="0.005", **topics)


def camera_info(camera):
    info = CameraInfo(height=ROOM.size[0], width=ROOM.size[1], distortion_model="plumb_bob", d=[0.0] * 5)
    projection = np.zeros((3, 4))
    projection[:, :3] = ROOM.intrinsics
    projection[0, 3] = -ROOM.intrinsics[0, 0] * ROOM.baseline * camera
    info.k, info.r, info.p = (matrix.reshape(-1).tolist() for matrix in (ROOM.intrinsics, np.eye(3), projection))
    return info


class TestStereo(launching.WithContext):
    def setUp(self):
        self.node = Node("rig_test", context=self.context)
        self.received = {"features": [], "matches": [], "cloud": []}
        for name, kind, topic in (
            ("features", Features, f"{NODE}/left/features"),
            ("matches", StereoMatches, f"{NODE}/stereo_matches"),
            ("cloud", PointCloud2, f"{NODE}/left/keypoints_cloud"),
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
            if done():
                return True
            self.executor.spin_once(timeout_sec=0.05)
        return False

    def complete_moment(self):
        """The messages of the first moment of which everything has arrived; an image may have been lost before it."""
        for left in self.received["features"]:
            found = [[each for each in self.received[name] if each.header == left.header] for name in self.received]
            if all(found):
                return tuple(each[0] for each in found)
        return None

    def test_matches_have_the_true_depth_though_the_stamps_differ_by_less_than_the_slop(self):
        publishers = self.images + self.infos
        self.assertTrue(self.spin_until(lambda: all(each.get_subscription_count() for each in publishers), 1200))
        for _ in range(10):  # images are best effort, so that one may be lost
            stamp = self.node.get_clock().now().nanoseconds
            for camera in range(2):
                self.infos[camera].publish(camera_info(camera))
            self.spin_until(lambda: False, 4)
            for camera in range(2):
                grey = to_grey(ROOM.frame(1.0, camera))
                message = Image(height=ROOM.size[0], width=ROOM.size[1], encoding="mono8", step=ROOM.size[1])
                message.data.frombytes(grey.tobytes())
                message.header.frame_id = CAMERAS[camera]
                sec, nanosec = divmod(stamp + 2_000_000 * camera, 10**9)
                message.header.stamp.sec, message.header.stamp.nanosec = sec, nanosec
                self.images[camera].publish(message)
            if self.spin_until(self.complete_moment, 100):
                break
        left, matches, cloud = self.complete_moment()
        self.assertEqual(matches.header.frame_id, "left")
        self.assertNotEqual(matches.right_stamp, matches.header.stamp)
        keypoints = np.array(left.keypoints).reshape(-1, 2)[np.array(matches.left_indices)]
        self.assertGreater(len(keypoints), 80)
        places, visible = ROOM.transfer(keypoints, 1.0, 1.0, cameras=(0, 1))
        depth = ROOM.intrinsics[0, 0] * ROOM.baseline / (keypoints - places)[:, 0]
        error = np.abs(np.array(matches.depth) / depth - 1)[visible]
        self.assertLess(float(np.median(error)), 0.02)
        self.assertTrue(all(matches.refined))
        points = point_cloud2.read_points_numpy(cloud, ("x", "y", "z", "score"))
        self.assertEqual(np.count_nonzero(np.isfinite(points[:, 2])), len(keypoints))


@launch_testing.post_shutdown_test()
class TestAfterwards(unittest.TestCase):
    def test_the_node_ends_cleanly_on_ctrl_c(self, proc_info):
        launch_testing.asserts.assertExitCodes(proc_info)
