"""Adapters on the real node: VINS and RTAB-Map receive rclpy's messages of the features."""

from __future__ import annotations

import importlib.util
import struct
import zlib

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs a ROS 2 install in the environment (make test-ros)")

from camera import RELIABLE, Listener
from sensor_msgs.msg import CameraInfo, PointCloud

from superpoint_ros.hosts.ros2.messages import message_class

pytestmark = pytest.mark.ros
IMAGE = "/camera/image_rect"
HAS_RTABMAP = importlib.util.find_spec("rtabmap_msgs") is not None


@pytest.fixture
def connected(context, start):
    """Start the node with an adapter; return a listener that sends the calibration and hears the topics."""
    opened = []

    def connected(adapter, **topics):
        words = ("-p", f"adapters:=[{adapter}]", "-p", "max_gap:=600.0", "-r", f"image:={IMAGE}")
        start(
            "ros2", "run", "superpoint_ros", "detector", "--ros-args", *words, "-r", "camera_info:=/camera/camera_info"
        )
        listener = Listener(context, IMAGE, "/superpoint_detector")
        opened.append(listener)
        for name, kind in topics.items():
            listener._listen(kind, f"/superpoint_detector/{name}", name, RELIABLE)
        listener.connect()
        matrix = [220.0, 0.0, 160.0, 0.0, 220.0, 120.0, 0.0, 0.0, 1.0]
        projection = [220.0, 0.0, 160.0, 0.0, 0.0, 220.0, 120.0, 0.0, 0.0, 0.0, 1.0, 0.0]
        listener.spin_until(listener.info.get_subscription_count)
        listener.calibration = CameraInfo(height=240, width=320, k=matrix, p=projection, distortion_model="plumb_bob")
        return listener

    yield connected
    for listener in opened:
        listener.close()


def test_vins_receives_the_tracks_of_an_image(connected):
    listener = connected("vins", vins_features=PointCloud, vins_mono_features=PointCloud)

    def matching():
        for cloud in listener.received["vins_features"]:
            for features in listener.received["features"]:
                if cloud.points and cloud.header.stamp == features.header.stamp:
                    return cloud, features
        return None

    listener.exchange_until(matching)
    cloud, features = matching()
    sent = np.array(cloud.channels[0].values, np.int64)
    tracked = np.isin(np.array(features.track_ids), sent)
    older = np.array(features.track_ages) > 0
    assert not (tracked & ~older).any() and len(sent) > 0.9 * np.count_nonzero(older)
    assert [channel.name for channel in cloud.channels[:6]] == ["id", "camera_id", "u", "v", "velocity_x", "velocity_y"]
    assert sent.tolist() == np.array(features.track_ids)[tracked].tolist() and len(cloud.channels) == 9
    pixels = np.array(features.keypoints).reshape(-1, 2)[tracked]
    np.testing.assert_array_equal(np.column_stack([cloud.channels[index].values for index in (2, 3)]), pixels)
    points = np.array([[point.x, point.y, point.z] for point in cloud.points])
    np.testing.assert_allclose(points[:, :2] * 220 + [160, 120], pixels, atol=1e-3)
    assert (points[:, 2] == 1).all() and len(listener.received["vins_mono_features"]) > 0


@pytest.mark.skipif(not HAS_RTABMAP, reason="needs the ROS package rtabmap_msgs")
def test_rtabmap_receives_an_image_with_its_features(connected):
    listener = connected("rtabmap", rgbd_image=message_class("rtabmap_msgs/msg/RGBDImage"))
    listener.exchange_until(lambda: listener.received["rgbd_image"])
    message = listener.received["rgbd_image"][-1]
    (features,) = [one for one in listener.received["features"] if one.header.stamp == message.header.stamp]
    points = [value for one in message.key_points for value in (one.pt.x, one.pt.y)]
    np.testing.assert_array_equal(np.float32(points), features.keypoints)
    packed = bytes(message.descriptors)
    assert struct.unpack("<iii", packed[-12:]) == (len(features.scores), features.descriptor_size, 5)
    assert zlib.decompressobj().decompress(packed) == bytes(features.descriptors)
    assert len(message.rgb.data) == 240 * 320 and message.rgb_camera_info.p[0] == 220
    assert list(message.rgb_camera_info.d) == [0] * 5 and not message.points
