"""The real command in its own process, with a camera and a subscriber around it, over real DDS."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

from superpoint_ros.hosts.dds.node import Node
from superpoint_ros.hosts.wire.messages import image_message
from superpoint_ros.node import interface
from superpoint_ros.node.detector import stamp_to_ns

TIMEOUT = 120.0  # timeout in seconds; one or two suffice on an idle machine
DETECTOR = "/front/superpoint_detector"
RELIABLE = interface.Qos(reliable=True, depth=50)


class Inbox:
    """Collects received messages by key, from any thread."""

    def __init__(self, keys):
        self.changed = threading.Condition()
        self.received = {key: [] for key in keys}

    def keeper(self, key):
        def keep(message):
            with self.changed:
                self.received[key].append(message)
                self.changed.notify_all()

        return keep

    def wait(self, done, timeout=TIMEOUT):
        with self.changed:
            assert self.changed.wait_for(done, timeout), {key: len(found) for key, found in self.received.items()}


class Graph(Inbox):
    """A camera and a subscriber around a running detector."""

    def __init__(self, process):
        super().__init__(topic.key for topic in interface.OUTPUTS)
        self.process = process
        self.node = Node("test")
        self.image = self.node.create_publisher("/camera/image", "sensor_msgs/msg/Image", RELIABLE)
        self.compressed = self.node.create_publisher(
            "/camera/image/compressed", "sensor_msgs/msg/CompressedImage", RELIABLE
        )
        for topic in interface.OUTPUTS:
            if topic.key != "image_annotated":
                name = topic.name.replace("~", DETECTOR)
                self.node.create_subscription(name, topic.type, RELIABLE, self.keeper(topic.key))

    def ready(self):
        self.wait(lambda: self.received["diagnostics"])
        deadline = time.monotonic() + TIMEOUT
        while not (self.image.subscription_count or self.compressed.subscription_count):
            assert time.monotonic() < deadline, "the detector does not subscribe"
            time.sleep(0.02)
        return self

    def exchange(self, picture, stamp=None, publisher=None):
        """Publish an image or a whole message; return its features and homography."""
        stamp = stamp or time.time_ns()
        message = picture if hasattr(picture, "header") else image_message(stamp, "camera_optical", picture)
        (publisher or self.image).publish(message)
        stamp = stamp_to_ns(message.header.stamp)
        found = {}

        def arrived():
            for key in ("features", "matched_homography"):
                found[key] = [m for m in self.received[key] if stamp_to_ns(m.header.stamp) == stamp]
            return all(found.values())

        self.wait(arrived)
        return found["features"][0], found["matched_homography"][0]

    def counters(self):
        """Wait for the next diagnostics and return their counters."""
        count = len(self.received["diagnostics"])
        self.wait(lambda: len(self.received["diagnostics"]) > count)
        values = self.received["diagnostics"][-1].status[0].values
        return {v.key: int(v.value) for v in values if v.key in ("received", "processed", "dropped", "failed")}


@contextmanager
def detectors():
    """Start the command as `process(*words)`, or as `graph(*words)` with a camera and a subscriber around it."""
    processes, graphs = [], []

    def start(*words, threads=0):
        command = [sys.executable, "-m", "superpoint_ros", "detector", "-r", "image:=/camera/image"]
        command += ["-r", "__ns:=/front", "-p", "max_gap:=600.0", *words]
        environ = {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
        process = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        return process

    def graph(*words, threads=0):
        graphs.append(Graph(start(*words, threads=threads)))
        return graphs[-1].ready()

    yield SimpleNamespace(process=start, graph=graph)
    for one in graphs:
        one.node.close()
    for process in processes:
        process.kill()
        process.communicate()
