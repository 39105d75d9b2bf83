"""Measure the live node: camera and subscriber in this process, `superpoint-ros detector` in another."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any

from superpoint_ros.benchmark.measure import summary
from superpoint_ros.benchmark.middleware import loopback, namespace
from superpoint_ros.benchmark.scene import Image
from superpoint_ros.node import interface
from superpoint_ros.node.detector import stamp_to_ns

_TIMEOUT = 90.0
_OVERLOAD = 1.5
"""Camera rate relative to the expected rate; above 1, so that the detector is never idle."""

_TURNS = 4


@dataclass(frozen=True)
class _Turn:
    """One period of publishing: number of features messages, seconds from the first to the last, CPU time of this
    process, and latencies from image to features in seconds."""

    frames: int
    span: float
    processor: float
    latencies: list[float]


def measure_live(
    images: Sequence[Image], cost: Callable[[], float], assignments: Sequence[str], threads: int, seconds: float = 8.0
) -> dict[str, Any]:
    """Overload a live detector with images and measure its throughput and latency.

    Args:
        images: (H, W, 3) BGR, published in rotation.
        cost: measures the expected seconds per frame. Called before, between and after the turns of the camera, so that
            temporary load on the machine affects both figures alike.
        assignments: parameters of the detector, each as "name:=value".
        threads: number of threads of its network.
        seconds: total duration of all turns.

    Returns:
        `rate_hz` of received features; `expected_hz` from the median `cost` and the CPU time that camera and
        subscriber take from the same `threads`; `share`, their ratio; `latency`, from the camera's publish() to the
        subscriber's callback, in milliseconds.

    Raises:
        StandaloneError: if cyclonedds or rosbags is not installed.
        OSError: if the detector does not start.
    """
    from superpoint_ros.hosts.dds.node import Node

    with tempfile.TemporaryFile("w+", encoding="utf-8") as log, Node("camera", namespace(), environ=loopback()) as node:
        peer = _CameraAndSubscriber(node, images)
        detector = _start(assignments, threads, log)
        try:
            peer.await_first(lambda: detector.poll() is None, lambda: _last_line(log))
            costs, turns = [cost()], []
            for _ in range(_TURNS):
                turns.append(peer.run(_OVERLOAD / costs[0], seconds / _TURNS))
                costs.append(cost())
            return _figures(turns, costs, threads)
        finally:
            detector.terminate()
            try:
                detector.wait(10)
            except subprocess.TimeoutExpired:
                detector.kill()
                detector.wait()


def _figures(turns: Sequence[_Turn], costs: Sequence[float], threads: int) -> dict[str, Any]:
    frames, frame = sum(turn.frames for turn in turns), statistics.median(costs)
    rate = (frames - len(turns)) / sum(turn.span for turn in turns)
    others = sum(turn.processor for turn in turns) / frames
    expected = 1 / (frame + others / threads)
    return {
        "camera_hz": round(_OVERLOAD / costs[0], 2),
        "rate_hz": round(rate, 2),
        "expected_hz": round(expected, 2),
        "share": round(rate / expected, 3),
        "frame_ms": round(frame * 1e3, 2),
        "camera_and_subscriber_ms_per_frame": round(others * 1e3, 2),
        "latency": summary([latency for turn in turns for latency in turn.latencies]),
        "frames": frames,
    }


class _CameraAndSubscriber:
    """The camera and the subscriber."""

    def __init__(self, node: Any, images: Sequence[Image]) -> None:
        image, features = interface.topic("image"), interface.topic("features")
        self._images, self._count = images, 0
        self._publisher = node.create_publisher("image", image.type, image.qos)
        self._arrivals: dict[int, float] = {}
        self._lock = threading.Lock()
        name = features.name.replace("~", f"{namespace()}/{interface.NODE_NAME}")
        node.create_subscription(name, features.type, features.qos, self._note)

    def _note(self, message: Any) -> None:
        with self._lock:
            self._arrivals[stamp_to_ns(message.header.stamp)] = time.time_ns() * 1e-9

    def _publish(self) -> int:
        from superpoint_ros.hosts.wire.messages import image_message

        stamp = time.time_ns()
        image = self._images[self._count % len(self._images)]
        self._count += 1
        self._publisher.publish(image_message(stamp, "camera", image))
        return stamp

    def await_first(self, alive: Any, reason: Any) -> None:
        """Publish slowly until features arrive."""
        end = time.monotonic() + _TIMEOUT
        while len(self._arrivals) < 3:
            if not alive():
                raise OSError(f"the detector stopped: {reason()}")
            if time.monotonic() > end:
                raise OSError(f"the detector did not answer within {_TIMEOUT:g} s")
            self._publish()
            time.sleep(0.3)

    def run(self, rate: float, seconds: float) -> _Turn:
        """Publish at a fixed rate and collect the arrivals."""
        with self._lock:
            self._arrivals.clear()
        processor, start, sent = time.process_time(), time.monotonic(), 0
        while (now := time.monotonic()) - start < seconds:
            if (wait := start + sent / rate - now) > 0:
                time.sleep(wait)
            self._publish()
            sent += 1
        processor = time.process_time() - processor
        with self._lock:
            arrivals = dict(self._arrivals)
        times = sorted(arrivals.values())
        if len(times) < 3:
            raise OSError(f"only {len(times)} of {sent} images came back as features in {seconds:g} s")
        latencies = [arrival - stamp * 1e-9 for stamp, arrival in arrivals.items()]
        return _Turn(len(times), times[-1] - times[0], processor, latencies)


def _start(assignments: Sequence[str], threads: int, log: IO[str]) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "superpoint_ros", "detector", "-r", f"__ns:={namespace()}"]
    for assignment in assignments:
        words += ["-p", assignment]
    environment = {**loopback(), "OMP_NUM_THREADS": str(threads)}
    return subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=log, text=True)


def _last_line(log: IO[str]) -> str:
    log.seek(0)
    lines = [line.strip() for line in log if line.strip()]
    return lines[-1] if lines else "no reason given"
