"""Stereo in the node: pairs of frames, fields of the message, the cloud at true depth, and what is in their way."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from superpoint_ros.node.detector import Detector
from superpoint_ros.node.interface import ParameterError
from superpoint_ros.simulation.room import Room

SIZE = (240, 320)
RATE = 10
ROOM = Room(SIZE)


class Host:
    """Collects what the detector publishes; everything has a subscriber."""

    def __init__(self, failing=()):
        self.published, self.warnings, self.failing, self.subscribers = [], [], failing, 1

    def subscriber_count(self, key, camera):
        return self.subscribers

    def publish(self, key, camera, header, fields):
        if key in self.failing:
            raise RuntimeError("no room")
        self.published.append((key, camera, header, fields))

    def now(self):
        return 0

    def warn(self, text):
        self.warnings.append(text)

    def image_topic(self, camera):
        return f"/{camera}/image"

    def of(self, key, camera=""):
        return [(header, fields) for name, of, header, fields in self.published if (name, of) == (key, camera)]


def image_message(frame, camera, delay=0):
    grey = cv2.cvtColor(ROOM.frame(frame / RATE, camera), cv2.COLOR_BGR2GRAY)
    stamp = SimpleNamespace(sec=1 + frame // RATE, nanosec=frame % RATE * 10**9 // RATE + delay)
    header = SimpleNamespace(stamp=stamp, frame_id=f"optical {camera}")
    return SimpleNamespace(
        header=header, height=SIZE[0], width=SIZE[1], encoding="mono8", is_bigendian=0, step=SIZE[1],
        data=grey.reshape(-1),
    )  # fmt: skip


def info_message(baseline, **changes):
    projection = np.zeros((3, 4))
    projection[:, :3] = ROOM.intrinsics
    projection[0, 3] = -ROOM.intrinsics[0, 0] * baseline
    region = SimpleNamespace(x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    fields = {
        "height": SIZE[0], "width": SIZE[1], "distortion_model": "plumb_bob", "d": np.zeros(5), "binning_x": 0,
        "k": ROOM.intrinsics.reshape(-1), "r": np.eye(3).reshape(-1), "p": projection.reshape(-1), "binning_y": 0,
    }  # fmt: skip
    return SimpleNamespace(roi=region, **{**fields, **changes})


def run(host, frames=2, cameras=("left", "right"), infos=None, delay=0, only=None, **values):
    """A detector after some frames of both cameras."""
    values = {"cameras": list(cameras), "stereo": True, "max_keypoints": 300, "device": "cpu", **values}
    detector = Detector(values, host, live=False)
    infos = {"left": info_message(0), "right": info_message(ROOM.baseline)} if infos is None else infos
    for camera, info in infos.items():
        detector.set_camera_info(info, camera)
    for frame in range(frames):
        for index, camera in enumerate(("left", "right")):
            if only in (None, camera):
                detector.submit_image(image_message(frame, index, delay * index), camera)
    return detector


def test_each_pair_has_matches_at_the_true_depth():
    host = Host()
    detector = run(host)
    found = host.of("stereo_matches")
    assert len(found) == 2 and not host.warnings and detector.unpaired == 0
    for frame, (header, fields) in enumerate(found):
        left, right = ([f for _, f in host.of("features", camera)][frame] for camera in ("left", "right"))
        keypoints = left["keypoints"].reshape(-1, 2)[fields["left_indices"]]
        assert header.frame_id == "optical 0" and fields["right_stamp"] == 10**9 + frame * 10**8
        assert len(keypoints) > 80 and fields["right_indices"].max() < len(right["scores"])
        places, visible = ROOM.transfer(keypoints, frame / RATE, frame / RATE, cameras=(0, 1))
        disparity = (keypoints - places)[:, 0]
        assert np.median(np.abs(fields["disparity"] - disparity)[visible]) < 0.1
        depth = ROOM.intrinsics[0, 0] * ROOM.baseline / disparity
        assert np.median(np.abs(fields["depth"] / depth - 1)[visible]) < 0.02
        assert fields["baseline"] == pytest.approx(ROOM.baseline)
        assert fields["focal_length"] == pytest.approx(ROOM.intrinsics[0, 0])
        points = fields["points"].reshape(-1, 3)
        np.testing.assert_allclose(points[:, 2], fields["depth"], rtol=1e-5)
        projected = points @ ROOM.intrinsics.T
        np.testing.assert_allclose(projected[:, :2] / projected[:, 2:], keypoints, atol=1e-2)


def test_the_left_cloud_holds_the_points_and_the_right_one_rays():
    host = Host()
    run(host)
    clouds = [fields["points"] for _, fields in host.of("keypoints_cloud", "left")]
    for cloud, (_, fields), (_, left) in zip(
        clouds, host.of("stereo_matches"), host.of("features", "left"), strict=True
    ):
        assert len(cloud) == len(left["scores"])
        np.testing.assert_array_equal(np.flatnonzero(np.isfinite(cloud[:, 0])), np.sort(fields["left_indices"]))
        np.testing.assert_array_equal(cloud[fields["left_indices"], :3].reshape(-1), fields["points"])
    assert all((fields["points"][:, 2] == 1).all() for _, fields in host.of("keypoints_cloud", "right"))


def state(detector, camera="left"):
    return next(each for each in detector.diagnostics() if each.name.endswith(camera))


def test_stamps_that_differ_are_a_pair_only_within_the_slop():
    host = Host()
    detector = run(host, frames=20, delay=2_000_000, **{"match.refine": False})
    assert not host.of("stereo_matches") and len(host.of("features", "left")) == 20
    warnings = [text for text in host.warnings if "frames without a partner" in text]
    assert len(warnings) == 1 and "differ by 2.000 ms, allowed by parameter 'stereo_slop' are 0 ms" in warnings[0]
    assert "differ by 2.000 ms" in state(detector).message
    detector.close()
    assert detector.unpaired == 40
    assert state(detector).values["frames without a stereo partner"] == "20"
    host = Host()
    detector = run(host, delay=2_000_000, stereo_slop=0.003)
    assert len(host.of("stereo_matches")) == 2 and detector.unpaired == 0


def test_a_left_camera_without_a_right_one_keeps_its_features_and_is_counted():
    host = Host()
    detector = run(host, frames=20, only="left", **{"match.refine": False})
    assert len(host.of("features", "left")) == 20 and not host.of("stereo_matches")
    warned = [text for text in host.warnings if "no frame of camera 'right' belongs to those of 'left'" in text]
    assert len(warned) == 1
    detector.close()
    assert state(detector).values["frames without a stereo partner"] == "20"


def test_one_lost_frame_leaves_the_other_pairs():
    host = Host()
    detector = run(host, frames=0)
    for frame in range(4):
        for index, camera in enumerate(("left", "right")):
            if (frame, camera) != (1, "right"):
                detector.submit_image(image_message(frame, index), camera)
    assert [header.stamp.nanosec for header, _ in host.of("stereo_matches")] == [0, 2 * 10**8, 3 * 10**8]
    assert detector.unpaired == 1 and not host.warnings


BAD = {
    "no calibration on one side": ({"left": info_message(0)}, "camera 'right' is not calibrated"),
    "none at all": ({}, "camera 'left' is not calibrated"),
    "no baseline": (
        {"left": info_message(0), "right": info_message(0)},
        "has a baseline of 0 m, allowed is more than 0",
    ),
    "swapped calibrations": (
        {"left": info_message(0.12), "right": info_message(0)},
        "has a baseline of -0.12 m, so left and right are swapped",
    ),
    "another size": (
        {"left": info_message(0), "right": info_message(0.12, width=640, height=480)},
        "the calibration of the right camera is for 640x480 pixels and its image has 320x240",
    ),
}


@pytest.mark.parametrize(("infos", "reason"), BAD.values(), ids=BAD)
def test_a_pair_that_cannot_be_used_is_one_warning_and_features_go_on(infos, reason):
    host = Host()
    detector = run(host, infos=infos)
    assert not host.of("stereo_matches")
    assert [len(host.of("features", camera)) for camera in ("left", "right")] == [2, 2]
    warned = [text for text in host.warnings if text.startswith("stereo of /left/image and /right/image: no matches: ")]
    assert len(warned) == 1 and reason in warned[0]
    assert reason in state(detector).message
    detector.set_camera_info(info_message(0), "left")
    detector.set_camera_info(info_message(ROOM.baseline), "right")
    for index, camera in enumerate(("left", "right")):
        detector.submit_image(image_message(3, index), camera)
    assert len(host.of("stereo_matches")) == 1 and "stereo" not in state(detector).message


def test_a_pair_that_cannot_be_used_is_no_problem_once_nobody_subscribes():
    host = Host()
    detector = run(host, infos={})
    assert "not calibrated" in state(detector).message
    host.subscribers = 0
    for index, camera in enumerate(("left", "right")):
        detector.submit_image(image_message(3, index), camera)
    assert state(detector).level == 0


def test_swapped_images_are_one_warning():
    host = Host()
    detector = run(host, frames=0)
    for frame in range(3):
        for index, camera in enumerate(("right", "left")):
            detector.submit_image(image_message(frame, index), camera)
    assert len(host.of("features", "left")) == len(host.of("stereo_matches")) == 3
    assert len(host.warnings) == 1 and "almost all disparities are negative" in host.warnings[0]
    assert "swapped" in state(detector).message


@pytest.mark.parametrize("failing", ["stereo_matches", "keypoints_cloud"])
def test_an_output_that_fails_costs_no_frame_its_features(failing):
    host = Host(failing=(failing,))
    detector = run(host)
    assert [len(host.of("features", camera)) for camera in ("left", "right")] == [2, 2]
    assert detector.front_end.counters.processed == 4
    other = ("stereo_matches", "") if failing == "keypoints_cloud" else ("keypoints_cloud", "left")
    assert len(host.of(*other)) == 2
    assert any(f"{failing} skipped" in text for text in host.warnings)


@pytest.mark.parametrize("cameras", [[""], ["left"], ["left", "right", "rear"]])
def test_stereo_needs_two_cameras(cameras):
    with pytest.raises(ParameterError, match="allowed with 'stereo' are two, the left camera first"):
        Detector({"cameras": cameras, "stereo": True}, Host(), live=False)
