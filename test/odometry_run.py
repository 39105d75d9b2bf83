"""The odometry node in a test: what it makes of messages of the simulated room, against the true path."""

from __future__ import annotations

import numpy as np
from room_messages import BODY, RATE, STEP, info_message
from scipy.spatial.transform import Rotation

from superpoint_ros.odometry.node import OdometryNode

START = 10**9
STEREO = {"stereo": True, "camera": "left"}
DRIFT = 0.03
"""Metres that a step may be off; a frame moves by about 0.02."""


class Host:
    """Collects what the odometry publishes; everything has a subscriber."""

    def __init__(self):
        self.published, self.warnings = [], []

    def subscriber_count(self, key):
        return 1

    def publish(self, key, fields):
        self.published.append((key, fields))

    def warn(self, text):
        self.warnings.append(text)

    def input_name(self, key):
        return f"/input/{key}"

    def of(self, key):
        return [fields for name, fields in self.published if name == key]


class Run:
    """A node, and the state after each moment that it was given."""

    def __init__(self, clock=None, calibrated=True, **values):
        self.host = Host()
        more = {"clock": clock} if clock else {}
        self.node = OdometryNode(values, self.host, live=clock is not None, **more)
        self.states = []
        if calibrated:
            self.node.submit("camera_info", info_message())

    def feed(self, moments, only=None):
        for moment in moments:
            for key, message in moment.items():
                if only is None or key in only:
                    self.node.submit(key, message)
            self.states.append(self.node.latest.state if self.node.latest else None)
        return self

    def poses(self):
        """The (4, 4) published poses by stamp; none of them, nor any other number, is anything but finite."""
        found = {}
        for fields in self.host.of("odometry"):
            pose, quaternion = np.eye(4), fields["pose"]["pose"]["orientation"]
            pose[:3, :3] = Rotation.from_quat([quaternion[axis] for axis in "xyzw"]).as_matrix()
            pose[:3, 3] = list(fields["pose"]["pose"]["position"].values())
            found[fields["header"]["stamp"]] = pose
            twist = [list(part.values()) for part in fields["twist"]["twist"].values()]
            covariances = fields["pose"]["covariance"], fields["twist"]["covariance"]
            for numbers in (pose, twist, *covariances):
                assert np.isfinite(numbers).all()
            assert all((np.diag(each.reshape(6, 6)) >= 0).all() for each in covariances)
        return found

    def state(self):
        (found,) = self.node.diagnostics()
        return found


def truth(room, stamps, start=START):
    """The true poses of the camera's body by stamp, in the frame of the first."""
    first = np.linalg.inv(room.pose(0.0))
    return {s: BODY @ first @ room.pose((s - start) * 1e-9) @ np.linalg.inv(BODY) for s in stamps}


def check_steps(run, room, tolerance=DRIFT, start=START):
    """Each step between two poses that follow each other is the true one."""
    poses = run.poses()
    true = truth(room, poses, start)
    for before, now in zip(poses, list(poses)[1:], strict=False):
        if now - before == STEP:
            step, expected = (np.linalg.inv(each[before]) @ each[now] for each in (poses, true))
            assert np.linalg.norm(step[:3, 3] - expected[:3, 3]) < tolerance, (before, now)
            turn = Rotation.from_matrix(step[:3, :3].T @ expected[:3, :3]).magnitude()
            assert np.degrees(turn) < 1.0, (before, now)
    return poses, true


def seconds(count, first=0):
    return np.arange(first, first + count) / RATE
