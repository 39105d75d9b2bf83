"""`superpoint-ros extract`: features of real images in files, and all failures reported."""

from __future__ import annotations

import json
import logging

import cv2
import numpy as np
import pytest

from superpoint_ros import SuperPoint, cli


@pytest.fixture
def album(tmp_path, photograph):
    """Three images in two folders, two of them of the same name."""
    for name, (x, y) in {"left/a.png": (0, 0), "right/a.png": (200, 100), "right/b.jpg": (300, 300)}.items():
        path = tmp_path / "album" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), photograph[y : y + 96, x : x + 128])
    return tmp_path / "album"


@pytest.fixture
def extract(tiny_weights, tmp_path, capsys, caplog):
    """Run the command with the small network; return exit code, stdout and log."""

    def run(*words):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            options = [
                "--weights",
                tiny_weights,
                "--precision",
                "float32",
                "--device",
                "cpu",
                "--out",
                tmp_path / "out",
            ]
            code = cli.main([str(word) for word in ["extract", *words, *options]])
        printed = capsys.readouterr()
        return code, printed.out, caplog.text + printed.err

    return run


def written(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_files_contain_the_features_of_the_images(extract, album, tmp_path, tiny_weights):
    code, out, log = extract(album / "left" / "a.png", "--max-keypoints", 50, "--nms-radius", 6)
    assert code == 0 and "1 of 1 images" in out and not log
    assert written(tmp_path / "out") == ["a.png.npz"]
    superpoint = SuperPoint(tiny_weights, max_keypoints=50, nms_radius=6, device="cpu", precision="float32")
    expected = superpoint.extract(cv2.imread(str(album / "left" / "a.png")))
    with np.load(tmp_path / "out" / "a.png.npz", allow_pickle=False) as found:
        assert set(found) == {"keypoints", "scores", "descriptors", "image_size"}
        assert 0 < len(found["keypoints"]) <= 50 and found["keypoints"].dtype == np.float32
        np.testing.assert_array_equal(found["keypoints"], expected.keypoints)
        np.testing.assert_array_equal(found["scores"], expected.scores)
        np.testing.assert_array_equal(found["descriptors"], expected.descriptors)
        assert found["image_size"].tolist() == [96, 128]


def test_images_of_the_same_name_in_different_folders_do_not_overwrite_each_other(extract, album, tmp_path):
    code, out, _ = extract(album)
    assert code == 0 and "3 of 3 images" in out
    assert written(tmp_path / "out") == ["left/a.png.npz", "right/a.png.npz", "right/b.jpg.npz"]
    first, second = (np.load(tmp_path / "out" / side / "a.png.npz")["descriptors"] for side in ("left", "right"))
    assert first.shape != second.shape or not np.allclose(first, second)


def test_links_of_the_same_name_into_one_folder_do_not_overwrite_each_other(extract, album, tmp_path):
    for side, target in (("one", "a.png"), ("two", "b.jpg")):
        (tmp_path / side).mkdir()
        (tmp_path / side / "frame.png").symlink_to(album / "right" / target)
    assert extract(tmp_path / "one" / "frame.png", tmp_path / "two" / "frame.png")[0] == 0
    assert written(tmp_path / "out") == ["one/frame.png.npz", "two/frame.png.npz"]


def test_with_json_each_image_is_one_line_on_stdout_and_nothing_else(extract, album, tmp_path):
    code, out, _ = extract(album, "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [line["image"] for line in lines] == [str(path) for path in sorted(album.rglob("*.*g"))]
    for line in lines:
        assert set(line) == {"image", "features", "keypoints"}
        with np.load(line["features"]) as found:
            assert len(found["keypoints"]) == line["keypoints"] > 0


@pytest.mark.parametrize("content", [b"this is no image", b"", b"\xff\xd8\xff\xe0", "giant"])
def test_a_corrupt_image_is_reported_and_the_others_are_written(extract, album, tmp_path, content, giant_png):
    (album / "left" / "broken.jpg").write_bytes(giant_png if content == "giant" else content)
    code, out, log = extract(album)
    assert code == 1 and "3 of 4 images" in out
    reason = "262144x262144 pixels, allowed are" if content == "giant" else "cannot be read"
    assert "broken.jpg" in log and reason in log and "Traceback" not in log
    assert written(tmp_path / "out") == ["left/a.png.npz", "right/a.png.npz", "right/b.jpg.npz"]


def test_a_missing_and_a_tiny_image_are_reported_with_the_reason(extract, album, tmp_path):
    cv2.imwrite(str(album / "tiny.png"), np.zeros((9, 30, 3), np.uint8))
    code, _, log = extract(album / "gone.png", album / "tiny.png", album / "left" / "a.png")
    assert code == 1 and "gone.png" in log and "does not exist" in log
    assert "tiny.png" in log and "30x9" in log
    assert written(tmp_path / "out") == ["left/a.png.npz"]


def test_a_folder_without_images_is_reported_and_the_others_are_processed(extract, album, tmp_path):
    (tmp_path / "empty").mkdir()
    code, out, log = extract(tmp_path / "empty", album / "left")
    assert code == 1 and "1 of 2 images" in out and "empty" in log and "contains no image" in log
    assert written(tmp_path / "out") == ["a.png.npz"]


OUT_OF_MEMORY = {
    "c++": "std::bad_alloc",
    "pytorch": "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.",
    "pytorch on windows": "DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.",
    "cuda": "CUDA out of memory. Tried to allocate 20.00 MiB.",
    "cudnn": "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "onnxruntime": "Failed to allocate memory for requested buffer of size 9",
    "openvino": "Failed to allocate 9 bytes of memory",
    "opencv": "Insufficient memory",
}


@pytest.mark.parametrize(
    "error",
    [MemoryError(), *(RuntimeError(message) for message in OUT_OF_MEMORY.values())],
    ids=["python", *OUT_OF_MEMORY],
)
def test_an_image_that_does_not_fit_in_memory_is_reported_and_the_others_are_written(
    extract, album, tmp_path, monkeypatch, error
):
    cv2.imwrite(str(album / "left" / "vast.png"), np.zeros((200, 300), np.uint8))
    extract_in_memory = SuperPoint._extract_in_memory

    def small_memory(self, images, *others):
        if images[0].shape[1] == 300:
            raise error
        return extract_in_memory(self, images, *others)

    monkeypatch.setattr(SuperPoint, "_extract_in_memory", small_memory)
    code, out, log = extract(album)
    assert code == 1 and "3 of 4 images" in out and "Traceback" not in log
    assert "vast.png" in log and "300x200 pixels, which do not fit in memory" in log


@pytest.mark.parametrize(
    "message",
    ["CUDA error: an illegal memory access was encountered", "unsupported memory format option ChannelsLast"],
)
def test_other_errors_are_not_taken_for_a_lack_of_memory(superpoint, monkeypatch, message):
    def fail(*_):
        raise RuntimeError(message)

    monkeypatch.setattr(superpoint, "_extract_in_memory", fail)
    with pytest.raises(RuntimeError, match=message):
        superpoint.extract(np.zeros((32, 32), np.uint8))


def test_an_overlay_that_cannot_be_written_is_an_error_of_one_sentence(extract, album, tmp_path):
    (tmp_path / "out" / "a.png.png").mkdir(parents=True)
    code, out, log = extract(album / "left" / "a.png", "--overlay")
    assert code == 1 and not out and "Is a directory" in log and "a.png.png" in log


def test_overlays_have_the_size_of_the_original(extract, album, tmp_path):
    assert extract(album / "right", "--overlay")[0] == 0
    assert written(tmp_path / "out") == ["a.png.npz", "a.png.png", "b.jpg.npz", "b.jpg.png"]
    original = cv2.imread(str(album / "right" / "a.png"))
    drawn = cv2.imread(str(tmp_path / "out" / "a.png.png"))
    assert drawn.shape == original.shape and (drawn != original).any()


def test_running_again_replaces_the_files(extract, album, tmp_path):
    picture = album / "left" / "a.png"
    extract(picture)
    with np.load(tmp_path / "out" / "a.png.npz") as before:
        many = len(before["keypoints"])
    extract(picture, "--max-keypoints", 3)
    with np.load(tmp_path / "out" / "a.png.npz") as after:
        assert len(after["keypoints"]) == 3 < many
    assert written(tmp_path / "out") == ["a.png.npz"]
