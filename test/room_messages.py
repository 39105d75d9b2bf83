"""What the real detector publishes of the simulated room, as messages for the odometry's tests."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from superpoint_ros.node.detector import Detector
from superpoint_ros.odometry.messages import camera_in_base
from superpoint_ros.simulation.room import Room

SIZE = (240, 320)
RATE = 10
STEP = 10**9 // RATE
BODY = camera_in_base(0, 0, 0, 0, 0, 0)
"""Pose of the camera's optical frame in its body's frame."""


class Course(Room):
    """The room seen along another path: the pose of the left camera by time."""

    def __init__(self, pose_at, **options):
        super().__init__(SIZE, **options)
        self._pose_at = pose_at

    def pose(self, seconds, camera=0):
        pose = self._pose_at(seconds).copy()
        pose[:3, 3] += camera * self.baseline * pose[:3, 0]
        return pose


ROOM = Room(SIZE)


class ToedIn(Room):
    """The room seen by cameras that are turned towards each other; nothing is rectified."""

    def __init__(self, degrees):
        super().__init__(SIZE)
        self.degrees = degrees

    def pose(self, seconds, camera=0):
        pose = super().pose(seconds, camera)
        pose[:3, :3] = pose[:3, :3] @ toe_in(self.degrees, camera)
        return pose


def toe_in(degrees, camera):
    """The rotation of the left (0) or right camera's frame into the rectified one."""
    return Rotation.from_euler("y", -degrees if camera else degrees, degrees=True).as_matrix()


def header(stamp, frame_id="camera"):
    return SimpleNamespace(stamp=SimpleNamespace(sec=stamp // 10**9, nanosec=stamp % 10**9), frame_id=frame_id)


def image_message(stamp, image):
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    size = dict(zip(("height", "width"), grey.shape, strict=True))
    return SimpleNamespace(
        header=header(stamp), **size, encoding="mono8", is_bigendian=0, step=grey.shape[1], data=grey.reshape(-1)
    )


def info_message(room=ROOM, camera=0, scale=1.0, zoom=1.0, degrees=0.0):
    """The calibration of a camera, for images of a focal length that is `scale` times the room's.

    Args:
        zoom: focal length of the rectified image relative to that of the raw one.
        degrees: by which the cameras of a pair are turned towards each other.
    """
    matrix = room.intrinsics * [[scale, scale, 1], [scale, scale, 1], [1, 1, 1]]
    rectified = matrix * [[zoom, zoom, 1], [zoom, zoom, 1], [1, 1, 1]]
    projection = np.column_stack((rectified, [-rectified[0, 0] * room.baseline * camera, 0, 0]))
    region = SimpleNamespace(x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return SimpleNamespace(
        header=header(0), height=SIZE[0], width=SIZE[1], distortion_model="plumb_bob", d=np.zeros(5), binning_x=0,
        binning_y=0, k=matrix.reshape(-1), r=toe_in(degrees, camera).reshape(-1), p=projection.reshape(-1), roi=region,
    )  # fmt: skip


class _Host:
    """Collects what the detector publishes, by stamp and topic."""

    def __init__(self):
        self.moments = {}

    def subscriber_count(self, key, camera):
        return 1

    def publish(self, key, camera, header, fields):
        if key in ("features", "matched_homography", "stereo_matches") and camera in ("", "left"):
            stamp = header.stamp.sec * 10**9 + header.stamp.nanosec
            self.moments.setdefault(stamp, {})[key] = SimpleNamespace(header=header, **fields)

    def now(self):
        return 0

    def warn(self, text):
        raise AssertionError(text)

    def image_topic(self, camera):
        return f"/{camera}/image"


class Camera:
    """A camera or stereo pair with its detector.

    Args:
        stereo: whether there are two cameras.
        values: parameters of the detector.
    """

    def __init__(self, stereo, **values):
        self._cameras = ("left", "right") if stereo else ("",)
        more = {"cameras": list(self._cameras), "stereo": True} if stereo else {}
        self._host = _Host()
        values = {"weights": "light", "max_keypoints": 400, "device": "cpu", **more, **values}
        self._detector = Detector(values, self._host, live=False)
        self.calibrate()

    def calibrate(self, **options):
        for index, camera in enumerate(self._cameras):
            self._detector.set_camera_info(info_message(camera=index, **options), camera)

    def see(self, stamp, *images):
        """The messages of a moment by topic, given the image of each camera."""
        for camera, image in zip(self._cameras, images, strict=True):
            self._detector.submit_image(image_message(stamp, image), camera)
        return self._host.moments[stamp]

    def watch(self, room, times, start=10**9, covered=()):
        """The moments of some times in the room; images are black at those that are covered."""
        found = []
        for index, seconds in enumerate(times):
            images = [room.frame(seconds, camera) for camera in range(len(self._cameras))]
            if index in covered:
                images = [np.zeros_like(image) for image in images]
            found.append(self.see(start + index * STEP, *images))
        return found
