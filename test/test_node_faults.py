"""Faults around a camera: features and homographies continue, with one warning, and diagnostics report the reason."""

from __future__ import annotations

import logging
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

from superpoint_ros.frontend.frames import Counters
from superpoint_ros.node import detector as module
from superpoint_ros.node.detector import Detector
from superpoint_ros.node.diagnostics import CameraHealth
from superpoint_ros.node.warnings import ThrottledWarnings, format_error

EUROC = {"k": [458.654, 0, 367.215, 0, 457.296, 248.375, 0, 0, 1], "d": [-0.28, 0.07, 2e-4, 2e-5]}


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


@pytest.fixture
def clock(monkeypatch):
    """The clock of warnings and diagnostics."""
    clock = Clock()
    monkeypatch.setattr(module, "ThrottledWarnings", lambda warn, **more: ThrottledWarnings(warn, clock))
    monkeypatch.setattr(module, "CameraHealth", lambda: CameraHealth(clock))
    return clock


@pytest.fixture
def run(tiny_weights, clock):
    """A detector that processes each frame before `submit_image` returns."""

    def run(host, **values):
        return Detector({"weights": str(tiny_weights), "device": "cpu", **values}, host, live=False)

    return run


@pytest.fixture
def picture(grey):
    def picture(number, **fields):
        image = np.ascontiguousarray(grey[number : number + 240, :320])
        header = SimpleNamespace(stamp=SimpleNamespace(sec=1, nanosec=number * 1000), frame_id="camera")
        return SimpleNamespace(
            **{"header": header, "height": 240, "width": 320, "encoding": "mono8", "is_bigendian": 0, "step": 320,
               "data": image.reshape(-1), **fields}
        )  # fmt: skip

    return picture


def info(**fields):
    roi = SimpleNamespace(x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    base = {"height": 240, "width": 320, "distortion_model": "plumb_bob", "binning_x": 0, "binning_y": 0, "roi": roi}
    return SimpleNamespace(**{**base, "r": [0.0] * 9, "p": [0.0] * 12, **EUROC, **fields})


def state(detector):
    (found,) = detector.diagnostics()
    return found


BROKEN = {
    "six coefficients": {"distortion_model": "rational_polynomial", "d": [0.1] * 6},
    "two coefficients": {"distortion_model": "equidistant", "d": [0.1] * 2},
    "not finite": {"d": [0.1, float("nan"), 0.0, 0.0]},
    "negative focal length": {"k": [-1.0, 0, 160, 0, 100, 120, 0, 0, 1]},
    "unknown model": {"distortion_model": "kannala"},
    "no numbers": {"d": "abc"},
}


@pytest.mark.parametrize("fields", BROKEN.values(), ids=BROKEN)
def test_an_unusable_calibration_costs_no_frame_and_is_warned_about_once(run, picture, clock, fields):
    host = Host()
    detector = run(host)
    for number in range(4):
        detector.set_camera_info(info(**fields))
        detector.submit_image(picture(number))
        clock.now += 1
    assert detector.front_end.counters.processed == 4 and detector.front_end.counters.failed == 0
    statuses = [each["status"] for each in host.of("matched_homography")]
    assert statuses[0] == 1 and 1 not in statuses[1:]
    assert all((cloud["points"][:, 2] == 0).all() for cloud in host.of("keypoints_cloud"))
    assert len(host.warnings) == 1
    assert host.warnings[0].startswith("/camera/image: calibration ignored: ")
    found = state(detector)
    assert found.level == 1 and "calibration ignored" in found.message
    detector.set_camera_info(info())
    detector.submit_image(picture(9))
    assert (host.of("keypoints_cloud")[-1]["points"][:, 2] == 1).all() and state(detector).level == 0


@pytest.mark.parametrize("key", ["keypoints_cloud", "image_annotated"])
def test_a_failing_optional_output_does_not_affect_the_frame(run, picture, clock, key, caplog):
    host = Host(broken=(key,))
    detector = run(host)
    for number in range(3):
        detector.submit_image(picture(number))
    assert len(host.of("features")) == len(host.of("matched_homography")) == 3
    assert [each["status"] == 1 for each in host.of("matched_homography")] == [True, False, False]
    assert detector.front_end.counters.processed == 3 and detector.front_end.counters.failed == 0
    assert host.warnings == [f"/camera/image: {key} skipped: RuntimeError: no room"]
    found = state(detector)
    assert found.level == 1 and f"3 {key} skipped" in found.message
    assert found.values[f"{key} skipped, total"] == "3"
    assert "Traceback" not in caplog.text


def test_a_calibration_of_another_size_is_warned_about_with_both_sizes(run, picture, clock):
    host = Host()
    detector = run(host)
    detector.set_camera_info(info(width=640, height=480))
    for number in range(3):
        detector.submit_image(picture(number))
    assert len(host.warnings) == 1
    assert "640x480" in host.warnings[0] and "320x240" in host.warnings[0]
    assert (host.of("keypoints_cloud")[-1]["points"][:, 2] == 0).all()
    assert state(detector).level == 1


def test_a_calibration_of_another_size_is_reported_without_a_subscriber_until_it_fits(run, picture, clock):
    host = Host(without=("keypoints_cloud", "image_annotated"))
    detector = run(host, undistort="points")
    detector.set_camera_info(info(width=640, height=480))
    detector.submit_image(picture(0))
    assert not len(host.of("features")[0]["normalized"])
    (warning,) = host.warnings
    assert "no normalized points, no points are undistorted" in warning
    assert "calibration of another image size" in state(detector).message
    detector.set_camera_info(info())
    detector.submit_image(picture(1))
    assert len(host.of("features")[1]["normalized"]) and state(detector).level == 0


def test_the_cloud_of_a_rectified_image_comes_from_the_projection_matrix(run, picture, clock):
    host = Host()
    detector = run(host, rectified="true")
    detector.set_camera_info(info(p=[200.0, 0, 150, 0, 0, 210.0, 110, 0, 0, 0, 1, 0]))
    detector.submit_image(picture(0))
    keypoints = host.of("features")[0]["keypoints"].reshape(-1, 2)
    points = host.of("keypoints_cloud")[0]["points"]
    np.testing.assert_allclose(points[:, :2], (keypoints - [150, 110]) / [200, 210], atol=1e-4)


def test_keypoints_that_a_lens_model_cannot_invert_have_no_ray_and_are_counted(run, picture, clock):
    host = Host()
    detector = run(host)
    # The polynomial has its maximum 65 pixels from the centre.
    detector.set_camera_info(info(k=[100.0, 0, 160, 0, 100.0, 120, 0, 0, 1], d=[-0.35, 0.0, 0.0, 0.0]))
    detector.submit_image(picture(0))
    keypoints = host.of("features")[0]["keypoints"].reshape(-1, 2)
    points = host.of("keypoints_cloud")[0]["points"]
    beyond = np.linalg.norm(keypoints - [160, 120], axis=1) > 100 * 2 / 3 * (1 / (3 * 0.35)) ** 0.5
    assert 0 < beyond.sum() < len(keypoints)
    np.testing.assert_array_equal(np.isnan(points[:, :3]), np.repeat(beyond[:, None], 3, axis=1))
    assert np.isfinite(points[:, 3]).all() and not host.warnings
    found = state(detector)
    assert found.level == 0 and found.values["keypoints without a viewing ray, total"] == str(beyond.sum())


def test_frames_with_only_repeated_stamps_are_a_warning_with_the_reason(run, picture, clock):
    host = Host()
    detector = run(host)
    detector.submit_image(picture(0))
    assert state(detector).level == 0
    for _ in range(3):
        clock.now += 0.3
        detector.submit_image(picture(0))
    found = state(detector)
    assert found.level == 1
    assert "3 frames skipped: the stamp repeats that of the frame before" in found.message
    # A single one is no problem.
    for number in (1, 1, 2):
        detector.submit_image(picture(number))
    assert state(detector).level == 0


def test_no_image_is_a_warning_at_once_and_an_error_after_the_timeout(run, picture, clock):
    host = Host()
    detector = run(host, image_timeout=3.0)
    clock.now += 1
    found = state(detector)
    assert found.level == 1 and "no image on /camera/image yet" in found.message
    clock.now += 2
    assert state(detector).level == 2
    detector.submit_image(picture(0))
    assert state(detector).level == 0
    for seconds, level in ((1, 1), (1, 1), (1, 2), (100, 2)):
        clock.now += seconds
        assert state(detector).level == level
    endless = run(Host(), image_timeout=0.0)
    clock.now += 1000
    assert state(endless).level == 1


def test_of_repeated_problems_the_count_and_the_last_reason_are_kept():
    health = CameraHealth()
    reasons = [f"reason {number}" for number in range(1000)]
    tracemalloc.start()
    for reason in reasons:
        health.count_problem("faults", reason)
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert used < 2000  # bytes; a reference to each reason is eight
    assert "1000 faults: reason 999" in health.summarise(Counters(), "/camera/image", 0)[1]


def test_an_unusable_frame_is_a_warning_with_the_reason(run, picture, clock):
    host = Host()
    detector = run(host)
    detector.submit_image(picture(0))
    detector.submit_image(picture(1, encoding="unheard_of"))
    found = state(detector)
    assert found.level == 1 and "'unheard_of' is not supported" in found.message


def test_unexpected_errors_are_one_sentence_in_five_seconds_without_a_traceback(run, picture, clock, caplog):
    host = Host()
    detector = run(host)
    for number in range(20):
        message = picture(number)
        del message.encoding
        detector.submit_image(message)
        clock.now += 0.5
    assert len(host.warnings) == 2
    assert host.warnings[0].startswith("/camera/image: frame skipped: AttributeError")
    assert host.warnings[1].endswith("(9 more since the last warning)")
    assert not caplog.records


def test_the_traceback_is_logged_at_debug_level(run, picture, clock, caplog):
    detector = run(Host())
    message = picture(0)
    del message.encoding
    with caplog.at_level(logging.DEBUG):
        detector.submit_image(message)
    assert "Traceback" in caplog.text


def test_unreadable_messages_are_counted_and_warned_about(run, clock):
    host = Host()
    detector = run(host)
    for _ in range(3):
        detector.report_unreadable("/camera/image", ValueError("12 bytes received are no image"))
    assert host.warnings == ["/camera/image: message skipped: 12 bytes received are no image"]
    found = state(detector)
    assert found.level == 1 and "3 unreadable messages" in found.message
    assert found.values["unreadable messages, total"] == "3"


def test_a_publisher_with_incompatible_qos_is_reported_with_the_remedy(run, picture, clock):
    host = Host()
    detector = run(host)
    detector.report_incompatible_qos("image", "/camera/image", "reliability")
    (warning,) = host.warnings
    for part in ("/camera/image", "best effort", "reliable", "qos_overrides./camera/image.subscription.reliability"):
        assert part in warning
    clock.now += 1
    found = state(detector)
    assert found.level == 1 and "best effort" in found.message
    # There is another, compatible publisher.
    detector.submit_image(picture(0))
    found = state(detector)
    assert found.level == 0 and "best effort" in found.values["image publisher"]


def test_a_subscriber_with_incompatible_qos_is_reported_with_the_remedy(run, clock):
    host = Host()
    detector = run(host)
    detector.report_incompatible_qos("features", "/detector/features", "reliability")
    detector.report_incompatible_qos("matched_homography", "/detector/matched_homography", "durability")
    assert "qos_overrides./detector/features.publisher.reliability" in host.warnings[0]
    assert "transient local" in host.warnings[1]
    assert any("transient local" in value for value in state(detector).values.values())


def test_warnings_of_different_kinds_are_throttled_separately():
    warned, clock = [], Clock()
    warn = ThrottledWarnings(warned.append, clock)
    for _ in range(3):
        warn("one", "a")
        warn("two", "b")
    clock.now += 5
    warn("one", "c")
    assert warned == ["one: a", "two: b", "one: c (2 more since the last warning)"]


def test_on_a_recording_a_warning_is_repeated_if_its_reason_changes():
    warned = []
    warn = ThrottledWarnings(warned.append, clock=None)
    for reason in ("a", "a", "b", "a"):
        warn("one", reason)
    assert warned == ["one: a", "one: b", "one: a"]


def test_an_exception_becomes_one_line():
    assert format_error(ValueError("a\n b")) == "a b"
    assert format_error(RuntimeError("no room")) == "RuntimeError: no room"
    assert format_error(KeyError()) == "KeyError"
