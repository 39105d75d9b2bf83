"""The detector node in a test, frame by frame: its host, its clock, and images of a camera."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from superpoint_ros.node import detector as module
from superpoint_ros.node.detector import Detector
from superpoint_ros.node.diagnostics import CameraHealth
from superpoint_ros.node.warnings import ThrottledWarnings


class Clock:
    """A clock that the test advances."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Host:
    """A host that records all outputs, with subscribers on all of them except those `without`."""

    def __init__(self, broken=(), without=()):
        self.published, self.warnings, self.broken, self.without = [], [], broken, without

    def subscriber_count(self, key, camera):
        return int(key not in self.without)

    def publish(self, key, camera, header, fields):
        if key in self.broken:
            raise RuntimeError("no room")
        self.published.append((key, fields))

    def now(self):
        return 0

    def warn(self, text):
        self.warnings.append(text)

    def image_topic(self, camera):
        return "/camera/image"

    def of(self, key):
        return [fields for name, fields in self.published if name == key]


def replace_clock(monkeypatch):
    """Replace the clock of warnings and diagnostics."""
    clock = Clock()
    monkeypatch.setattr(module, "ThrottledWarnings", lambda warn, **more: ThrottledWarnings(warn, clock))
    monkeypatch.setattr(module, "CameraHealth", lambda: CameraHealth(clock))
    return clock


def create_detector(weights, host, **values):
    """A detector that processes each frame before `submit_image` returns."""
    return Detector({"weights": str(weights), "device": "cpu", **values}, host, live=False)


def create_picture(grey, number, **fields):
    image = np.ascontiguousarray(grey[number : number + 240, :320])
    header = SimpleNamespace(stamp=SimpleNamespace(sec=1, nanosec=number * 1000), frame_id="camera")
    return SimpleNamespace(
        **{"header": header, "height": 240, "width": 320, "encoding": "mono8", "is_bigendian": 0, "step": 320,
           "data": image.reshape(-1), **fields}
    )  # fmt: skip


def state(detector):
    (found,) = detector.diagnostics()
    return found
