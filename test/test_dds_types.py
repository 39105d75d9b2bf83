"""Messages of the standalone host: classes, serialisation, names and hashes in DDS."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="rosbags, which knows the ROS messages, is not installed")

from superpoint_ros.hosts.wire import typesystem
from superpoint_ros.hosts.wire.messages import cloud_message
from superpoint_ros.hosts.wire.typesystem import message_class
from superpoint_ros.node.errors import StandaloneError

FEATURES = "superpoint_ros/msg/Features"
STRING = "std_msgs/msg/String"


def header(frame_id="camera"):
    stamp = message_class("builtin_interfaces/msg/Time")(sec=12, nanosec=345)
    return message_class("std_msgs/msg/Header")(stamp=stamp, frame_id=frame_id)


def features(count, size=256):
    random = np.random.default_rng(count)
    return message_class(FEATURES)(
        header=header(),
        image_height=480,
        image_width=640,
        weights="default:0123456789ab",
        keypoints=random.random(2 * count, np.float32),
        scores=random.random(count, np.float32),
        track_ids=np.arange(count, dtype=np.int64),
        track_ages=np.arange(count, dtype=np.uint32),
        coasted=np.arange(count) % 3 == 0,
        covariance=random.random(3 * count, np.float32),
        camera_model_of_points="plumb_bob",
        normalized=random.random(2 * count, np.float32),
        velocity=random.random(2 * count, np.float32),
        sizes=random.random(count, np.float32),
        levels=np.arange(count, dtype=np.uint8),
        descriptor_size=size,
        descriptor_type=message_class(FEATURES).FLOAT32,
        descriptors=random.random(count * size, np.float32).view(np.uint8),
    )


@pytest.mark.parametrize("count", [0, 1, 7, 1000])
def test_features_survive_serialisation(count):
    sent = features(count)
    received = typesystem.deserialize(typesystem.serialize(sent, FEATURES), FEATURES)
    assert received.header == sent.header
    assert (received.image_height, received.image_width, received.weights) == (480, 640, "default:0123456789ab")
    for name in (
        "keypoints",
        "scores",
        "track_ids",
        "track_ages",
        "coasted",
        "covariance",
        "normalized",
        "velocity",
        "sizes",
        "levels",
        "descriptors",
    ):
        assert getattr(received, name).dtype == getattr(sent, name).dtype
        np.testing.assert_array_equal(getattr(received, name), getattr(sent, name))


def test_the_bytes_are_little_endian_xcdr1_in_words_of_four():
    data = typesystem.serialize(message_class(STRING)(data="hello"), STRING)
    assert data == b"\x00\x01\x00\x00" + b"\x06\x00\x00\x00" + b"hello\x00" + b"\x00\x00"


@pytest.mark.serial
def test_a_message_of_one_megabyte_costs_no_more_than_a_few_copies():
    """One to two milliseconds if a copy takes 0.1; a Python loop over numbers would cost hundreds of copies."""
    message, data = features(1000), np.ones(1_000_000, np.uint8)
    work = {
        "both ways": lambda: typesystem.deserialize(typesystem.serialize(message, FEATURES), FEATURES),
        "copies": lambda: [data.copy() for _ in range(20)],
    }
    least = dict.fromkeys(work, float("inf"))
    for _ in range(20):
        for name, run in work.items():
            start = time.thread_time()
            run()
            least[name] = min(least[name], time.thread_time() - start)
    assert least["both ways"] < least["copies"]


def test_names_in_dds_are_those_of_ros():
    assert typesystem.dds_type_name("sensor_msgs/msg/Image") == "sensor_msgs::msg::dds_::Image_"
    assert typesystem.dds_topic_name("/camera/image") == "rt/camera/image"


def test_the_type_hash_is_the_one_that_ros_jazzy_announces():
    expected = "RIHS01_d31d41a9a4c4bc8eae9be757b0beed306564f7526c88ea6a4588fb9582527d47"
    assert typesystem.type_hash("sensor_msgs/msg/Image") == expected


@pytest.mark.parametrize(
    "name", ["sensor_msgs/msg/Nonsense", "sensor_msgs/Image", "Image", "", "sensor_msgs/srv/Image"]
)
def test_an_unknown_type_is_rejected_by_name(name):
    with pytest.raises(StandaloneError, match=r"message type .* is (unknown|invalid), allowed are") as error:
        message_class(name)
    assert repr(name) in str(error.value)


def test_a_message_of_another_type_is_rejected():
    with pytest.raises(StandaloneError, match="message is of type std_msgs/msg/Header, allowed is std_msgs/msg/String"):
        typesystem.serialize(header(), STRING)


def test_a_field_that_does_not_fit_is_rejected():
    with pytest.raises(StandaloneError, match="message does not fit superpoint_ros/msg/Features"):
        typesystem.serialize(message_class(FEATURES)(**{**vars(features(3)), "keypoints": [1.0, 2.0]}), FEATURES)


@pytest.mark.parametrize("hole", [False, True])
def test_a_cloud_is_marked_as_dense_if_all_points_are_finite(hole):
    points = np.arange(8, dtype=np.float32).reshape(2, 4)
    points[1, :3] = np.nan if hole else 1
    cloud = cloud_message(header(), points)
    data = typesystem.serialize(cloud, "sensor_msgs/msg/PointCloud2")
    assert typesystem.deserialize(data, "sensor_msgs/msg/PointCloud2").is_dense is not hole


@pytest.mark.parametrize("data", [b"", b"\x00\x01\x00\x00", b"\x00\x01\x00\x00\xff\xff\xff\x7f", bytes(64)])
def test_bytes_that_are_not_such_a_message_are_rejected(data):
    with pytest.raises(StandaloneError, match=f"{len(data)} bytes received are not a message of type"):
        typesystem.deserialize(data, FEATURES)
