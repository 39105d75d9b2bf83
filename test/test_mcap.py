"""MCAP files of other programs: channels without ROS messages, and files of other profiles."""

from __future__ import annotations

import struct

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="rosbags, which reads recordings, is not installed")

from superpoint_ros.hosts.bag import reading

MAGIC = b"\x89MCAP0\r\n"


def text(value):
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<I", len(data)) + data


def record(code, data):
    return bytes([code]) + struct.pack("<Q", len(data)) + data


@pytest.fixture
def mixed(tmp_path, typestore):
    """Write an MCAP with an image topic, a JSON and a Protobuf channel; return its path and the image."""
    image = np.random.default_rng(0).integers(0, 256, (24, 32), np.uint8)
    name = "sensor_msgs/msg/Image"
    header = typestore.types["std_msgs/msg/Header"](typestore.types["builtin_interfaces/msg/Time"](1, 2), "camera")
    message = typestore.types[name](header, 24, 32, "mono8", 0, 32, image.reshape(-1))
    definition, _ = typestore.generate_msgdef(name, ros_version=2)
    schemas = [
        (name, "ros2msg", definition),
        ("pose", "jsonschema", "{}"),
        ("tf.Frame", "protobuf", b"\x0a\xff\xfe\x80"),
    ]
    encodings = ["cdr", "json", "protobuf"]
    bodies = [typestore.serialize_cdr(message, name), b'{"x": 1}', b"\x08\x01"]

    def write(profile="ros2", summary=True):
        described = b"".join(
            record(3, struct.pack("<H", i + 1) + b"".join(map(text, schema))) for i, schema in enumerate(schemas)
        )
        for i, topic in enumerate(("/image", "/json", "/protobuf")):
            described += record(4, struct.pack("<HH", i, i + 1) + text(topic) + text(encodings[i]) + text(b""))
        data = MAGIC + record(1, text(profile) + text("test")) + described
        for i, body in enumerate(bodies):
            data += record(5, struct.pack("<HIQQ", i, 0, 100 + i, 100 + i) + bytes(body))
        data += record(15, struct.pack("<I", 0))
        start = len(data) if summary else 0
        if summary:
            counts = b"".join(struct.pack("<HQ", i, 1) for i in range(3))
            data += described + record(11, struct.pack("<QHIIIIQQ", 3, 3, 3, 0, 0, 0, 100, 102) + text(counts))
        path = tmp_path / "mixed.mcap"
        path.write_bytes(data + record(2, struct.pack("<QQI", start, 0, 0)) + MAGIC)
        return path

    return write, image


@pytest.mark.parametrize("summary", [True, False])
def test_image_topics_are_read_and_json_and_protobuf_are_reported_once(mixed, caplog, summary):
    write, image = mixed
    frames = list(reading.read_images(write(summary=summary)))
    assert len(frames) == 1 and frames[0][0] == 100
    np.testing.assert_array_equal(frames[0][1], image)
    (warning,) = caplog.messages
    assert "/json (json), /protobuf (protobuf)" in warning


def test_a_topic_without_ros_messages_is_not_listed(mixed):
    with reading.open_recording(mixed[0]()) as recording:
        assert recording.types == {"/image": "sensor_msgs/msg/Image"} and recording.count("/json") == 0


@pytest.mark.parametrize(("profile", "words"), [("ros1", "of profile 'ros1'"), ("", "without a profile")])
def test_a_file_of_another_profile_is_rejected_with_its_profile(mixed, profile, words):
    with pytest.raises(ValueError, match=rf"mixed\.mcap' is an MCAP file {words}, allowed is profile 'ros2'$"):
        list(reading.read_images(mixed[0](profile)))
