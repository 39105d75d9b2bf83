"""Cameras in the simulated room, for the tests of stereo and odometry on the real ROS 2."""

from __future__ import annotations

import numpy as np
from camera import RELIABLE
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image

from superpoint_ros.io.images import to_grey
from superpoint_ros.simulation.room import Room

ROOM = Room((240, 320))
CAMERAS = ("left", "right")


def _camera_info(camera):
    info = CameraInfo(height=ROOM.size[0], width=ROOM.size[1], distortion_model="plumb_bob", d=[0.0] * 5)
    projection = np.zeros((3, 4))
    projection[:, :3] = ROOM.intrinsics
    projection[0, 3] = -ROOM.intrinsics[0, 0] * ROOM.baseline * camera
    info.k, info.r, info.p = (matrix.reshape(-1).tolist() for matrix in (ROOM.intrinsics, np.eye(3), projection))
    return info


class RoomCameras:
    """A node that publishes what cameras see and collects what others publish.

    Args:
        context: of rclpy.
        folders: of the topics `image` and `camera_info` of each camera, as in "/bar/left".
        topics: name and type of each topic to collect, by key.
    """

    def __init__(self, context, folders, topics):
        self.node = Node("room_cameras", context=context)
        self.received = {key: [] for key in topics}
        for key, (name, kind) in topics.items():
            self.node.create_subscription(kind, name, self.received[key].append, RELIABLE)
        self.images = [self.node.create_publisher(Image, f"{folder}/image", RELIABLE) for folder in folders]
        self.infos = [self.node.create_publisher(CameraInfo, f"{folder}/camera_info", RELIABLE) for folder in folders]
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)

    def close(self):
        self._executor.shutdown()
        self.node.destroy_node()

    def spin_until(self, done, turns=400):
        """Spin until `done()` is true; return its last value."""
        for _ in range(turns):
            if found := done():
                return found
            self._executor.spin_once(timeout_sec=0.05)
        return done()

    def connected(self):
        return all(publisher.get_subscription_count() for publisher in self.images + self.infos)

    def show(self, seconds, delay=0):
        """Publish calibrations and images of a moment, the right one stamped `delay` nanoseconds later; the stamp."""
        stamp = self.node.get_clock().now().nanoseconds
        for camera, info in enumerate(self.infos):
            info.publish(_camera_info(camera))
        self.spin_until(lambda: False, 4)  # on its own topic it might arrive after the images
        for camera, images in enumerate(self.images):
            grey = to_grey(ROOM.frame(seconds, camera))
            message = Image(height=ROOM.size[0], width=ROOM.size[1], encoding="mono8", step=ROOM.size[1])
            message.data.frombytes(grey.tobytes())
            message.header.frame_id = CAMERAS[camera]
            sec, nanosec = divmod(stamp + delay * camera, 10**9)
            message.header.stamp.sec, message.header.stamp.nanosec = sec, nanosec
            images.publish(message)
        return stamp

    def of(self, key, stamp):
        """The message of a topic with this stamp, if it has arrived."""
        time = divmod(stamp, 10**9)
        stamped = ((each, each.header.stamp) for each in self.received[key])
        return next((each for each, found in stamped if (found.sec, found.nanosec) == time), None)
