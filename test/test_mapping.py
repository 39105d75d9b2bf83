"""`extract --format` and `match --format`: sets of images for hloc and COLMAP, read back with h5py and pycolmap."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from superpoint_ros import SuperPoint, match
from superpoint_ros.commands.pairs import choose_pairs
from superpoint_ros.io.images import list_images

h5py = pytest.importorskip("h5py", reason="h5py, which reads hloc's files, is not installed")
pycolmap = pytest.importorskip("pycolmap", reason="pycolmap, which reads COLMAP's databases, is not installed")

NAMES = ["east/frame_9.png", "east/frame_10.png", "east/frame_11.png", "west/a.png"]
CAMERA = """
image_width: 160
image_height: 120
camera_matrix: {data: [150.0, 0, 79.5, 0, 151.0, 59.5, 0, 0, 1]}
distortion_model: plumb_bob
distortion_coefficients: {data: [0.1, -0.2, 0.001, 0.002, 0.0]}
"""


@pytest.fixture
def album(tmp_path, photograph):
    """Four overlapping images in two folders."""
    for shift, name in enumerate(NAMES):
        path = tmp_path / "album" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), photograph[100 : 100 + 120, 100 + 8 * shift : 100 + 8 * shift + 160])
    return tmp_path / "album"


@pytest.fixture
def tool(command, tiny_weights, tmp_path):
    """Run a command with the small network and the output folder `out`."""

    def run(verb, *words):
        network = ("--weights", tiny_weights, "--precision", "float32", "--device", "cpu", "--max-keypoints", 80)
        return command(verb, *words, *network, "--out", tmp_path / "out")

    return run


@pytest.fixture
def expected(album, tiny_weights):
    """The features of the images by name."""
    superpoint = SuperPoint(tiny_weights, max_keypoints=80, device="cpu", precision="float32")
    return {name: superpoint.extract(cv2.imread(str(album / name))) for name in NAMES}


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_hlocs_features_have_its_layout(tool, album, tmp_path, expected):
    done = tool("extract", album, "--format", "hloc")
    assert done.returncode == 0 and "4 of 4 images" in done.stdout and str(album) in done.stdout
    assert files(tmp_path / "out") == ["features.h5"]
    with h5py.File(tmp_path / "out" / "features.h5") as found:
        for name in NAMES:
            group, features = found[name], expected[name]
            np.testing.assert_array_equal(group["keypoints"], features.keypoints)
            np.testing.assert_allclose(group["descriptors"][()].T, features.descriptors, atol=1e-3)
            np.testing.assert_allclose(group["scores"], features.scores, atol=1e-3)
            assert group["image_size"][()].tolist() == [160, 120]
            assert group["keypoints"].attrs["uncertainty"] == 1.0
            assert (group["keypoints"].dtype, group["descriptors"].dtype) == (np.float32, np.float16)


def test_hlocs_matches_have_its_layout_and_are_those_of_match(tool, album, tmp_path, expected):
    done = tool("match", album, "--format", "hloc")
    assert done.returncode == 0 and "6 pairs" in done.stdout
    assert files(tmp_path / "out") == ["features.h5", "matches.h5", "pairs.txt"]
    pairs = [line.split() for line in (tmp_path / "out" / "pairs.txt").read_text().splitlines()]
    assert len(pairs) == 6 and {name for pair in pairs for name in pair} == set(NAMES)
    with h5py.File(tmp_path / "out" / "matches.h5") as found:
        for first, second in pairs:
            group = found[first.replace("/", "-")][second.replace("/", "-")]
            forward, scores = group["matches0"][()], group["matching_scores0"][()]
            assert (forward.dtype, scores.dtype) == (np.int16, np.float16)
            assert len(forward) == len(scores) == len(expected[first])
            matches = match(expected[first], expected[second])
            index = np.flatnonzero(forward >= 0)
            np.testing.assert_array_equal(np.column_stack((index, forward[index])), matches.indices)
            np.testing.assert_allclose(scores[index], (1 + matches.similarity) / 2, atol=1e-3)
            assert set(forward[forward < 0]) <= {-1} and not scores[forward < 0].any() and len(index) > 5


def test_a_colmap_database_has_features_at_its_origin_matches_and_verified_geometries(tool, album, tmp_path, expected):
    done = tool("match", album, "--format", "colmap", "--json")
    summary = json.loads(done.stdout)
    database = tmp_path / "out" / "database.db"
    assert done.returncode == 0 and files(tmp_path / "out") == ["database.db"]
    assert summary["files"] == [str(database)] and (summary["images"], summary["pairs"]) == (4, 6)
    with pycolmap.Database.open(database) as found:
        images = {image.name: image for image in found.read_all_images()}
        assert set(images) == set(NAMES) and found.num_frames() == 4
        # One camera for each folder, as guessed by COLMAP.
        cameras = {image.camera_id: found.read_camera(image.camera_id) for image in images.values()}
        assert len(cameras) == found.num_rigs() == 2
        assert {(c.model_name, c.width, c.height) for c in cameras.values()} == {("SIMPLE_RADIAL", 160, 120)}
        for name, image in images.items():
            np.testing.assert_array_equal(found.read_keypoints(image.image_id), expected[name].keypoints + 0.5)
            rows = found.read_descriptors(image.image_id).data
            np.testing.assert_array_equal(np.ascontiguousarray(rows).view(np.float32), expected[name].descriptors)
        total, verified = 0, 0
        for first, second in choose_pairs("exhaustive", NAMES, 1):
            a, b = images[first].image_id, images[second].image_id
            indices = set(map(tuple, match(expected[first], expected[second]).indices.tolist()))
            assert set(map(tuple, found.read_matches(a, b).tolist())) == indices
            inliers = found.read_two_view_geometry(a, b).inlier_matches
            assert set(map(tuple, inliers.tolist())) <= indices
            total, verified = total + len(indices), verified + len(inliers)
        assert summary["matches"] == total and verified > 0.3 * total


def test_extract_writes_a_database_without_matches(tool, album, tmp_path):
    assert tool("extract", album, "--format", "colmap").returncode == 0
    with pycolmap.Database.open(tmp_path / "out" / "database.db") as found:
        assert (found.num_images(), found.num_matched_image_pairs()) == (4, 0) and found.num_keypoints() > 100


def test_a_known_calibration_becomes_colmaps_camera(tool, album, tmp_path):
    (tmp_path / "camera.yaml").write_text(CAMERA, encoding="utf-8")
    done = tool("extract", album, "--format", "colmap", "--camera-info", tmp_path / "camera.yaml")
    assert done.returncode == 0
    with pycolmap.Database.open(tmp_path / "out" / "database.db") as found:
        (camera,) = found.read_all_cameras()
    assert camera.model_name == "OPENCV" and camera.has_prior_focal_length
    np.testing.assert_allclose(camera.params, [150, 151, 80, 60, 0.1, -0.2, 0.001, 0.002])
    # A pixel of OpenCV at (10, 20) is at (10.5, 20.5) for COLMAP, on the same ray.
    matrix = np.array([[150, 0, 79.5], [0, 151, 59.5], [0, 0, 1]])
    ray = cv2.undistortPoints(np.array([[[10.0, 20.0]]]), matrix, np.array([0.1, -0.2, 0.001, 0.002]))
    np.testing.assert_allclose(camera.cam_from_img(np.array([10.5, 20.5])), ray[0, 0], atol=1e-6)


def test_a_calibration_of_another_size_is_one_sentence_and_writes_nothing(tool, album, tmp_path):
    (tmp_path / "camera.yaml").write_text(CAMERA.replace("160", "161"), encoding="utf-8")
    done = tool("match", album, "--format", "colmap", "--camera-info", tmp_path / "camera.yaml")
    assert done.returncode == 1 and "161x120 pixels" in done.stderr and "has 160x120" in done.stderr
    assert "database.db" not in files(tmp_path / "out")


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


def test_images_are_taken_as_they_are_stored_like_hloc_and_colmap_do(tool, album, tmp_path):
    image = cv2.imread(str(album / NAMES[3]))
    encoded = cv2.imencode(".jpg", image)[1].tobytes()
    # Exif with orientation 6, a quarter turn.
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    (album / "turned.jpg").write_bytes(
        encoded[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + encoded[2:]
    )
    assert cv2.imread(str(album / "turned.jpg")).shape == (160, 120, 3)
    assert tool("extract", album / "turned.jpg", "--format", "hloc").returncode == 0
    with h5py.File(tmp_path / "out" / "features.h5") as found:
        assert found["turned.jpg"]["image_size"][()].tolist() == [160, 120]


def test_colmaps_guess_takes_the_focal_length_from_exif(album):
    from superpoint_ros.adapters.colmap import guessed_camera

    encoded = cv2.imencode(".jpg", cv2.imread(str(album / NAMES[3])))[1].tobytes()
    # Exif with FocalLengthIn35mmFilm = 36: an image of 160 pixels has a diagonal of 200, which is 43.27 mm of film.
    tags = b"\x01\0\x69\x87\x04\0\x01\0\0\0\x1a\0\0\0\0\0\0\0" + b"\x01\0\x05\xa4\x03\0\x01\0\0\0\x24\0\0\0\0\0\0\0"
    exif = b"Exif\0\0II*\0\x08\0\0\0" + tags
    path = album / "zoom.jpg"
    path.write_bytes(encoded[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + encoded[2:])
    camera, guess = guessed_camera(path, (120, 160)), guessed_camera(album / NAMES[3], (120, 160))
    assert camera.has_prior_focal_length and not guess.has_prior_focal_length
    np.testing.assert_allclose([camera.params[0], guess.params[0]], [36 * 200 / 43.27, 1.2 * 160], rtol=2e-3)


def test_a_name_that_hlocs_list_of_pairs_cannot_have_is_warned_about(tool, album, tmp_path):
    (album / NAMES[3]).rename(album / "my photo.png")
    done = tool("match", album, "--format", "hloc")
    assert done.returncode == 0 and "'my photo.png' has a space" in done.stderr


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


def reconstruct(folder, images, truth):
    """Map from our database; return the reconstruction and the camera centres' errors after alignment, in metres."""
    options = pycolmap.IncrementalPipelineOptions()
    options.ba_refine_focal_length = options.ba_refine_extra_params = False
    models = pycolmap.incremental_mapping(folder / "database.db", images, folder, options=options)
    best = max(models.values(), key=lambda model: model.num_reg_images())
    centres = np.array([best.find_image_with_name(name).projection_center() for name in truth])
    return best, np.linalg.norm(aligned(centres, np.array(list(truth.values()))), axis=1)


def aligned(points, truth):
    """Return the residuals of (N, 3) points from the truth after the best similarity transform (Umeyama, 1991)."""
    a, b = points - points.mean(0), truth - truth.mean(0)
    u, s, vt = np.linalg.svd(b.T @ a)
    sign = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
    scale = (s * sign.diagonal()).sum() / (a**2).sum()
    return scale * a @ (u @ sign @ vt).T - b


@pytest.mark.slow
def test_colmap_reconstructs_the_room_from_the_database(command, tmp_path):
    pytest.importorskip("skimage.data", reason="scikit-image, which has the room's textures, is not installed")
    from superpoint_ros.simulation.room import Room

    room, truth = Room(), {}
    (tmp_path / "images").mkdir()
    for number in range(12):
        truth[f"{number:03d}.png"] = room.pose(0.5 * number)[:3, 3]
        cv2.imwrite(str(tmp_path / "images" / f"{number:03d}.png"), room.frame(0.5 * number))
    fx, _, cx, _, fy, cy = room.intrinsics[:2].ravel()
    camera = SimpleNamespace(data=[float(value) for value in (fx, 0, cx, 0, fy, cy, 0, 0, 1)])
    (tmp_path / "camera.yaml").write_text(
        f"image_width: 640\nimage_height: 480\ncamera_matrix: {{data: {camera.data}}}\n", encoding="utf-8"
    )
    words = ("--format", "colmap", "--camera-info", tmp_path / "camera.yaml", "--out", tmp_path / "out")
    assert command("match", tmp_path / "images", *words).returncode == 0
    best, errors = reconstruct(tmp_path / "out", tmp_path / "images", truth)
    assert best.num_reg_images() == 12 and best.num_points3D() > 500
    assert best.compute_mean_reprojection_error() < 1.0
    assert np.sqrt(np.mean(errors**2)) < 0.03
