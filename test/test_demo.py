"""A short demo: three processes over DDS, files, and errors."""

from __future__ import annotations

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from superpoint_ros.demo.sources import open_source
from superpoint_ros.demo.trajectory import Trajectory
from superpoint_ros.evaluation.metrics import corner_error
from superpoint_ros.simulation.flight import Flight
from superpoint_ros.simulation.room import Room

for package in ("cyclonedds", "rosbags", "skimage"):
    pytest.importorskip(package, reason=f"the demo needs the Python package {package}")


def demo(folder, *words):
    command = [sys.executable, "-m", "superpoint_ros", "demo", "--output", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def test_the_flight_s_homographies_are_those_of_its_frames(photograph):
    flight = Flight(photograph, seed=1)
    first, second = flight.frame(0.0), flight.frame(0.2)
    across = flight.homography(0.2) @ np.linalg.inv(flight.homography(0.0))
    warped = cv2.warpPerspective(first, across, (640, 480)).astype(float)
    inside = cv2.warpPerspective(np.ones((480, 640), np.uint8), across, (640, 480)) > 0
    right = np.abs(warped - second)[inside].mean()
    off = np.abs(np.roll(warped, 3, axis=1) - second)[inside].mean()
    assert right < off / 1.5


def test_the_corner_error_of_a_shift_is_its_length():
    shift = np.array([[1.0, 0, 3], [0, 1, 4], [0, 0, 1]])
    assert corner_error(np.eye(3), np.eye(3), (480, 640)) == 0
    assert corner_error(shift, np.eye(3), (480, 640)) == pytest.approx(5)


@pytest.mark.serial
@pytest.mark.slow
def test_the_demo_runs_and_measures_its_accuracy(tmp_path):
    done = demo(tmp_path / "out", "--seconds", "10", "--rate", "4", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary == json.loads(done.stdout)
    assert summary["frames"] == 40
    assert summary["lost"] == 0
    assert summary["frames"] == summary["processed"] + summary["dropped"] + summary["failed"]
    assert summary["features_messages"] == summary["homography_messages"] == summary["processed"] > 3
    assert summary["corner_error_px_median"] <= 2.5
    assert summary["inlier_ratio_median"] >= 0.6
    for name in ("features_hz", "latency_ms_median", "latency_ms_p95", "keypoints_median"):
        assert summary[name] > 0
    sheet = cv2.imread(str(tmp_path / "out" / "contact_sheet.png"))
    assert sheet is not None
    assert sheet.std() > 10
    video = cv2.VideoCapture(str(tmp_path / "out" / "annotated.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == summary["annotated_messages"]


@pytest.mark.slow
def test_the_demo_compares_matches_with_the_truth_of_the_room(tmp_path):
    done = demo(tmp_path / "out", "--source", "room", "--seconds", "8", "--rate", "3", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["frames"] == 24
    assert summary["corner_error_px_median"] is None
    assert summary["match_error_px_median"] < 1.0
    assert summary["right_match_ratio"] > 0.5


@pytest.mark.slow
def test_the_demo_of_the_stereo_room_shows_the_drift_of_the_odometry(tmp_path):
    pytest.importorskip("gtsam", reason="the odometry needs the Python package gtsam")
    words = ("--source", "room_stereo", "--seconds", "8", "--rate", "3", "-p", "weights:=light", "-p", "max_gap:=600.0")
    done = demo(tmp_path / "out", *words, "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["odometry_messages"] > 10
    assert summary["odometry_path_m"] > 1.0 and summary["odometry_drift_percent"] < 2.0
    drawing = cv2.imread(str(tmp_path / "out" / "trajectory.png"))
    assert drawing.shape == (640, 1280, 3) and drawing.std() > 5


def test_the_demo_without_gtsam_says_in_one_line_that_the_odometry_is_left_out(tmp_path, tiny_weights):
    code = "import sys, importlib.util as u; f = u.find_spec; "
    code += "u.find_spec = lambda n, *a: None if n == 'gtsam' else f(n, *a); "
    code += "from superpoint_ros import cli; sys.exit(cli.main(sys.argv[1:]))"
    words = ("demo", "--source", "room", "--seconds", "2", "--rate", "2", "-p", f"weights:={tiny_weights}", "--json")
    done = subprocess.run([sys.executable, "-c", code, *words, "--output", str(tmp_path / "out")],
                          capture_output=True, text=True, timeout=600)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("odometry") == 2 and "the odometry is left out: pip install" in done.stderr
    assert json.loads(done.stdout)["odometry_messages"] == 0
    assert not (tmp_path / "out" / "trajectory.png").exists()


def test_drift_is_the_error_at_the_end_of_the_path_and_the_scale_of_a_single_camera_is_fitted():
    room, found = Room(), Trajectory()
    start = room.pose(0.0)
    for stamp in range(20):
        pose = room.pose(stamp / 5)
        found.add_true(stamp, pose)
        moved = np.linalg.inv(start) @ pose
        moved[:3, 3] *= 1.01
        found.add_estimated(stamp, moved)
    length, drift = found.drift()
    assert drift < 1e-9
    found.metric = True
    end = np.linalg.norm(room.pose(19 / 5)[:3, 3] - start[:3, 3])
    assert found.drift() == pytest.approx((length, 0.01 * end / length))


@pytest.mark.parametrize("seed", range(4))
def test_a_pose_survives_conversion_to_a_message(seed):
    from superpoint_ros.hosts.wire.messages import pose_message
    from superpoint_ros.node.poses import matrix_from_pose

    pose = np.eye(4)
    pose[:3, :3] = cv2.Rodrigues(np.random.default_rng(seed).uniform(-3, 3, 3))[0]
    pose[:3, 3] = [1.0, -2.0, 3.0]
    assert np.abs(matrix_from_pose(pose_message(5, "map", pose).pose) - pose).max() < 1e-12


def test_the_stereo_room_has_two_images_and_a_calibration():
    from superpoint_ros.demo.sources import open_source
    from superpoint_ros.hosts.wire.messages import camera_info_message, header_message

    (picture,) = open_source("room_stereo", 10.0, 1)
    assert picture.right.shape == picture.image.shape == (480, 640, 3)
    assert not np.array_equal(picture.right, picture.image)
    info = camera_info_message(header_message(0, "camera"), (480, 640), picture.intrinsics, picture.baseline)
    assert info.p[3] == -picture.intrinsics[0, 0] * picture.baseline
    assert list(info.k) == list(picture.intrinsics.ravel())


@pytest.mark.data
@pytest.mark.serial
@pytest.mark.slow
def test_the_demo_plays_a_sequence_in_euroc_layout(tmp_path, shared_data):
    source = shared_data / "sequences" / "euroc_v1_01"
    done = demo(tmp_path / "out", "--source", str(source), "--seconds", "5", "--rate", "3", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["corner_error_px_median"] is None
    assert summary["status_ok_ratio"] >= 0.9


def test_an_unknown_source_is_an_error_of_one_sentence(tmp_path):
    done = demo(tmp_path / "out", "--source", "nowhere")
    assert done.returncode == 1
    assert "source 'nowhere' is unknown" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_image_in_a_folder_is_reported_and_the_others_are_shown(tmp_path):
    for index in range(3):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((20, 30, 3), index, np.uint8))
    (tmp_path / "1.png").write_bytes(b"no image")
    skipped = []
    found = list(open_source(str(tmp_path), rate=10, frames=10, skipped=skipped))
    assert [picture.image[0, 0, 0] for picture in found] == [0, 2]
    assert [picture.time for picture in found] == [0, 0.2]
    (sentence,) = skipped
    assert "1.png" in sentence and "cannot be read" in sentence


@pytest.mark.slow
def test_the_demo_of_a_folder_goes_on_after_a_broken_image_and_ends_with_code_1(tmp_path, photograph, tiny_weights):
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(6):
        cv2.imwrite(str(folder / f"{index}.png"), photograph[5 * index : 5 * index + 240, :320])
    (folder / "2.png").write_bytes(b"no image")
    words = ("--source", str(folder), "--rate", "3", "--seconds", "20", "-p", f"weights:={tiny_weights}", "--json")
    done = demo(tmp_path / "out", *words)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    summary = json.loads(done.stdout)
    assert summary["frames"] == 5 == summary["processed"] + summary["dropped"] + summary["lost"]
    assert summary["failed"] == 0 and summary["features_messages"] == summary["processed"] > 0
    (sentence,) = summary["left_out"]
    assert "2.png" in sentence and "cannot be read" in sentence and sentence in done.stderr
    assert (tmp_path / "out" / "contact_sheet.png").is_file()
