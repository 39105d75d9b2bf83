"""Sequences in the layouts of EuRoC, TUM RGB-D and KITTI: poses, calibration, and errors."""

from __future__ import annotations

import tracemalloc

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from superpoint_ros.evaluation import calibration
from superpoint_ros.evaluation.pose_files import distance_to_nearest, interpolate_poses
from superpoint_ros.evaluation.sequences import open_sequence

SIZE = (48, 64)
SENSOR = """%YAML:1.0
sensor_type: camera
T_BS:
  cols: 4
  rows: 4
  data: [0.0, -1.0, 0.0, 0.1,
         1.0, 0.0, 0.0, 0.2,
         0.0, 0.0, 1.0, 0.3,
         0.0, 0.0, 0.0, 1.0]
resolution: [64, 48]
camera_model: pinhole
intrinsics: [50.0, 51.0, 32.5, 23.5] #fu, fv, cu, cv
distortion_model: radial-tangential
distortion_coefficients: [-0.28, 0.07, 0.0002, 0.00001]
"""
CALIB = "P0: 50 0 32 0 0 50 24 0 0 0 1 0\nP1: 50 0 32 -25 0 50 24 0 0 0 1 0\nP2: 50 0 32 10 0 50 24 0 0 0 1 0\n"


def draw(path, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full(size, 100, np.uint8))


def pose(index):
    """Create poses of a camera that moves along x by 1 m and rotates about z by 10 degrees per frame."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("z", 10 * index, degrees=True).as_matrix()
    matrix[0, 3] = index
    return matrix


@pytest.fixture
def euroc(tmp_path):
    """Four frames 50 ms apart, with poses of the body at the same stamps."""
    folder = tmp_path / "V9_09" / "mav0"
    stamps = [1403715273262142976 + 50_000_000 * i for i in range(4)]
    for stamp in stamps:
        draw(folder / "cam0" / "data" / f"{stamp}.png")
    listed = "".join(f"{stamp},{stamp}.png\n" for stamp in stamps)
    (folder / "cam0" / "data.csv").write_text("#timestamp [ns],filename\n" + listed)
    (folder / "cam0" / "sensor.yaml").write_text(SENSOR)
    rows = []
    for index, stamp in enumerate(stamps):
        x, y, z, w = Rotation.from_matrix(pose(index)[:3, :3]).as_quat()
        rows.append(f"{stamp},{index},0,0,{w},{x},{y},{z},0,0,0\n")
    truth = folder / "state_groundtruth_estimate0" / "data.csv"
    truth.parent.mkdir()
    truth.write_text("#timestamp, p, q, v\n" + "".join(rows))
    return folder


@pytest.fixture
def tum(tmp_path):
    """Three images between stamped poses."""
    folder = tmp_path / "rgbd_dataset_freiburg2_desk"
    for index in range(3):
        draw(folder / "rgb" / f"{index}.png")
    (folder / "rgb.txt").write_text("# color images\n" + "".join(f"{10.005 + i} rgb/{i}.png\n" for i in range(3)))
    rows = []
    for index in range(301):  # at 100 Hz
        x, y, z, w = Rotation.from_matrix(pose(index / 100)[:3, :3]).as_quat()
        rows.append(f"{10 + index / 100:.4f} {index / 100} 0 0 {x} {y} {z} {w}\n")
    (folder / "groundtruth.txt").write_text("# timestamp tx ty tz qx qy qz qw\n" + "".join(rows))
    return folder


@pytest.fixture
def kitti(tmp_path):
    """Three images of the left grey camera."""
    folder = tmp_path / "07"
    for index in range(3):
        draw(folder / "image_0" / f"{index:06d}.png")
    (folder / "calib.txt").write_text(CALIB)
    np.savetxt(folder / "poses.txt", [pose(index)[:3].ravel() for index in range(3)])
    return folder


def test_euroc_poses_are_those_of_the_camera_not_the_body(euroc):
    for folder in (euroc, euroc.parent):
        sequence = open_sequence(folder)
        assert (sequence.name, sequence.layout, len(sequence), sequence.skipped) == ("V9_09", "euroc", 4, ())
        in_body = np.array([[0, -1, 0, 0.1], [1, 0, 0, 0.2], [0, 0, 1, 0.3], [0, 0, 0, 1]])
        np.testing.assert_allclose(sequence.poses, [pose(i) @ in_body for i in range(4)], atol=1e-9)
        np.testing.assert_allclose(np.diff(sequence.times), 0.05, atol=1e-6)
        assert sequence.camera.image_size == SIZE and not sequence.camera.fisheye
        np.testing.assert_allclose(sequence.camera.matrix, [[50, 0, 32.5], [0, 51, 23.5], [0, 0, 1]])
        np.testing.assert_allclose(sequence.camera.distortion, [-0.28, 0.07, 0.0002, 0.00001])


def test_euroc_camera_poses_are_used_unchanged(euroc):
    truth = euroc / "state_groundtruth_estimate0" / "data.csv"
    rows = [line.split(",")[:8] for line in truth.read_text().splitlines()[2:]]  # without the first frame
    truth.unlink()
    (euroc / "groundtruth_cam0.csv").write_text("".join(f"{row[0]}.0000,{','.join(row[1:])}\n" for row in rows))
    sequence = open_sequence(euroc)
    np.testing.assert_allclose(sequence.poses, [pose(i) for i in (1, 2, 3)], atol=1e-9)
    assert sequence.skipped == ("1 of 4 images have no ground truth within 0.02 seconds",)


def test_tum_associates_stamps_and_interpolates_between_them(tum):
    sequence = open_sequence(tum)
    assert (sequence.name, sequence.layout, len(sequence)) == ("rgbd_dataset_freiburg2_desk", "tum", 3)
    np.testing.assert_allclose(sequence.poses, [pose(i + 0.005) for i in range(3)], atol=1e-9)
    np.testing.assert_allclose(sequence.camera.matrix, [[520.9, 0, 325.1], [0, 521.0, 249.7], [0, 0, 1]])
    assert len(sequence.camera.distortion) == 5


def test_an_image_far_from_any_stamp_has_no_pose(tum):
    lines = (tum / "groundtruth.txt").read_text().splitlines()
    (tum / "groundtruth.txt").write_text("\n".join(line for line in lines if not line.startswith(("11.0", "10.9"))))
    sequence = open_sequence(tum)
    assert [path.name for path in sequence.images] == ["0.png", "2.png"]
    assert sequence.skipped == ("1 of 3 images have no ground truth within 0.02 seconds",)


def test_kitti_reads_poses_calibration_and_times(kitti):
    sequence = open_sequence(kitti)
    assert (sequence.name, sequence.layout, len(sequence)) == ("07", "kitti", 3)
    np.testing.assert_allclose(sequence.poses, [pose(i) for i in range(3)])
    np.testing.assert_allclose(sequence.camera.matrix, [[50, 0, 32], [0, 50, 24], [0, 0, 1]])
    np.testing.assert_allclose(sequence.times, [0, 0.1, 0.2])
    (kitti / "times.txt").write_text("0.0\n0.11\n0.23\n")
    np.testing.assert_allclose(open_sequence(kitti).times, [0, 0.11, 0.23])


def test_kitti_poses_may_be_in_the_benchmark_s_folder(kitti):
    home = kitti.parent / "dataset" / "sequences"
    home.mkdir(parents=True)
    moved = kitti.rename(home / "07")
    (home.parent / "poses").mkdir()
    (moved / "poses.txt").rename(home.parent / "poses" / "07.txt")
    np.testing.assert_allclose(open_sequence(moved).poses, [pose(i) for i in range(3)])


def test_kitti_colour_images_have_the_pose_of_their_own_camera(kitti):
    (kitti / "image_0").rename(kitti / "image_2")
    # P2 = K [I | t] with t = (0.2, 0, 0): the camera is 0.2 m to the left of camera 0.
    expected = [pose(i) @ np.array([[1, 0, 0, -0.2], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) for i in range(3)]
    np.testing.assert_allclose(open_sequence(kitti).poses, expected, atol=1e-12)


def test_kitti_poses_belong_to_the_images_of_their_number(kitti):
    (kitti / "image_0" / "000001.png").unlink()
    draw(kitti / "image_0" / "000009.png")
    sequence = open_sequence(kitti)
    np.testing.assert_allclose(sequence.poses, [pose(0), pose(2)])
    assert sequence.skipped == (
        "1 images have no line in the 3 poses",
        "1 of 3 poses have no image",
    )


def test_parts_of_a_sequence_keep_images_and_poses_together(euroc):
    sequence = open_sequence(euroc)
    part = sequence.part(start=1, frames=2, every=2)
    assert part.images == (sequence.images[1], sequence.images[3])
    np.testing.assert_array_equal(part.poses, sequence.poses[[1, 3]])
    np.testing.assert_array_equal(part.times, sequence.times[[1, 3]])
    with pytest.raises(ValueError, match=r"of the 4 frames of sequence 'V9_09' 1 are selected, allowed is at least 2"):
        sequence.part(start=3)


def test_rotations_are_interpolated_at_constant_speed():
    poses = interpolate_poses(np.array([0.0, 0.25, 1.0, 9.0]), np.array([0.0, 1.0]), np.array([pose(0), pose(1)]))
    np.testing.assert_allclose(poses, [pose(0), pose(0.25), pose(1), pose(1)], atol=1e-12)


def test_camera_info_replaces_the_layout_s_calibration(tum, tmp_path):
    yaml = tmp_path / "camera.yaml"
    yaml.write_text(
        "image_width: 64\nimage_height: 48\ncamera_name: left\n"
        "camera_matrix: {rows: 3, cols: 3, data: [40, 0, 31, 0, 41, 22, 0, 0, 1]}\n"
        "distortion_model: equidistant\ndistortion_coefficients: {rows: 1, cols: 4, data: [0.1, 0.01, 0, 0]}\n"
    )
    camera = open_sequence(tum, yaml).camera
    np.testing.assert_allclose(camera.matrix, [[40, 0, 31], [0, 41, 22], [0, 0, 1]])
    assert camera.fisheye and camera.image_size == SIZE


def test_unknown_layouts_and_missing_files_are_named(tmp_path, euroc, tum, kitti):
    def sentence(folder, **options):
        with pytest.raises(ValueError) as raised:
            open_sequence(folder, **options)
        text = str(raised.value)
        assert "\n" not in text
        return text

    assert "is not a folder" in sentence(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert "none of the known layouts" in sentence(tmp_path / "empty")
    assert "camera.yaml' does not exist" in sentence(kitti, camera_info=tmp_path / "camera.yaml")

    (kitti / "poses.txt").write_text("1 0 0\n")
    assert "line 1 of" in sentence(kitti) and "allowed are 12 numbers" in sentence(kitti)
    (kitti / "poses.txt").unlink()
    assert "has no ground truth" in sentence(kitti)
    (kitti / "calib.txt").write_text("P0: 1 2 3\n")
    np.savetxt(kitti / "poses.txt", [pose(0)[:3].ravel()])
    assert "no 3x4 projection matrix of camera 0" in sentence(kitti)
    (kitti / "calib.txt").write_text(CALIB)
    assert "has 1 frames with a known pose, allowed is at least 2" in sentence(kitti)

    (euroc / "cam0" / "sensor.yaml").write_text(SENSOR.replace("[64, 48]", "[640, 480]"))
    assert "is for 640x480 pixels and its images have 64x48" in sentence(euroc)
    (euroc / "cam0" / "sensor.yaml").write_text(SENSOR.replace("radial-tangential", "magic"))
    assert "distortion model 'magic'" in sentence(euroc)
    (euroc / "cam0" / "sensor.yaml").write_text("[1, 2\n")
    assert "cannot be read as YAML" in sentence(euroc)
    (euroc / "cam0" / "data.csv").write_text("noon,1.png\n")
    assert "line 1 of" in sentence(euroc) and "a time stamp and an image" in sentence(euroc)

    (tum / "groundtruth.txt").write_text("10 0 0 0 0 0 0 0\n")
    assert "a quaternion that is not a rotation" in sentence(tum)
    (tum / "groundtruth.txt").unlink()
    assert "has no ground truth" in sentence(tum)


def test_a_tum_sequence_of_an_unknown_camera_asks_for_its_calibration(tum):
    renamed = tum.rename(tum.parent / "my_desk")
    with pytest.raises(ValueError, match=r"has no calibration .* pass one with --camera-info"):
        open_sequence(renamed)


def test_a_binary_file_is_named(tmp_path):
    path = tmp_path / "sensor.yaml"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(ValueError, match="is not a text file"):
        calibration.read_camera(path)


@pytest.mark.data
def test_the_real_sequences_are_read_completely(shared_data):
    euroc = open_sequence(shared_data / "sequences" / "euroc_v1_01")
    kitti = open_sequence(shared_data / "sequences" / "kitti_part")
    assert (euroc.layout, euroc.name, len(euroc)) == ("euroc", "euroc_v1_01", 95)
    assert (kitti.layout, kitti.name, len(kitti)) == ("kitti", "kitti_part", 51)
    for sequence, most in ((euroc, 0.002), (kitti, 1.5)):  # metres per frame: hovering and driving
        turns = sequence.poses[:, :3, :3]
        np.testing.assert_allclose(turns @ np.swapaxes(turns, 1, 2), np.tile(np.eye(3), (len(turns), 1, 1)), atol=1e-5)
        assert np.linalg.norm(np.diff(sequence.poses[:, :3, 3], axis=0), axis=1).max() < most


def test_indented_comments_and_a_byte_order_mark_are_ignored_in_a_tum_list(tum):
    whole = open_sequence(tum)
    for name in ("rgb.txt", "groundtruth.txt"):
        text = (tum / name).read_text()
        (tum / name).write_text("\ufeff" + text + "  # a comment\n\t#another\n", encoding="utf-8")
    found = open_sequence(tum)
    np.testing.assert_array_equal(found.times, whole.times)
    np.testing.assert_array_equal(found.poses, whole.poses)


def test_times_are_associated_with_the_nearest_stamp_in_little_memory():
    random = np.random.default_rng(0)
    times, stamps = random.uniform(-1, 11, 500), np.sort(random.uniform(0, 10, 300))
    expected = np.abs(times[:, None] - stamps).min(axis=1)
    np.testing.assert_array_equal(distance_to_nearest(times, stamps), expected)
    np.testing.assert_array_equal(distance_to_nearest(times, stamps[:1]), np.abs(times - stamps[0]))
    assert np.isinf(distance_to_nearest(times, stamps[:0])).all()
    # A table of all pairs would take 32 GB.
    tracemalloc.start()
    distance_to_nearest(np.arange(20_000) / 20, np.arange(200_000) / 200)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
