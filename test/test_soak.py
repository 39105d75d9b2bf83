"""Broken input of every kind among good frames, on the real command in its own process, over real DDS.

It takes some seconds. `make soak` runs for ten minutes and prints the figures (SOAK_SECONDS=3600: an hour).
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from itertools import cycle

import cv2
import numpy as np
import pytest

pytest.importorskip("cyclonedds", reason="needs the Python package cyclonedds")
pytest.importorskip("rosbags", reason="needs the Python package rosbags")

import broken_input

from superpoint_ros.hosts.dds import endpoint
from superpoint_ros.hosts.dds.node import Node
from superpoint_ros.node.detector import stamp_to_ns
from superpoint_ros.node.interface import Qos
from superpoint_ros.simulation.flight import Flight

SECONDS = float(os.environ.get("SOAK_SECONDS", "10"))
TIMEOUT = 120.0  # timeout in seconds; one or two suffice on an idle machine
RATE, EVERY = 30, 3  # broken messages per second on each topic, and after how many of them comes a good frame
INTERVAL = 5.0  # seconds between two warnings of a kind
MOST_GROWTH = 20e6  # bytes; keeping the broken images alone would be 23 MB in ten seconds
RELIABLE = Qos(reliable=True, depth=20)
FIRST_FRAME = 1
LIBJPEG = ("Corrupt JPEG data", "Premature end of JPEG file")
"""Messages that OpenCV's libjpeg writes to stderr for each damaged image; they cannot be disabled."""


class Detector:
    """A live node with a camera that sends good and broken messages, and its results."""

    def __init__(self, name, node, weights, kind, topic, good, broken, words=()):
        self.name, self.good = name, good
        command = [sys.executable, "-m", "superpoint_ros", "detector", "-r", f"__ns:=/{name}", *words]
        command += ["-p", f"weights:={weights}", "-p", "max_keypoints:=200", "-p", "precision:=float32"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.lines, self.rss, self.answers = [], [], {"features": {}, "matched_homography": {}}
        self.clouds, self.diagnostics, self.sent = 0, None, []
        self.changed = threading.Condition()
        self.reading = threading.Thread(target=lambda: self.lines.extend(self.process.stderr), daemon=True)
        self.reading.start()
        prefix = f"/{name}/superpoint_detector"
        for key, message in (("features", "Features"), ("matched_homography", "MatchedHomography")):
            node.create_subscription(f"{prefix}/{key}", f"superpoint_ros/msg/{message}", RELIABLE, self._keeper(key))
        node.create_subscription(f"{prefix}/keypoints_cloud", "sensor_msgs/msg/PointCloud2", RELIABLE, self._cloud)
        node.create_subscription("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", RELIABLE, self._diagnostics)
        self.image = node.create_publisher(f"/{name}/{topic}", kind, RELIABLE)
        self.info = node.create_publisher(f"/{name}/camera_info", broken_input.INFO, RELIABLE)
        self._broken, self._calibrations = cycle(broken.values()), cycle(broken_input.CALIBRATIONS.values())

    def _keeper(self, key):
        def keep(message):
            with self.changed:
                self.answers[key][stamp_to_ns(message.header.stamp)] = message
                self.changed.notify_all()

        return keep

    def _cloud(self, message):
        self.clouds += 1

    def _diagnostics(self, message):
        for status in message.status:
            if status.name.startswith(f"{self.name}/"):
                self.diagnostics = {value.key: value.value for value in status.values}

    def ready(self):
        end = time.monotonic() + TIMEOUT
        while not (self.diagnostics and self.image.subscription_count and self.info.subscription_count):
            assert time.monotonic() < end and self.process.poll() is None, self.lines
            time.sleep(0.05)

    def send_broken(self, picture):
        self.info.publish(next(self._calibrations)(time.time_ns(), picture))
        self.image.publish(next(self._broken)(time.time_ns(), picture))

    def send_good(self, picture):
        stamp = time.time_ns()
        self.image.publish(self.good(stamp, picture))
        self.sent.append(stamp)

    def wait(self):
        """Wait for the results of the last good frame; a live node drops a waiting frame when a newer one arrives."""
        stamp = self.sent[-1]
        with self.changed:
            assert self.changed.wait_for(lambda: all(stamp in found for found in self.answers.values()), TIMEOUT), (
                f"{self.name}: good frame {len(self.sent)} has no answer; {self.lines[-5:]}"
            )

    def measure(self, now):
        with open(f"/proc/{self.process.pid}/statm") as file:
            self.rss.append((now, int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")))

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(TIMEOUT)
        self.reading.join(TIMEOUT)
        return code


@pytest.fixture
def detectors(tiny_weights, monkeypatch):
    original = endpoint.typesystem.serialize
    monkeypatch.setattr(
        endpoint.typesystem,
        "serialize",
        lambda message, kind: message if type(message) is bytes else original(message, kind),
    )
    with Node("soak") as node:
        found = [
            Detector("raw", node, tiny_weights, broken_input.IMAGE, "image", broken_input.image, broken_input.IMAGES),
            Detector("compressed", node, tiny_weights, broken_input.COMPRESSED, "image/compressed",
                     broken_input.compressed, broken_input.COMPRESSED_IMAGES,
                     ["-p", "image_transport:=compressed"]),
        ]  # fmt: skip
        try:
            for one in found:
                one.ready()
            yield found
        finally:
            for one in found:
                one.process.kill()
                one.process.wait()


@pytest.mark.serial
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_good_frames_among_broken_input_are_processed_with_few_warnings_in_constant_memory(detectors, photograph):
    flight = Flight(photograph, size=(240, 320))
    pictures = [cv2.cvtColor(flight.frame(i / 10), cv2.COLOR_BGR2GRAY) for i in range(20)]
    began = now = time.monotonic()
    step = 0
    while now < began + SECONDS:
        for one in detectors:
            one.send_broken(pictures[step % 20])
        if step % EVERY == 0:
            for one in detectors:
                one.send_good(pictures[step // EVERY % 20])
            for one in detectors:
                one.wait()
        if step % RATE == 0:
            for one in detectors:
                one.measure(now)
        step += 1
        time.sleep(max(0.0, began + step / RATE - time.monotonic()))
        now = time.monotonic()
    seconds = now - began
    time.sleep(1.5)  # for the diagnostics of the last second
    for one in detectors:
        assert one.stop() == 0, one.lines
        report(one, step, seconds)
        check(one, time.monotonic() - began)


def growth(one):
    """Estimate the growth of a process in bytes after the first third of the time, by a linear fit."""
    times, sizes = np.array(one.rss).T
    later = times >= times[0] + (times[-1] - times[0]) / 3
    slope, _ = np.polyfit(times[later], sizes[later], 1)
    return slope * (times[-1] - times[later][0])


def warnings(one):
    """Count the warnings of each kind."""
    kinds = Counter()
    for line in one.lines:
        if line.startswith(LIBJPEG):
            continue
        kind = re.match(r"\[WARNING\] \S+: (\S+: [^:]+): ", line)
        if kind:
            kinds[kind.group(1)] += 1
        else:
            assert line.startswith("[INFO] ") and "waiting for images" in line, line
    return kinds


def report(one, step, seconds):
    sizes, kinds = [size / 1e6 for _, size in one.rss], warnings(one)
    print(
        f"\n{one.name}: {seconds:.0f} s, {2 * step / seconds:.1f} broken messages and {len(one.sent) / seconds:.1f} "
        f"good frames per second, all {len(one.sent)} good frames answered; {sum(kinds.values())} warnings of "
        f"{len(kinds)} kinds; {sizes[0]:.1f} MB at first, {sizes[-1]:.1f} MB at the end, {max(sizes):.1f} MB at most, "
        f"growth after the first third {growth(one) / 1e6:+.2f} MB"
    )
    print("  MB by tenths of the time:", *(f"{size:.1f}" for size in sizes[:: max(len(sizes) // 10, 1)]))
    for kind, count in kinds.items():
        print(f"  {count} x {kind}")


def check(one, seconds):
    topic = one.image.topic
    for found in one.answers.values():
        assert set(one.sent) <= set(found)
    # The camera is never reset, and text that is not UTF-8 is no reason to skip a frame.
    homographies = [one.answers["matched_homography"][stamp] for stamp in one.sent]
    assert FIRST_FRAME not in [message.status for message in homographies[1:]]
    assert broken_input.NOT_UTF_8 in {message.header.frame_id for message in one.answers["features"].values()}
    assert one.clouds >= len(one.sent)
    kinds = warnings(one)
    expected = {f"{topic}: {what}" for what in ("frame skipped", "message skipped", "calibration ignored")}
    assert expected | {f"{one.info.topic}: message skipped"} <= set(kinds)
    assert all(count <= seconds / INTERVAL + 1 for count in kinds.values()), kinds
    assert int(one.diagnostics["unreadable messages, total"]) > 0
    assert growth(one) < MOST_GROWTH, one.rss
