"""The odometry over real DDS: a stereo camera in the room, the detector and the odometry as processes of their own."""

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

pytest.importorskip("gtsam", reason="the odometry needs the Python package gtsam")
pytest.importorskip("cyclonedds", reason="needs the Python package cyclonedds")
pytest.importorskip("rosbags", reason="needs the Python package rosbags")

from room_messages import BODY, RATE, ROOM
from scipy.spatial.transform import Rotation

from superpoint_ros.hosts.dds.node import Node
from superpoint_ros.hosts.wire.messages import camera_info_message, header_message, image_message
from superpoint_ros.node.declarations import Qos
from superpoint_ros.node.detector import stamp_to_ns
from superpoint_ros.odometry import interface

TIMEOUT = 120.0
RELIABLE = Qos(reliable=True, depth=50)
CAMERAS = ("left", "right")
ODOMETRY = "/rig/superpoint_odometry"
IMAGE, INFO = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo"


@pytest.fixture
def start():
    """Start a command in the namespace /rig."""
    processes = []

    def start(*words):
        command = [sys.executable, "-m", "superpoint_ros", *words, "-r", "__ns:=/rig"]
        processes.append(subprocess.Popen(command, env=dict(os.environ), stderr=subprocess.PIPE, text=True))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


class Rig:
    """Both cameras, and what the odometry publishes."""

    def __init__(self, node):
        self.changed = threading.Condition()
        self.received = {topic.key: [] for topic in interface.OUTPUTS}
        self.images = [node.create_publisher(f"/rig/{camera}/image", IMAGE, RELIABLE) for camera in CAMERAS]
        self.infos = [node.create_publisher(f"/rig/{camera}/camera_info", INFO, RELIABLE) for camera in CAMERAS]
        for topic in interface.OUTPUTS:
            node.create_subscription(topic.name.replace("~", ODOMETRY), topic.type, RELIABLE, self._keeper(topic.key))
        self.truth = {}

    def _keeper(self, key):
        def keep(message):
            with self.changed:
                self.received[key].append(message)
                self.changed.notify_all()

        return keep

    def wait(self, done):
        with self.changed:
            counts = {key: len(found) for key, found in self.received.items()}
            assert self.changed.wait_for(done, TIMEOUT), (counts, self.state("superpoint_odometry"))

    def state(self, node):
        found = [status for message in self.received["diagnostics"] for status in message.status if node in status.name]
        return found[-1] if found else None

    def values(self):
        return {value.key: value.value for value in self.state("odometry").values}

    def ready(self):
        self.wait(lambda: self.state("superpoint_detector") and self.state("superpoint_odometry"))
        deadline = time.monotonic() + TIMEOUT
        # Calibrations go to the detector, the left one's to the odometry as well.
        while not (all(each.subscription_count for each in self.images + self.infos)
                   and self.infos[0].subscription_count == 2):  # fmt: skip
            assert time.monotonic() < deadline, "not all topics are subscribed to"
            time.sleep(0.02)

    def calibrate(self):
        for index, camera in enumerate(CAMERAS):
            header = header_message(time.time_ns(), camera)
            self.infos[index].publish(camera_info_message(header, ROOM.size, ROOM.intrinsics, ROOM.baseline * index))
        time.sleep(0.5)  # on its own topic it might arrive after the images

    def show(self, seconds, black=False):
        """Publish the images of one moment; return their stamp."""
        stamp = time.time_ns()
        self.truth[stamp] = seconds
        for index, camera in enumerate(CAMERAS):
            grey = cv2.cvtColor(ROOM.frame(seconds, index), cv2.COLOR_BGR2GRAY) * (not black)
            self.images[index].publish(image_message(stamp, camera, grey))
        return stamp

    def pose(self, stamp):
        """Wait for the pose of a moment, with its transform; (4, 4)."""
        self.wait(lambda: any(stamp_to_ns(m.header.stamp) == stamp for m in self.received["odometry"]))
        (message,) = (m for m in self.received["odometry"] if stamp_to_ns(m.header.stamp) == stamp)
        self.wait(lambda: any(stamp_to_ns(t.header.stamp) == stamp for t in self.transforms()))
        (transform,) = (t for t in self.transforms() if stamp_to_ns(t.header.stamp) == stamp)
        place, turn = message.pose.pose.position, message.pose.pose.orientation
        moved = transform.transform.translation
        assert (moved.x, moved.y, moved.z) == (place.x, place.y, place.z)
        assert (transform.header.frame_id, transform.child_frame_id) == ("odom", "base_link")
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_quat([turn.x, turn.y, turn.z, turn.w]).as_matrix()
        pose[:3, 3] = place.x, place.y, place.z
        return pose

    def transforms(self):
        return [transform for message in self.received["tf"] for transform in message.transforms]


def true_pose(seconds):
    return BODY @ np.linalg.inv(ROOM.pose(0.0)) @ ROOM.pose(seconds) @ np.linalg.inv(BODY)


def test_poses_of_a_live_pair_are_those_of_the_room_and_a_covered_camera_is_lost_and_found(start):
    start("detector", "-p", "cameras:=[left, right]", "-p", "stereo:=true", "-p", "max_gap:=600.0",
          "-p", "weights:=light", "-p", "max_keypoints:=400")  # fmt: skip
    odometry = start("odometry", "-p", "stereo:=true", "-p", "camera:=left", "-p", "lost_after:=600.0")
    with Node("test") as node:
        rig = Rig(node)
        rig.ready()
        assert "no pose yet: no message on /rig/superpoint_detector/left/features" in rig.state("odometry").message
        rig.calibrate()
        length, errors = 0.0, []
        for frame in range(20):
            pose, true = rig.pose(rig.show(frame / RATE)), true_pose(frame / RATE)
            length += np.linalg.norm(true[:3, 3] - true_pose(max(frame - 1, 0) / RATE)[:3, 3])
            errors.append(np.linalg.norm(pose[:3, 3] - true[:3, 3]))
            assert np.degrees(Rotation.from_matrix(pose[:3, :3].T @ true[:3, :3]).magnitude()) < 0.5
        assert max(errors) < 0.02 * length
        rig.wait(lambda: rig.values().get("tracking, total") == "20")
        assert rig.state("odometry").message == "tracking" and rig.values()["scale"] == "metres"
        assert rig.state("odometry").name == "rig/superpoint_odometry: odometry" and rig.state("odometry").level == 0
        rig.wait(lambda: len(rig.received["path"]) > 0)
        for frame in range(20, 23):
            dark = rig.show(frame / RATE, black=True)
            time.sleep(0.2)
        rig.wait(lambda: rig.state("odometry").message.startswith("lost: fewer than 15 known points are seen"))
        assert rig.state("odometry").level == 2
        pose, true = rig.pose(rig.show(2.3)), true_pose(2.3)
        assert np.linalg.norm(pose[:3, 3] - true[:3, 3]) < 0.03
        assert not [m for m in rig.received["odometry"] if stamp_to_ns(m.header.stamp) == dark]
        rig.wait(lambda: rig.state("odometry").message == "tracking")
    odometry.send_signal(signal.SIGINT)
    _, printed = odometry.communicate(timeout=TIMEOUT)
    assert odometry.returncode == 0 and "Traceback" not in printed
    assert "/rig/superpoint_odometry: waiting for features on /rig/superpoint_detector/left/features" in printed


def test_a_wrong_parameter_stops_the_program_with_one_sentence(command):
    done = command("odometry", "-p", "noise:=0")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "parameter 'noise' is 0, allowed is a number from 0.01 to 10" in done.stderr
