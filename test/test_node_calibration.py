"""Calibrations in the node: unusable ones cost no frame but one warning, and of the others the cloud has the rays."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from node_run import Host, create_detector, create_picture, replace_clock, state

EUROC = {"k": [458.654, 0, 367.215, 0, 457.296, 248.375, 0, 0, 1], "d": [-0.28, 0.07, 2e-4, 2e-5]}


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


def info(**fields):
    roi = SimpleNamespace(x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    base = {"height": 240, "width": 320, "distortion_model": "plumb_bob", "binning_x": 0, "binning_y": 0, "roi": roi}
    return SimpleNamespace(**{**base, "r": [0.0] * 9, "p": [0.0] * 12, **EUROC, **fields})


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
