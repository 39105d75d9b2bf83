"""The benchmark over DDS between processes, on this machine only."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("cyclonedds", reason="cyclonedds, the DDS implementation, is not installed")
pytest.importorskip("rosbags", reason="rosbags, which knows the ROS messages, is not installed")

from superpoint_ros.benchmark import live, online, scene
from superpoint_ros.benchmark.live import measure_live
from superpoint_ros.benchmark.middleware import loopback, measure_middleware


@pytest.fixture(autouse=True)
def peers_elsewhere(monkeypatch, project):
    monkeypatch.setenv("ROS_STATIC_PEERS", "192.0.2.1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(project), os.environ.get("PYTHONPATH", "")]))


def test_nothing_leaves_the_machine():
    assert loopback()["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST" and "ROS_STATIC_PEERS" not in loopback()


def test_the_detector_of_the_benchmark_is_started_without_static_peers(monkeypatch):
    monkeypatch.setattr(live.subprocess, "Popen", lambda words, env, **options: env)
    environ = live._start([], 1, None)
    assert environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST" and "ROS_STATIC_PEERS" not in environ


@pytest.mark.serial
def test_every_message_arrives_and_float16_descriptors_take_half_the_bytes():
    found = measure_middleware(keypoints=1000, descriptor_size=256, messages=10)
    for kind in ("float32", "float16"):
        figures = found[kind]
        assert figures["received"] == figures["sent"] == 10
        assert figures["total"]["least"] > figures["fill"]["least"] > 0
        assert figures["serialise"]["samples"] == figures["deserialise"]["samples"] == 10
    assert found["float32"]["bytes"] - found["float16"]["bytes"] == 1000 * 256 * 2


@pytest.mark.serial
def test_the_live_node_is_fed_and_its_messages_are_counted(tiny_weights):
    assignments = [f"weights:={tiny_weights}", "device:=cpu", "runtime:=pytorch", "precision:=float32"]
    found = measure_live(scene.frames((160, 120), 2), lambda: 0.05, assignments, threads=1, seconds=2.0)
    assert found["camera_hz"] == pytest.approx(30, abs=0.1)
    assert found["frames"] > 5 and 0 < found["rate_hz"] < 35
    assert found["expected_hz"] < 20 and found["share"] == pytest.approx(found["rate_hz"] / found["expected_hz"], 0.01)
    assert found["latency"]["median"] > 1 and found["frame_ms"] == 50


def test_a_subject_that_fails_next_to_the_live_node_is_reported():
    class Failing:
        def extract(self, images):
            raise RuntimeError("out of memory")

    with pytest.raises(OSError, match="out of memory"):
        online._cost(Failing(), scene.frames((64, 48), 2), {})()


def test_a_detector_that_cannot_start_is_reported(tiny_weights):
    with pytest.raises(OSError, match=r"the detector stopped: .*'imaginary'"):
        measure_live(scene.frames((64, 48), 2), lambda: 0.05, ["weights:=imaginary"], threads=1, seconds=1.0)
