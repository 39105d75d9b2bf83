"""RTAB-Map: the Python detector as RTAB-Map calls it, and RGBDImage messages as RTAB-Map reads them."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from superpoint_ros import SuperPoint
from superpoint_ros.adapters.rtabmap import compress
from superpoint_ros.hosts.wire.messages import create_message, header_message
from superpoint_ros.hosts.wire.typesystem import deserialize, serialize
from superpoint_ros.node import interface
from superpoint_ros.node.detector import Detector

SIZE = (240, 320)

# In an interpreter of its own, as in RTAB-Map: the folder is appended to the path, the module has the file's name, and
# the image is memory that does not belong to Python.
CALLER = """
import ctypes, sys
from pathlib import Path

import numpy as np

path, image, out = map(Path, sys.argv[1:4])
sys.path.append(str(path.parent))
module = __import__(path.name.split(".")[0])
module.init(0)
pixels = np.load(image)
memory = ctypes.create_string_buffer(pixels.tobytes(), pixels.size)
borrowed = np.frombuffer(memory, np.uint8).reshape(pixels.shape)
results = module.detect(borrowed)
assert type(results) is tuple and len(results) == 2
keypoints, descriptors = results
assert isinstance(keypoints, np.ndarray) and isinstance(descriptors, np.ndarray)
ctypes.memset(memory, 0, pixels.size)
read = [np.ctypeslib.as_array(array.ctypes.data_as(ctypes.POINTER(ctypes.c_float)), array.shape) for array in results]
np.savez(out, keypoints=read[0], descriptors=read[1], types=[str(array.dtype) for array in results])
"""


def as_rtabmap_calls(project, tmp_path, image, **environ):
    """Return what is in memory where the detector's results are, or the finished process if it failed."""
    np.save(tmp_path / "image.npy", image)
    script = project / "scripts" / "rtabmap" / "superpoint_detector.py"
    command = [sys.executable, "-c", CALLER, script, tmp_path / "image.npy", tmp_path / "found.npz"]
    environment = {"PYTHONPATH": str(project), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **environ}
    done = subprocess.run(
        list(map(str, command)), env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        return done
    with np.load(tmp_path / "found.npz") as found:
        return dict(found)


def test_the_detectors_results_are_float32_rows_in_memory(project, tmp_path, grey, tiny_weights):
    image = np.ascontiguousarray(grey[:240, :320])
    settings = {"SUPERPOINT_WEIGHTS": str(tiny_weights), "SUPERPOINT_MAX_KEYPOINTS": "150"}
    found = as_rtabmap_calls(project, tmp_path, image, **settings)
    features = SuperPoint(tiny_weights, max_keypoints=150, device="cpu").extract(image)
    assert found["types"].tolist() == ["float32", "float32"]
    assert found["keypoints"].shape == (150, 3) and found["descriptors"].shape == (150, 24)
    np.testing.assert_array_equal(found["keypoints"][:, :2], features.keypoints)
    np.testing.assert_array_equal(found["keypoints"][:, 2], features.scores)
    np.testing.assert_array_equal(found["descriptors"], features.descriptors)


def test_an_image_without_keypoints_has_arrays_of_the_same_width(project, tmp_path):
    found = as_rtabmap_calls(project, tmp_path, np.full((120, 160), 90, np.uint8), SUPERPOINT_WEIGHTS="light")
    assert found["keypoints"].shape == (0, 3) and found["descriptors"].shape == (0, 256)


def test_a_wrong_setting_is_named(project, tmp_path):
    done = as_rtabmap_calls(project, tmp_path, np.zeros((64, 64), np.uint8), SUPERPOINT_MAX_KEYPOINTS="many")
    assert "SUPERPOINT_MAX_KEYPOINTS is 'many', allowed is an integer of at least 1" in done.stderr


def unpacked(data):
    """Return the matrix of packed bytes: the last three numbers are its size and type, zlib ends before them."""
    data = bytes(data)
    rows, columns, type_ = struct.unpack("<iii", data[-12:])
    stream = zlib.decompressobj()
    found = np.frombuffer(stream.decompress(data), {5: np.float32, 0: np.uint8}[type_])
    assert stream.eof and stream.unused_data == data[-12:]
    return found.reshape(rows, columns)


def test_packed_matrices_are_read_back():
    floats = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    np.testing.assert_array_equal(unpacked(compress(floats)), floats)
    np.testing.assert_array_equal(unpacked(compress(floats[::2, 1:])), floats[::2, 1:])
    np.testing.assert_array_equal(
        unpacked(compress(np.arange(6, dtype=np.uint8).reshape(2, 3))), [[0, 1, 2], [3, 4, 5]]
    )
    assert len(compress(np.zeros((0, 256), np.float32))) == 0


class Host:
    """Keeps the images with features as they arrive at a subscriber."""

    def __init__(self):
        self.received, self.features, self.warnings = [], [], []

    def subscriber_count(self, key, camera):
        return int(key in ("rgbd_image", "stereo_matches"))

    def publish(self, key, camera, header, fields):
        if key == "rgbd_image":
            type_name = interface.topic(key).type
            message = deserialize(serialize(create_message(type_name, header, fields), type_name), type_name)
            self.received.append((camera, message))
        elif key == "features":
            self.features.append((camera, fields))

    def now(self):
        return 0

    def warn(self, text):
        self.warnings.append(text)

    def image_topic(self, camera):
        return f"/{camera}/image_rect"


@pytest.fixture(scope="module")
def room():
    pytest.importorskip("skimage", reason="scikit-image, which holds the room's photographs, is not installed")
    pytest.importorskip("rosbags", reason="rosbags, which serialises messages without ROS, is not installed")
    from superpoint_ros.simulation.room import Room

    return Room(SIZE)


def picture(room, camera):
    grey = cv2.cvtColor(room.frame(0.5, camera), cv2.COLOR_BGR2GRAY)
    layout = {"height": SIZE[0], "width": SIZE[1], "encoding": "mono8", "is_bigendian": 0, "step": SIZE[1]}
    return SimpleNamespace(header=header_message(10**9 + 5, f"optical_{camera}"), **layout, data=grey.ravel())


def camera_info(room, camera, distortion=0.0):
    projection = np.column_stack((room.intrinsics, [-room.intrinsics[0, 0] * room.baseline * camera, 0, 0]))
    region = SimpleNamespace(x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return SimpleNamespace(
        height=SIZE[0], width=SIZE[1], distortion_model="plumb_bob", d=np.array([distortion, 0, 0, 0, 0]),
        k=room.intrinsics.ravel(), r=np.eye(3).ravel(), p=projection.ravel(), binning_x=0, binning_y=0, roi=region
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(room):
    def run(cameras, distortion=0.0, **values):
        host = Host()
        values = {"adapters": ["rtabmap"], "weights": "light", "max_keypoints": 300, "device": "cpu", **values}
        detector = Detector({**values, "cameras": cameras}, host, live=False)
        for index, camera in enumerate(cameras):
            detector.set_camera_info(camera_info(room, index, distortion), camera)
        for index, camera in enumerate(cameras):
            detector.submit_image(picture(room, index), camera)
        assert detector.front_end.counters.processed == len(cameras)
        return host

    return run


@pytest.fixture(scope="module")
def pair(run):
    return run(["left", "right"], stereo=True)


def test_an_image_has_its_features_and_its_calibration(run, room):
    host = run([""])
    ((_, message),) = host.received
    ((_, features),) = host.features
    points = np.array([[point.pt.x, point.pt.y] for point in message.key_points], np.float32)
    np.testing.assert_array_equal(points.ravel(), features["keypoints"])
    np.testing.assert_array_equal([point.response for point in message.key_points], features["scores"])
    assert [point.class_id for point in message.key_points] == features["track_ids"].tolist()
    assert {(point.size, point.angle, point.octave) for point in message.key_points} == {(8, -1, 0)}
    descriptors = features["descriptors"].view(np.float32).reshape(len(points), 256)
    np.testing.assert_array_equal(unpacked(message.descriptors), descriptors)
    assert message.header.stamp.nanosec == 5 and message.rgb.header.frame_id == "optical_0"
    np.testing.assert_array_equal(message.rgb.data, picture(room, 0).data)
    assert (message.rgb.encoding, message.rgb.step) == ("mono8", SIZE[1])
    np.testing.assert_array_equal(message.rgb_camera_info.p.reshape(3, 4), camera_info(room, 0).p.reshape(3, 4))
    assert not len(message.depth.data) and not len(message.points) and message.depth_camera_info.k[0] == 0
    assert not host.warnings


def test_a_stereo_pair_is_one_message_of_the_left_camera(pair, room):
    ((camera, message),) = pair.received
    assert camera == "left" and not pair.warnings
    for image, index in ((message.rgb, 0), (message.depth, 1)):
        np.testing.assert_array_equal(image.data, picture(room, index).data)
        assert image.header.frame_id == f"optical_{index}"
    left, right = (info.p.reshape(3, 4) for info in (message.rgb_camera_info, message.depth_camera_info))
    assert left[0, 3] == 0
    np.testing.assert_allclose(-right[0, 3] / right[0, 0], room.baseline)


def test_the_points_of_a_stereo_pair_are_those_of_its_keypoints_at_true_depth(pair, room):
    ((_, message),) = pair.received
    points = np.array([[point.x, point.y, point.z] for point in message.points])
    pixels = np.array([[point.pt.x, point.pt.y] for point in message.key_points])
    known = np.isfinite(points[:, 2])
    assert len(points) == len(pixels) and 0.4 < known.mean() < 1
    seen = points[known] @ room.intrinsics.T
    np.testing.assert_allclose(seen[:, :2] / seen[:, 2:], pixels[known], atol=0.01)
    depth = room.depth(0.5)[tuple(np.round(pixels[known]).astype(int).T[::-1])]
    assert np.median(np.abs(points[known, 2] / depth - 1)) < 0.01


def test_images_that_are_not_rectified_are_warned_about_and_keep_their_features(run):
    host = run([""], distortion=-0.1, rectified="false")
    assert len(host.features) == 1 and not host.received
    (warning,) = host.warnings
    assert "rgbd_image skipped" in warning and "rectified images only" in warning
