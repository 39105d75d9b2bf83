"""`extract --format` and `match --format` as users run them: chosen pairs, recordings, interruptions and misuse."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from album import NAMES, files, write_album

from superpoint_ros.commands.pairs import choose_pairs
from superpoint_ros.io.images import list_images

h5py = pytest.importorskip("h5py", reason="h5py, which reads hloc's files, is not installed")
pycolmap = pytest.importorskip("pycolmap", reason="pycolmap, which reads COLMAP's databases, is not installed")


@pytest.fixture
def album(tmp_path, photograph):
    """Four overlapping images in two folders."""
    return write_album(tmp_path / "album", photograph)


@pytest.fixture
def tool(command, tiny_weights, tmp_path):
    """Run a command with the small network and the output folder `out`."""

    def run(verb, *words):
        network = ("--weights", tiny_weights, "--precision", "float32", "--device", "cpu", "--max-keypoints", 80)
        return command(verb, *words, *network, "--out", tmp_path / "out")

    return run


def test_sequences_are_matched_in_the_order_of_their_numbers_within_their_folders():
    pairs = choose_pairs("sequential", sorted([*NAMES, "east/frame_100.png"]), 2)
    numbers = [tuple(name.removeprefix("east/frame_").removesuffix(".png") for name in pair) for pair in pairs]
    assert numbers == [("9", "10"), ("9", "11"), ("10", "11"), ("10", "100"), ("11", "100")]


def test_a_file_chooses_the_pairs_without_repeats(tool, album, tmp_path):
    lines = ["# by hand", f"{NAMES[0]} {NAMES[3]}", "", f"{NAMES[3]} {NAMES[0]}", f"{NAMES[1]} {NAMES[1]}"]
    (tmp_path / "chosen.txt").write_text("\n".join(lines), encoding="utf-8")
    assert tool("match", album, "--format", "hloc", "--pairs", tmp_path / "chosen.txt").returncode == 0
    assert (tmp_path / "out" / "pairs.txt").read_text(encoding="utf-8") == f"{NAMES[0]} {NAMES[3]}\n"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("a.png b.png c.png", "line 1 of '{path}' has 3 words"),
        ("\nwest/a.png gone.png", "line 2 of '{path}' names 'gone.png'"),
        ("# nothing", "names no pair"),
        (None, "--pairs is '{path}', allowed is exhaustive, sequential or a file"),
    ],
)
def test_an_unusable_file_of_pairs_is_one_sentence(tool, album, tmp_path, lines, expected):
    path = tmp_path / "chosen.txt"
    if lines is not None:
        path.write_text(lines, encoding="utf-8")
    done = tool("match", album, "--format", "hloc", "--pairs", path)
    assert done.returncode == 1 and expected.format(path=path) in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["match", "a.png"], "1 images are named, allowed are two"),
        (["match", "a.png", "b.png", "--pairs", "sequential"], "--pairs needs --format hloc or colmap"),
        (["match", "a", "--format", "hloc", "--overlap", "3"], "--overlap needs --pairs sequential"),
        (["match", "a", "--format", "hloc", "--camera-info", "c"], "--camera-info needs --format colmap"),
        (["extract", "a.png", "--every", "1"], "--every needs --format hloc or colmap"),
        (["extract", "a.png", "--format", "hloc", "--overlay"], "--overlay needs --format npz"),
    ],
)
def test_options_that_do_not_belong_together_are_misuse(command, words, expected):
    done = command(*words)
    assert done.returncode == 2 and expected in done.stderr and done.stderr.count("\n") == 1


def test_an_unreadable_image_is_named_and_left_out(tool, album, tmp_path):
    (album / "west" / "broken.png").write_bytes(b"no image")
    done = tool("match", album, "--format", "colmap")
    assert done.returncode == 1 and "broken.png" in done.stderr and "4 of 5 images, 6 pairs" in done.stdout
    with pycolmap.Database.open(tmp_path / "out" / "database.db") as found:
        assert {image.name for image in found.read_all_images()} == set(NAMES)


def test_an_interrupted_run_continues_and_leaves_no_incomplete_file(album, tiny_weights, tmp_path, project, photograph):
    for number in range(60):
        cv2.imwrite(str(album / f"{number:03d}.png"), np.roll(photograph, 7 * number, axis=1))
    words = [
        "extract",
        album,
        "--format",
        "hloc",
        "--weights",
        tiny_weights,
        "--device",
        "cpu",
        "--out",
        tmp_path / "out",
    ]
    command = [sys.executable, "-m", "superpoint_ros", *map(str, words)]
    partial = tmp_path / "out" / "partial" / "features"
    process = subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while len(list(partial.rglob("*.npz"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = {path: path.stat().st_mtime_ns for path in partial.rglob("*.npz")}
    assert 5 <= len(kept) < 64 and not (tmp_path / "out" / "features.h5").exists()
    process = subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while process.poll() is None:
        now = {path: path.stat().st_mtime_ns for path in kept if path.exists()}
        assert now.items() <= kept.items()  # what was there is not computed again
        time.sleep(0.02)
    assert process.returncode == 0 and b"64 of 64 images" in process.communicate()[0]
    with h5py.File(tmp_path / "out" / "features.h5") as found:
        assert {name for name in found if name.endswith(".png")} == {f"{number:03d}.png" for number in range(60)}
    assert files(tmp_path / "out") == ["features.h5"]


def test_other_settings_do_not_continue_an_interrupted_run(tool, album, tmp_path, monkeypatch):
    from superpoint_ros.commands.image_set import ImageSet

    with monkeypatch.context() as patch:
        patch.setattr(ImageSet, "match", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert tool("match", album, "--format", "hloc").returncode == 130
    assert (tmp_path / "out" / "partial" / "features" / f"{NAMES[0]}.npz").is_file()
    assert tool("match", album, "--format", "hloc", "--nms-radius", 12).returncode == 0
    assert tool("extract", album, "--format", "hloc").returncode == 0
    with h5py.File(tmp_path / "out" / "features.h5") as found:
        assert min(len(found[name]["keypoints"]) for name in NAMES) > 40


@pytest.fixture
def recording(tmp_path, typestore, photograph):
    """Six frames at 10 Hz with their calibration, in a bag."""
    from rosbags.rosbag2 import StoragePlugin, Writer

    types = typestore.types
    image_type, info_type = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo"
    time_class, header_class = types["builtin_interfaces/msg/Time"], types["std_msgs/msg/Header"]
    region = types["sensor_msgs/msg/RegionOfInterest"](x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    with Writer(tmp_path / "bag", version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        images = writer.add_connection("/cam/image_raw", image_type, typestore=typestore)
        infos = writer.add_connection("/cam/camera_info", info_type, typestore=typestore)
        for number in range(6):
            stamp = 10**9 + number * 10**8
            header = header_class(stamp=time_class(sec=1, nanosec=number * 10**8), frame_id="cam")
            info = types[info_type](
                header=header, height=120, width=160, distortion_model="plumb_bob", d=np.zeros(5),
                k=np.array([150, 0, 79.5, 0, 150, 59.5, 0, 0, 1.0]), r=np.eye(3).ravel(), p=np.zeros(12),
                binning_x=0, binning_y=0, roi=region,
            )  # fmt: skip
            grey = np.ascontiguousarray(photograph[100:220, 100 + 9 * number : 260 + 9 * number, 1])
            image = types[image_type](
                header=header, height=120, width=160, encoding="mono8", is_bigendian=0, step=160, data=grey.ravel()
            )
            writer.write(infos, stamp, typestore.serialize_cdr(info, info_type))
            writer.write(images, stamp, typestore.serialize_cdr(image, image_type))
    return tmp_path / "bag"


def test_a_recording_is_mapped_with_its_frames_and_its_calibration(tool, recording, tmp_path):
    done = tool("match", recording, "--format", "colmap", "--pairs", "sequential", "--overlap", 1, "--every", 0.2)
    assert done.returncode == 0 and "3 of 3 images, 2 pairs" in done.stdout
    frames = list_images(tmp_path / "out" / "images")
    assert [path.name for path in frames] == [f"frame_{ms:09d}.png" for ms in (0, 200, 400)]
    with pycolmap.Database.open(tmp_path / "out" / "database.db") as found:
        assert {image.name for image in found.read_all_images()} == {path.name for path in frames}
        (camera,) = found.read_all_cameras()
        assert camera.model_name == "PINHOLE" and camera.params.tolist() == [150, 150, 80, 60]
    done = tool("match", recording, "--format", "colmap", "--every", 0.1)
    assert done.returncode == 1 and "already has other images" in done.stderr


@pytest.mark.parametrize("format_", ["hloc", "colmap"])
def test_a_missing_library_is_named_with_its_extra_before_any_work(tool, album, tmp_path, monkeypatch, format_):
    monkeypatch.setitem(sys.modules, {"hloc": "h5py", "colmap": "pycolmap"}[format_], None)
    done = tool("match", album, "--format", format_)
    assert done.returncode == 1 and f"pip install 'superpoint_ros[{format_}]'" in done.stderr
    assert not (tmp_path / "out").exists()
