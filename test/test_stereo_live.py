"""Stereo over real DDS: two cameras with calibrations, the detector in its own process, depth on the other side."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest

pytest.importorskip("cyclonedds", reason="needs the Python package cyclonedds")
pytest.importorskip("rosbags", reason="needs the Python package rosbags")

from superpoint_ros.hosts.dds.node import Node
from superpoint_ros.hosts.wire.messages import camera_info_message, header_message, image_message
from superpoint_ros.node import interface
from superpoint_ros.node.detector import stamp_to_ns
from superpoint_ros.simulation.room import Room

TIMEOUT = 120.0
DETECTOR = "/rig/superpoint_detector"
RELIABLE = interface.Qos(reliable=True, depth=50)
CAMERAS = ("left", "right")
ROOM = Room((240, 320))
IMAGE, INFO = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo"


@pytest.fixture
def detector():
    words = ["-r", "__ns:=/rig", "-p", "cameras:=[left, right]", "-p", "stereo:=true", "-p", "max_gap:=600.0"]
    command = [sys.executable, "-m", "superpoint_ros", "detector", *words]
    with subprocess.Popen(command, env=dict(os.environ), stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


class Rig:
    """Both cameras, and what the detector publishes."""

    def __init__(self, node):
        self.changed, self.received = threading.Condition(), {}
        self.images = [node.create_publisher(f"/rig/{camera}/image", IMAGE, RELIABLE) for camera in CAMERAS]
        self.infos = [node.create_publisher(f"/rig/{camera}/camera_info", INFO, RELIABLE) for camera in CAMERAS]
        for place, topic in interface.outputs(CAMERAS, stereo=True).items():
            self.received[place] = []
            if topic.type != IMAGE:
                keep = self._keeper(place)
                node.create_subscription(topic.name.replace("~", DETECTOR), topic.type, RELIABLE, keep)

    def _keeper(self, place):
        def keep(message):
            with self.changed:
                self.received[place].append(message)
                self.changed.notify_all()

        return keep

    def wait(self, done):
        with self.changed:
            counts = {place: len(found) for place, found in self.received.items()}
            assert self.changed.wait_for(done, TIMEOUT), counts

    def ready(self):
        self.wait(lambda: self.received["diagnostics", ""])
        deadline = time.monotonic() + TIMEOUT
        while not all(publisher.subscription_count for publisher in self.images + self.infos):
            assert time.monotonic() < deadline, "the detector does not subscribe to both cameras"
            time.sleep(0.02)

    def calibrate(self, cameras=(0, 1)):
        header = header_message(time.time_ns(), "rig")
        for camera in cameras:
            info = camera_info_message(header, ROOM.size, ROOM.intrinsics, ROOM.baseline * camera)
            self.infos[camera].publish(info)
        time.sleep(0.5)  # on its own topic it might arrive after the images

    def show(self, seconds, cameras=(0, 1)):
        """Publish the images of one moment; their stamp, once the features have come."""
        stamp = time.time_ns()
        for camera in cameras:
            grey = cv2.cvtColor(ROOM.frame(seconds, camera), cv2.COLOR_BGR2GRAY)
            self.images[camera].publish(image_message(stamp, CAMERAS[camera], grey))
        for camera in cameras:
            self.wait(lambda camera=camera: self.of(stamp, "features", CAMERAS[camera]))
        return stamp

    def of(self, stamp, key, camera=""):
        return [each for each in self.received[key, camera] if stamp_to_ns(each.header.stamp) == stamp]

    def state(self, camera):
        status = self.received["diagnostics", ""][-1].status
        one = next(each for each in status if each.name.endswith(camera))
        return one.message, {value.key: value.value for value in one.values}


def test_depth_is_right_and_a_camera_that_falls_silent_or_has_no_calibration_costs_no_features(detector):
    with Node("test") as node:
        rig = Rig(node)
        rig.ready()
        rig.calibrate(cameras=(0,))
        stamp = rig.show(0.0)
        rig.wait(lambda: "camera 'right' is not calibrated" in rig.state("left")[0])
        assert not rig.of(stamp, "stereo_matches")
        rig.calibrate()
        for seconds in (0.1, 0.2):
            stamp = rig.show(seconds)
            rig.wait(lambda stamp=stamp: rig.of(stamp, "stereo_matches") and rig.of(stamp, "keypoints_cloud", "left"))
            (message,), (left,) = rig.of(stamp, "stereo_matches"), rig.of(stamp, "features", "left")
            assert message.header == left.header and stamp_to_ns(message.right_stamp) == stamp
            keypoints = left.keypoints.reshape(-1, 2)[message.left_indices]
            places, visible = ROOM.transfer(keypoints, seconds, seconds, cameras=(0, 1))
            depth = ROOM.intrinsics[0, 0] * ROOM.baseline / (keypoints - places)[:, 0]
            assert len(keypoints) > 80 and np.median(np.abs(message.depth / depth - 1)[visible]) < 0.02
            (cloud,) = rig.of(stamp, "keypoints_cloud", "left")
            points = cloud.data.view("<f4").reshape(-1, 4)
            np.testing.assert_array_equal(points[message.left_indices, 2], message.depth)
        rig.show(0.3, cameras=(0,))
        rig.show(0.4)
        rig.wait(lambda: rig.state("left")[1].get("frames without a stereo partner") == "1")
        assert rig.state("right")[1]["frames without a stereo partner"] == "0"
        assert float(rig.state("left")[1]["stereo, median (ms)"]) > 0
    detector.send_signal(signal.SIGINT)
    _, errors = detector.communicate(timeout=TIMEOUT)
    assert detector.returncode == 0 and "Traceback" not in errors
    assert "stereo of /rig/left/image and /rig/right/image: no matches: camera 'right' is not calibrated" in errors
