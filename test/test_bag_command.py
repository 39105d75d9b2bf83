"""`superpoint-ros bag` as users run it: recordings of ROS 1 and 2 in, a bag for any reader out."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="reading and writing bags needs the Python package rosbags")

from recordings import COMPRESSED, FRAMES, IMAGE, INFO, SIZE, moving_frames, read, write_recording
from rosbags.highlevel import AnyReader

from superpoint_ros import SuperPoint, match
from superpoint_ros.hosts.bag.reading import read_images
from superpoint_ros.node.messages import features_from_message


@pytest.fixture(scope="module")
def frames(grey):
    return moving_frames(grey)


@pytest.fixture
def record(tmp_path, frames):
    """Write a recording; `write_recording` has the arguments."""
    return partial(write_recording, tmp_path, frames)


@pytest.mark.parametrize(
    ("ros", "storage", "kind"),
    [(2, "mcap", IMAGE), (2, "sqlite3", COMPRESSED), (1, "mcap", IMAGE)],
    ids=["mcap", "sqlite3 and compressed images", "ROS 1"],
)
def test_every_frame_has_its_features_and_its_homography(
    bag, record, tmp_path, frames, tiny_weights, ros, storage, kind
):
    topic = "/camera/image_raw" + ("/compressed" if kind == COMPRESSED else "")
    source = record(ros, storage, {topic: kind})
    options = ["-p", f"weights:={tiny_weights}", "-p", "precision:=float32", "-p", "match.refine:=false"]
    options += ["--storage", storage, "--json"]
    done = bag(source, tmp_path / "out", *options)
    summary = json.loads(done.stdout)
    assert summary["topic"] == topic and summary["processed"] == summary["received"] == FRAMES
    found = read(tmp_path / "out")
    assert set(found) == {"/superpoint_detector/features", "/superpoint_detector/matched_homography"}
    superpoint, before = SuperPoint(tiny_weights, precision="float32"), None
    written = zip(*found.values(), frames, strict=True)
    for i, ((stamp, features), (other_stamp, homography), image) in enumerate(written):
        assert stamp == other_stamp == 10**9 + i * 50_000_000
        for header in (features.header, homography.header):
            assert (header.stamp.sec, header.stamp.nanosec, header.frame_id) == (10, i * 50_000_000, "optical")
        expected, kept = superpoint.extract(image), features_from_message(features)
        np.testing.assert_array_equal(kept.keypoints, expected.keypoints)
        np.testing.assert_array_equal(kept.descriptors, expected.descriptors)
        if before is None:
            assert homography.status == 1
        else:
            assert homography.reference_stamp.nanosec == (i - 1) * 50_000_000
            indices = np.stack((homography.reference_indices, homography.current_indices), axis=1)
            np.testing.assert_array_equal(indices, match(before, expected, min_similarity=0.5).indices)
        before = expected


def test_with_the_default_weights_the_homographies_are_the_camera_s_motion(bag, record, tmp_path):
    bag(record(), tmp_path / "out")
    homographies = [message for _, message in read(tmp_path / "out")["/superpoint_detector/matched_homography"]]
    assert [message.status for message in homographies] == [1] + [0] * (FRAMES - 1)
    for message in homographies[1:]:
        moved = message.homography.reshape(3, 3) @ [80, 60, 1]
        np.testing.assert_allclose(moved[:2] / moved[2], [78, 60], atol=0.3)


def test_cloud_and_annotated_images_are_written_on_request(bag, record, tmp_path, tiny_weights):
    topics = {"/camera/camera_info": INFO, "/camera/image_raw": IMAGE}
    bag(record(topics=topics), tmp_path / "out", "--cloud", "--annotated", "-p", f"weights:={tiny_weights}")
    found = read(tmp_path / "out")
    clouds = [message for _, message in found["/superpoint_detector/keypoints_cloud"]]
    drawn = [message for _, message in found["/superpoint_detector/image_annotated"]]
    assert len(clouds) == len(drawn) == FRAMES
    assert (drawn[0].height, drawn[0].width, drawn[0].encoding) == (*SIZE, "bgr8")
    points = clouds[0].data.view("<f4").reshape(-1, 4)
    keypoints = found["/superpoint_detector/features"][0][1].keypoints.reshape(-1, 2)
    np.testing.assert_allclose(points[:, :2] * 100 + [79.5, 59.5], keypoints, atol=1e-3)
    assert (points[:, 2] == 1).all()


def test_a_calibration_that_ros_1_recorded_is_used(bag, record, tmp_path, tiny_weights):
    topics = {"/camera/camera_info": INFO, "/camera/image_raw": IMAGE}
    bag(record(ros=1, topics=topics), tmp_path / "out", "--cloud", "-p", f"weights:={tiny_weights}")
    points = read(tmp_path / "out")["/superpoint_detector/keypoints_cloud"][0][1].data.view("<f4").reshape(-1, 4)
    assert len(points) and (points[:, 2] == 1).all()


def test_parameters_and_names_are_those_of_a_ros_2_command_line(bag, record, tmp_path, tiny_weights):
    (tmp_path / "settings.yaml").write_text(
        f"/**:\n  ros__parameters:\n    weights: {tiny_weights}\n    max_keypoints: 40\n    nms_radius: 3\n"
        "    use_sim_time: true\n"
    )
    words = ["--params-file", tmp_path / "settings.yaml", "-p", "max_keypoints:=15", "-p", "track.coast:=0",
             "-r", "__ns:=/front", "-r", "~/features:=/points"]  # fmt: skip
    bag(record(), tmp_path / "out", *words)
    found = read(tmp_path / "out")
    assert set(found) == {"/points", "/front/superpoint_detector/matched_homography"}
    assert all(len(message.scores) == 15 for _, message in found["/points"])


def test_the_first_cloud_has_rays_though_the_image_was_recorded_before_the_calibration(
    bag, record, tmp_path, tiny_weights
):
    topics = {"/camera/image_raw": IMAGE, "/camera/camera_info": INFO}
    bag(record(topics=topics), tmp_path / "out", "--cloud", "-p", f"weights:={tiny_weights}")
    clouds = read(tmp_path / "out")["/superpoint_detector/keypoints_cloud"]
    assert all((message.data.view("<f4").reshape(-1, 4)[:, 2] == 1).all() for _, message in clouds)


def test_one_of_several_image_topics_must_be_selected(bag, record, tmp_path, tiny_weights):
    source = record(topics={"/left/image": IMAGE, "/right/image": IMAGE})
    assert "/left/image, /right/image" in bag(source, tmp_path / "out", code=1).stderr
    bag(source, tmp_path / "out", "--topic", "/right/image", "-p", f"weights:={tiny_weights}")
    assert len(list(read_images(source, "/left/image"))) == FRAMES


def test_a_named_camera_names_the_outputs(bag, record, tmp_path, tiny_weights):
    bag(record(), tmp_path / "out", "-p", "cameras:=[left]", "-p", f"weights:={tiny_weights}")
    with AnyReader([tmp_path / "out"]) as reader:
        names = {connection.topic for connection in reader.connections}
    assert names == {f"/superpoint_detector/left/{name}" for name in ("features", "matched_homography")}


def test_masks_next_to_the_images_are_applied(bag, record, tmp_path, tiny_weights):
    source = record(topics={"/camera/image_raw": IMAGE, "/camera/mask": IMAGE})
    bag(source, tmp_path / "out", "--topic", "/camera/image_raw", "-p", f"weights:={tiny_weights}")
    (features,) = [found for topic, found in read(tmp_path / "out").items() if topic.endswith("/features")]
    keypoints = np.concatenate([features_from_message(message).keypoints for _, message in features])
    assert len(features) == FRAMES and len(keypoints) > 0
    assert (np.round(keypoints[:, 0]) >= SIZE[1] // 2).all()


def test_an_mcap_without_index_loses_no_frame_to_its_masks(bag, record, tmp_path, tiny_weights):
    source = next(record(topics={"/camera/image_raw": IMAGE, "/camera/mask": IMAGE}, count=100).glob("*.mcap"))
    data = bytearray(source.read_bytes())
    data[-28:-12] = bytes(16)  # the footer's offsets of the summary, which is the index
    source.write_bytes(data)
    words = ["--topic", "/camera/image_raw", "-p", f"weights:={tiny_weights}", "--json"]
    assert json.loads(bag(source, tmp_path / "out", *words).stdout)["processed"] == 100
    (features,) = [found for topic, found in read(tmp_path / "out").items() if topic.endswith("/features")]
    stamps = [message.header.stamp.sec * 10**9 + message.header.stamp.nanosec for _, message in features]
    assert stamps == [10 * 10**9 + index * 50_000_000 for index in range(100)]
    assert all((features_from_message(message).keypoints[:, 0] >= SIZE[1] // 2 - 0.5).all() for _, message in features)
