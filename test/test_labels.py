"""Homographic Adaptation, and where its images come from."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from superpoint_ros.training import frames
from superpoint_ros.training.labels import LabelConfig, adapted_heatmap, label_folder, label_image
from superpoint_ros.training.shapes import classes, render

SIZE = (120, 160)


def shape(name="checkerboard", seed=1):
    scene = classes.random_scene(np.random.default_rng(seed), SIZE, name)
    picture = render.render([scene], SIZE, torch.Generator().manual_seed(seed))
    return (picture[0, 0] * 255).round().byte().numpy(), scene.corners


def corner_heatmap(images):
    """An independent detector: corner strength mapped to probabilities."""
    maps = [np.maximum(cv2.cornerMinEigenVal(image, 3, 3), 0) for image in images[:, 0].numpy()]
    strength = torch.from_numpy(np.stack(maps))
    return strength / (strength + 1e-3)


def test_adaptation_averages_the_warped_back_heat_maps():
    image = torch.from_numpy(shape()[0]).float() / 255
    alone = adapted_heatmap(corner_heatmap, image, LabelConfig(warps=1))
    torch.testing.assert_close(alone, corner_heatmap(image[None, None])[0], atol=1e-5, rtol=0)
    many = adapted_heatmap(corner_heatmap, image, LabelConfig(warps=30))
    assert many.shape == SIZE
    assert 0 <= float(many.min()) <= float(many.max()) <= 1


def test_a_constant_detector_is_averaged_to_the_same_constant():
    """Each pixel is divided by the number of views that contain it."""
    image = torch.rand(SIZE)
    level = adapted_heatmap(lambda images: torch.full_like(images[:, 0], 0.3), image, LabelConfig(warps=20))
    torch.testing.assert_close(level, torch.full(SIZE, 0.3), atol=1e-3, rtol=0)


def test_nothing_outside_the_image_affects_the_labels():
    """A detector of black finds nothing in a bright image."""
    found = adapted_heatmap(lambda images: (images[:, 0] < 0.5).float(), torch.full(SIZE, 0.9), LabelConfig(warps=30))
    assert float(found.max()) < 1e-6


def test_adapted_labels_are_on_the_corners_of_a_shape():
    image, corners = shape()
    labels = label_image(corner_heatmap, image, LabelConfig(warps=20, threshold=0.2))
    inside = corners[((corners > 8) & (corners < [SIZE[1] - 9, SIZE[0] - 9])).all(axis=1)]
    nearest = np.linalg.norm(labels[:, None, :2] - inside[None], axis=2).min(axis=0)
    assert np.median(nearest) < 1.0
    assert (np.diff(labels[:, 2]) <= 0).all()


def test_steps_on_the_image_move_labels_closer_to_the_corners():
    distances = {}
    for steps in (0, 2):
        gaps = []
        for seed in range(4):
            image, true = shape(seed=seed)
            true = true[((true > 8) & (true < [SIZE[1] - 9, SIZE[0] - 9])).all(axis=1)]
            labels = label_image(corner_heatmap, image, LabelConfig(warps=10, threshold=0.2, corner_steps=steps))
            gaps.append(np.linalg.norm(labels[:, None, :2] - true[None], axis=2).min(axis=0))
        distances[steps] = np.median(np.concatenate(gaps))
    assert distances[2] < 0.7 * distances[0]


def test_labels_are_in_pixels_of_the_image_whatever_size_it_is_labelled_at():
    image, corners = shape()
    large = cv2.resize(image, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    labels = label_image(corner_heatmap, large, LabelConfig(warps=10, threshold=0.2, longer_side=160))
    wanted = (corners[((corners > 8) & (corners < [SIZE[1] - 9, SIZE[0] - 9])).all(axis=1)] + 0.5) * 3 - 0.5
    nearest = np.linalg.norm(labels[:, None, :2] - wanted[None], axis=2).min(axis=0)
    assert np.median(nearest) < 3.0


def pictures_in(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), shape("polygons")[0])


def test_labelling_resumes_and_reports_unreadable_images(tmp_path, caplog):
    images, out = tmp_path / "images", tmp_path / "labels"
    pictures_in(images, ("a/1.png", "2.png", "3.png"))
    (images / "broken.png").write_text("no image")
    config = LabelConfig(warps=2)
    assert label_folder(corner_heatmap, images, out, config) == 3
    assert "broken.png" in caplog.text
    stamp = (out / "2.png.npy").stat().st_mtime_ns
    (out / "3.png.npy").unlink()
    assert label_folder(corner_heatmap, images, out, config) == 1
    assert (out / "2.png.npy").stat().st_mtime_ns == stamp
    assert np.load(out / "a" / "1.png.npy").shape[1] == 3


def test_processes_divide_the_images_and_label_as_one_would(tmp_path):
    images = tmp_path / "images"
    pictures_in(images, [f"{i}.png" for i in range(5)])
    config = LabelConfig(warps=3)
    counts = [label_folder(corner_heatmap, images, tmp_path / "two", config, shard=(rank, 2)) for rank in (0, 1)]
    assert counts == [3, 2]
    assert label_folder(corner_heatmap, images, tmp_path / "one", config) == 5
    for path in (tmp_path / "one").iterdir():
        np.testing.assert_array_equal(np.load(path), np.load(tmp_path / "two" / path.name))


def test_frames_of_a_video_are_written_once_at_the_requested_interval(tmp_path):
    video = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 10, (160, 120))
    for seed in range(21):
        writer.write(cv2.cvtColor(shape(seed=seed)[0], cv2.COLOR_GRAY2BGR))
    writer.release()
    folder = frames.image_folder(video, tmp_path / "frames", every=0.5)
    names = sorted(path.name for path in folder.glob("*.png"))
    assert names == [f"frame_{ms:09d}.png" for ms in (0, 500, 1000, 1500, 2000)]
    first = cv2.imread(str(folder / names[0]), cv2.IMREAD_GRAYSCALE)
    assert np.abs(first.astype(int) - shape(seed=0)[0]).mean() < 4
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert frames.image_folder(video, tmp_path / "frames", every=0.5) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize("ros", [1, 2])
def test_frames_of_a_bag_are_those_of_the_requested_topic(tmp_path, ros):
    bag = write_bag(tmp_path, ros, {"/left": "checkerboard", "/right": "cube"})
    with pytest.raises(ValueError, match="several image topics, name one of /left, /right"):
        frames.image_folder(bag, tmp_path / "frames")
    with pytest.raises(ValueError, match="'/up' is not among the image topics /left, /right"):
        frames.image_folder(bag, tmp_path / "frames", "/up")
    folder = frames.image_folder(bag, tmp_path / "frames", "/right", every=0.0)
    written = sorted(folder.glob("*.png"))
    assert len(written) == 3
    for seed, path in enumerate(written):
        np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), shape("cube", seed)[0])


def test_an_unsupported_source_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "broken.mp4").write_text("no video")
    (tmp_path / "broken.mcap").write_text("no bag")
    for name in ("notes.txt", "missing", "broken.mp4", "broken.mcap"):
        with pytest.raises(ValueError, match=name):
            frames.image_folder(tmp_path / name, tmp_path / "frames")


def write_bag(folder, ros, topics):
    """Write a recording of three images per topic, as ROS 1 or ROS 2."""
    pytest.importorskip("rosbags", reason="reading bags needs the Python package rosbags")
    from rosbags.rosbag1 import Writer as Writer1
    from rosbags.rosbag2 import StoragePlugin
    from rosbags.rosbag2 import Writer as Writer2
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC if ros == 1 else Stores.ROS2_JAZZY)
    types = store.types
    bag = folder / ("recording.bag" if ros == 1 else "recording")
    writer = Writer1(bag) if ros == 1 else Writer2(bag, version=9, storage_plugin=StoragePlugin.MCAP)
    encode = store.serialize_ros1 if ros == 1 else store.serialize_cdr
    with writer:
        for topic, name in topics.items():
            connection = writer.add_connection(topic, "sensor_msgs/msg/Image", typestore=store)
            for seed in range(3):
                stamp = types["builtin_interfaces/msg/Time"](sec=seed, nanosec=0)
                order = {"seq": seed} if ros == 1 else {}
                header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="camera", **order)
                data = shape(name, seed)[0]
                message = types["sensor_msgs/msg/Image"](
                    header=header, height=SIZE[0], width=SIZE[1], encoding="mono8", is_bigendian=0, step=SIZE[1],
                    data=data.reshape(-1),
                )  # fmt: skip
                writer.write(connection, seed * 10**9, encode(message, "sensor_msgs/msg/Image"))
    return bag
