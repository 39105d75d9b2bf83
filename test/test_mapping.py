"""`extract --format` and `match --format`: sets of images for hloc and COLMAP, read back with h5py and pycolmap."""

from __future__ import annotations

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from album import NAMES, files, write_album

from superpoint_ros import SuperPoint, match
from superpoint_ros.commands.pairs import choose_pairs

h5py = pytest.importorskip("h5py", reason="h5py, which reads hloc's files, is not installed")
pycolmap = pytest.importorskip("pycolmap", reason="pycolmap, which reads COLMAP's databases, is not installed")

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
    return write_album(tmp_path / "album", photograph)


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
