"""Host 2 as a process: its parameters, its errors, its end, and the frames that it drops where it is slow."""

from __future__ import annotations

import signal
import time

import numpy as np
import pytest

pytest.importorskip("cyclonedds", reason="needs the Python package cyclonedds")
pytest.importorskip("rosbags", reason="needs the Python package rosbags")

from detector_process import TIMEOUT, detectors

from superpoint_ros.hosts.wire.messages import image_message
from superpoint_ros.node.detector import stamp_to_ns
from superpoint_ros.simulation.flight import Flight


@pytest.fixture
def start():
    with detectors() as start:
        yield start


@pytest.fixture
def flight(photograph):
    return Flight(photograph, size=(240, 320))


def test_a_parameters_file_and_assignments_are_applied(start, flight, tmp_path):
    file = tmp_path / "parameters.yaml"
    file.write_text(
        "/front/*:\n  ros__parameters:\n    max_keypoints: 7\n    descriptor_type: float16\n"
        "/elsewhere/*:\n  ros__parameters:\n    max_keypoints: 900\n"
    )
    graph = start.graph("--params-file", str(file), "-p", "nms_radius:=10")
    features, _ = graph.exchange(flight.frame(0))
    assert len(features.scores) <= 7
    assert features.descriptor_type == 1
    assert len(features.descriptors) == 2 * features.descriptor_size * len(features.scores)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("-p", "max_keypoint:=5"), "parameter 'max_keypoint' is unknown"),
        (("-p", "max_keypoints:=0"), "parameter 'max_keypoints' is 0, allowed is an integer from 1 to 20000"),
        (("-p", "weights:=nowhere.pth"), "weights 'nowhere.pth' are neither a file nor one of"),
        (("--params-file", "nowhere.yaml"), "parameters file 'nowhere.yaml' cannot be read"),
        (("-p", "cameras:=left"), "parameter 'cameras' is 'left', allowed is a list of different names"),
        (("-p", "device:=cuda:99"), "device 'cuda:99' is not in this machine"),
    ],
)
def test_a_user_error_stops_the_program_with_one_sentence(command, words, sentence):
    done = command("detector", *words)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert sentence in done.stderr


def test_ctrl_c_stops_the_program_cleanly_within_seconds(start, flight):
    graph = start.graph()
    graph.exchange(flight.frame(0))
    graph.process.send_signal(signal.SIGINT)
    assert graph.process.wait(20) == 0


@pytest.mark.serial
def test_a_slow_detector_processes_the_newest_frames_and_counts_the_dropped_ones(start, flight):
    """With a camera far faster than the network, ages stay below two processing times: nothing queues up."""
    graph = start.graph("-p", "precision:=float32", "-p", "resize:=960", threads=1)  # too fast for any core
    graph.exchange(flight.frame(0))
    pictures = [flight.frame(i / 30) for i in range(60)]
    stop, ages = time.monotonic() + 8, []
    seen = len(graph.received["features"])
    count = 1
    while time.monotonic() < stop:
        graph.image.publish(image_message(time.time_ns(), "camera", pictures[count % 60]))
        count += 1
        time.sleep(1 / 30)
        with graph.changed:
            new, seen = graph.received["features"][seen:], len(graph.received["features"])
        ages += [(time.time_ns() - stamp_to_ns(m.header.stamp)) * 1e-9 for m in new]
    counters, patience = graph.counters(), time.monotonic() + TIMEOUT
    while counters["received"] != sum(counters[name] for name in ("processed", "dropped", "failed")):
        assert time.monotonic() < patience, counters
        time.sleep(0.5)  # the last frame is being processed
        counters = graph.counters()
    processing = 8 / max(counters["processed"] - 2, 1)
    assert counters["dropped"] > counters["processed"]
    assert np.median(ages) < 2 * processing
