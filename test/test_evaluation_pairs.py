"""Datasets: images and ground truth are framed together, and missing or broken items are skipped and reported."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from superpoint_ros.evaluation import pairs, warps
from superpoint_ros.evaluation.framing import Framing
from superpoint_ros.two_view.geometry import inside, project

TILT = np.array([[0.92, 0.1, 14.0], [-0.06, 1.04, 9.0], [1.5e-4, -1e-4, 1.0]])


def write_sequence(folder, image, views, sizes):
    """Write a sequence in HPatches layout: image k is the first warped by `views[k]`, of (height, width) `sizes[k]`."""
    folder.mkdir(parents=True)
    image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    assert cv2.imwrite(str(folder / "1.ppm"), image)
    for k, homography in views.items():
        cv2.imwrite(str(folder / f"{k}.ppm"), cv2.warpPerspective(image, homography, sizes[k][::-1]))
        np.savetxt(folder / f"H_1_{k}", homography)
    return folder


@pytest.fixture
def dataset(tmp_path, grey):
    """Two viewpoint sequences from a photograph, with images of different sizes and not 4:3."""
    wide = grey[:300]
    views = {k: TILT @ np.array([[1, 0, 4.0 * k], [0, 1, 0], [0, 0, 1]]) for k in range(2, 7)}
    sizes = {k: (330 + 10 * k, 470) for k in views}
    write_sequence(tmp_path / "data" / "v_one", wide, views, sizes)
    write_sequence(tmp_path / "data" / "v_two", grey, views, dict.fromkeys(views, (512, 400)))
    return tmp_path / "data"


def difference(pair):
    """Compute the mean grey-level difference of the second image and the warped first one, in the common view."""
    size = pair.second.shape[::-1]
    warped = cv2.warpPerspective(pair.first, pair.homography, size, flags=cv2.INTER_LINEAR)
    ys, xs = np.mgrid[0 : size[1], 0 : size[0]]
    back = project(np.linalg.inv(pair.homography), np.column_stack((xs.ravel(), ys.ravel())))
    seen = inside(back, pair.first.shape).reshape(size[::-1]) & (pair.second > 0)
    assert seen.mean() > 0.3
    return float(np.abs(warped.astype(float) - pair.second)[seen].mean())


@pytest.mark.parametrize("size", ["240x320", "480x640", "320", "native"])
def test_the_ground_truth_is_scaled_and_cropped_with_the_images(dataset, size):
    framing = Framing.parse(size)
    for sequence in pairs.read_dataset(dataset).sequences:
        views = pairs.Views(sequence, framing)
        for k in (2, 6):
            pair = views.pair(k)
            if framing.crop:
                assert pair.first.shape == pair.second.shape == framing.crop
            right = difference(pair)
            assert right < 6
            # A shift of half a pixel is already worse, so the maps contain none.
            aside = np.array([[1, 0, 0.75], [0, 1, 0.75], [0, 0, 1]])
            assert difference(pairs.Pair("", pair.first, pair.second, aside @ pair.homography)) > right


def test_ground_truth_that_ignores_scaling_or_cropping_is_detected(dataset):
    sequence = pairs.read_dataset(dataset).sequences[0]
    framing = Framing.parse("240x320")
    pair = pairs.Views(sequence, framing).pair(3)
    raw = sequence.views[3][1]
    first, second = (cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in (sequence.reference, sequence.views[3][0]))
    scales = [max(240 / image.shape[0], 320 / image.shape[1]) for image in (first, second)]
    scaled_only = np.diag([scales[1], scales[1], 1]) @ raw @ np.diag([1 / scales[0], 1 / scales[0], 1])
    for wrong in (raw, scaled_only):
        assert difference(pairs.Pair("", pair.first, pair.second, wrong)) > 3 * difference(pair)


def test_framing_maps_pixels_to_their_positions_in_the_image():
    image = np.zeros((300, 700), np.uint8)
    cv2.circle(image, (410, 140), 9, 255, -1)
    for size in ("240x320", "480x640", "350", "1400"):
        framed, matrix = Framing.parse(size).apply(image)
        ys, xs = np.nonzero(framed > 127)
        assert np.allclose([xs.mean(), ys.mean()], project(matrix, np.array([[410.0, 140.0]]))[0], atol=0.25)


@pytest.mark.parametrize("text", ["", "240", "240x", "x", "8x8", "big", "-3", "240x320x3"])
def test_a_bad_size_is_rejected_with_what_is_allowed(text):
    if text == "240":
        assert Framing.parse(text).longer_side == 240
        return
    with pytest.raises(ValueError, match="HEIGHTxWIDTH"):
        Framing.parse(text)


def test_broken_items_are_reported_and_the_rest_is_read(dataset):
    one, two = dataset / "v_one", dataset / "v_two"
    (one / "H_1_3").unlink()
    (one / "5.ppm").unlink()
    (one / "H_1_6").write_text("1 0 0\n0 1\n")
    for name in ("6.ppm", "H_1_6"):
        (two / name).unlink()
    (two / "H_1_4").write_text("0 0 0\n0 0 0\n0 0 0\n")
    (two / "3.ppm").write_bytes(b"P6 no image")
    (dataset / "v_empty").mkdir()
    (dataset / "v_headless").mkdir()
    (dataset / "v_headless" / "2.ppm").write_bytes((one / "2.ppm").read_bytes())
    found = pairs.read_dataset(dataset)
    reasons = {item.name: item.reason for item in found.skipped}
    assert reasons == {
        "v_one/1-3": "homography H_1_3 is missing",
        "v_one/1-5": "image 5 is missing",
        "v_one/1-6": "homography H_1_6 cannot be read as numbers",
        "v_two/1-4": "homography H_1_4 is not an invertible 3 x 3 matrix",
        "v_two/1-6": "image 6 and homography H_1_6 are missing",
        "v_empty": "the folder has no image 1, 2 ... and no homography H_1_k",
        "v_headless": "image 1 is missing",
    }
    assert {s.name: sorted(s.views) for s in found.sequences} == {"v_one": [2, 4], "v_two": [2, 3, 5]}
    with pytest.raises(ValueError, match=r"3\.ppm' cannot be read as an image"):
        pairs.Views(found.sequences[1], Framing()).pair(3)


def test_a_dataset_without_any_sequence_is_rejected(tmp_path):
    with pytest.raises(ValueError, match="has no sequence in HPatches layout"):
        pairs.read_dataset(tmp_path)
    with pytest.raises(ValueError, match="is not a folder"):
        pairs.read_dataset(tmp_path / "absent")


@pytest.fixture
def photographs(tmp_path, photograph):
    folder = tmp_path / "photographs"
    (folder / "more").mkdir(parents=True)
    cv2.imwrite(str(folder / "a.png"), photograph)
    cv2.imwrite(str(folder / "more" / "a.png"), photograph[:, ::-1])
    (folder / "broken.jpg").write_bytes(b"no image")
    return folder


def test_warped_pairs_are_written_with_true_homographies_and_read_as_a_dataset(photographs, tmp_path):
    out = tmp_path / "pairs"
    made, skipped = warps.make_pairs(photographs, out, warps.Warping((120, 160), light=0))
    assert made == 2
    assert [item.name for item in skipped] == [str(photographs / "broken.jpg")]
    found = pairs.read_dataset(out)
    assert [(s.name, s.group) for s in found.sequences] == [("w_a_png", "warped"), ("w_more_a_png", "warped")]
    for sequence in found.sequences:
        pair = pairs.Views(sequence, Framing()).pair(2)
        assert pair.first.shape == (120, 160)
        assert np.abs(pair.homography - np.eye(3)).max() > 0.01
        assert difference(pair) < 8
    assert not list(out.glob(".*")) and not list(out.glob("*.partial"))


def test_making_pairs_resumes_and_does_not_mix_settings(photographs, tmp_path):
    out, settings = tmp_path / "pairs", warps.Warping((120, 160), seed=4)
    warps.make_pairs(photographs, out, settings)
    first = {path: path.read_bytes() for path in sorted(out.rglob("*.png"))}
    kept = out / "w_a_png" / "2.png"
    stamp = kept.stat().st_mtime_ns
    for path in (out / "w_more_a_png").iterdir():
        path.unlink()
    (out / "w_more_a_png").rmdir()
    assert warps.make_pairs(photographs, out, settings)[0] == 2
    assert kept.stat().st_mtime_ns == stamp
    assert {path: path.read_bytes() for path in sorted(out.rglob("*.png"))} == first
    assert json.loads((out / "pairs.json").read_text())["seed"] == 4
    with pytest.raises(ValueError, match="other settings"):
        warps.make_pairs(photographs, out, warps.Warping((120, 160), seed=5))
