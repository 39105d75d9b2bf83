"""Faults around a camera: features and homographies continue, with one warning, and diagnostics report the reason."""

from __future__ import annotations

import logging
import tracemalloc
from functools import partial

import pytest
from node_run import Clock, Host, create_detector, create_picture, replace_clock, state

from superpoint_ros.frontend.frames import Counters
from superpoint_ros.node.diagnostics import CameraHealth
from superpoint_ros.node.warnings import ThrottledWarnings, format_error


@pytest.fixture
def clock(monkeypatch):
    """The clock of warnings and diagnostics."""
    return replace_clock(monkeypatch)


@pytest.fixture
def run(tiny_weights, clock):
    """A detector that processes each frame before `submit_image` returns."""
    return partial(create_detector, tiny_weights)


@pytest.fixture
def picture(grey):
    return partial(create_picture, grey)


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
