"""Stereo on the real ROS 2: the launch file, calibrations of both cameras, and depth in the messages."""

from __future__ import annotations

import unittest

import pytest

pytest.importorskip("rclpy", reason="needs a ROS 2 install in the environment (make test-ros)")

import launch_testing.asserts
import launching
import numpy as np
from room_cameras import CAMERAS, ROOM, RoomCameras
from sensor_msgs.msg import PointCloud2
from sensor_msgs_py import point_cloud2
from superpoint_ros.msg import Features, StereoMatches

NODE = "/rig/superpoint_detector"


@pytest.mark.ros
@pytest.mark.launch_test
def generate_test_description():
    topics = {camera: f"/bar/{camera}/image" for camera in CAMERAS}
    return launching.detector("rig", "stereo.launch.py", stereo_slop="0.005", **topics)


class TestStereo(launching.WithContext):
    def setUp(self):
        topics = {
            "features": (f"{NODE}/left/features", Features),
            "matches": (f"{NODE}/stereo_matches", StereoMatches),
            "cloud": (f"{NODE}/left/keypoints_cloud", PointCloud2),
        }
        self.cameras = RoomCameras(self.context, [f"/bar/{camera}" for camera in CAMERAS], topics)

    def tearDown(self):
        self.cameras.close()

    def test_matches_have_the_true_depth_though_the_stamps_differ_by_less_than_the_slop(self):
        cameras = self.cameras
        self.assertTrue(cameras.spin_until(cameras.connected, 1200))
        for _ in range(10):  # images are best effort, so that one may be lost
            stamp = cameras.show(1.0, delay=2_000_000)
            if cameras.spin_until(lambda stamp=stamp: all(cameras.of(key, stamp) for key in cameras.received), 100):
                break
        left, matches, cloud = (cameras.of(key, stamp) for key in cameras.received)
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
