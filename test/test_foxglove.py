"""Image annotations for Foxglove: as its schema has them, live over DDS, and in a bag that is read back."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest

pytest.importorskip("rosbags", reason="reading and writing ROS messages needs the Python package rosbags")

from superpoint_ros.hosts.wire.definitions import DEFINITIONS
from superpoint_ros.hosts.wire.messages import image_message
from superpoint_ros.hosts.wire.typesystem import message_class, serialize, typestore
from superpoint_ros.simulation.flight import Flight

COUNT, SIZE = 4, (480, 640)
IMAGE, ANNOTATIONS = "sensor_msgs/msg/Image", "foxglove_msgs/msg/ImageAnnotations"
PUBLISHED = ["CompressedImage", "CompressedVideo", "ImageAnnotations"]


@pytest.fixture(scope="module")
def images(photograph):
    flight = Flight(photograph, size=SIZE)
    found = [cv2.cvtColor(flight.frame(number * 0.1), cv2.COLOR_BGR2GRAY) for number in range(COUNT)]
    return [image_message(10**9 + number * 10**8, "camera", image) for number, image in enumerate(found)]


def ros_type(field):
    """Return the type in ROS of a field of a message in Protobuf."""
    names = {".google.protobuf.Timestamp": "builtin_interfaces/Time"}
    plain = {field.TYPE_DOUBLE: "float64", field.TYPE_STRING: "string", field.TYPE_BYTES: "uint8[]",
             field.TYPE_ENUM: "uint8"}  # fmt: skip
    message = names.get(field.type_name, f"foxglove_msgs/{field.type_name.rpartition('.')[2]}")
    many = "[]" if field.label == field.LABEL_REPEATED else ""
    return plain.get(field.type, message) + many


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_definitions_are_those_of_foxgloves_schemas(name):
    messages = pytest.importorskip("foxglove.messages", reason="Foxglove's schemas are in the package foxglove-sdk")
    protobuf = pytest.importorskip("google.protobuf.descriptor_pb2", reason="reading schemas needs protobuf")
    schema = getattr(messages, name).get_schema()
    files = protobuf.FileDescriptorSet.FromString(schema.data).file
    described = {message.name: message for one in files for message in one.message_type if one.package == "foxglove"}
    assert name in described
    for message in described.values():
        expected = [f"{ros_type(field)} {field.name}" for field in message.field]
        constants = [f"uint8 {each.name}={each.number}" for kind in message.enum_type for each in kind.value]
        lines = DEFINITIONS[f"foxglove_msgs/msg/{message.name}"].split("\n")
        assert list(filter(None, map(str.strip, lines))) == constants + expected


def check(annotations, features, image):
    """Check a message against the features of its image."""
    assert [annotations.circles, annotations.texts, annotations.metadata] == [[], [], []]
    kinds = {1: [], 4: []}
    for one in annotations.points:
        kinds[one.type].append(np.array([[point.x, point.y] for point in one.points]).reshape(-1, 2))
        assert one.thickness >= 1 and one.outline_colors == [] and one.fill_color.a == 0
        colour = one.outline_color
        assert all(0 <= level <= 1 for level in (colour.r, colour.g, colour.b)) and colour.a == 1
        assert one.timestamp == annotations.timestamp == image.header.stamp
    keypoints = np.array(features.keypoints, np.float64).reshape(-1, 2) + 0.5
    drawn = np.concatenate(kinds[1])
    assert len(drawn) == len(keypoints) > 20
    np.testing.assert_array_equal(np.sort(drawn, axis=0), np.sort(keypoints, axis=0))
    assert len(serialize(annotations, ANNOTATIONS)) < image.data.size / 4
    return np.concatenate([*kinds[4], np.zeros((0, 2))]).reshape(-1, 2, 2)


def check_lines(lines, homography):
    first, second = (np.array(points, np.float64).reshape(-1, 2) for points in
                     (homography.reference_points, homography.current_points))  # fmt: skip
    expected = {tuple(row) for row in np.hstack((first, second)) + 0.5}
    assert {tuple(row.reshape(-1)) for row in lines} == expected and len(lines) > 10


def test_a_bag_has_annotations_for_every_frame_which_the_sdk_accepts(images, command, tmp_path, tiny_weights):
    from rosbags.highlevel import AnyReader
    from rosbags.rosbag2 import StoragePlugin, Writer

    with Writer(tmp_path / "recording", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/camera/image", IMAGE, typestore=typestore())
        for number, one in enumerate(images):
            writer.write(connection, 10**9 + number * 10**8, serialize(one, IMAGE))
    words = ("-p", f"weights:={tiny_weights}", "-p", "adapters:=[foxglove]")
    done = command("bag", tmp_path / "recording", tmp_path / "out", *words)
    assert done.returncode == 0, done.stderr
    found: dict[str, list] = {}
    with AnyReader([tmp_path / "out"]) as reader:
        for connection, _, data in reader.messages():
            found.setdefault(connection.topic.rpartition("/")[2], []).append(
                reader.deserialize(data, connection.msgtype)
            )
    assert {name: len(messages) for name, messages in found.items()} == dict.fromkeys(
        ("features", "matched_homography", "image_annotations"), COUNT
    )
    for one, features, homography, image in zip(
        found["image_annotations"], found["features"], found["matched_homography"], images, strict=True
    ):
        one.timestamp = message_class("builtin_interfaces/msg/Time")(one.timestamp.sec, one.timestamp.nanosec)
        own = as_own(one)
        lines = check(own, features, image)
        if image is not images[0]:
            check_lines(lines, homography)
    in_the_sdk(own)


def as_own(message):
    """Convert a message of another type store to this package's."""
    if isinstance(message, list):
        return [as_own(each) for each in message]
    if not hasattr(message, "__msgtype__"):
        return message
    fields = {name: as_own(getattr(message, name)) for name, _ in typestore().fielddefs[message.__msgtype__][1]}
    return message_class(message.__msgtype__)(**fields)


def in_the_sdk(annotations):
    """Build the message with the classes of Foxglove's SDK, which check names and types of all fields."""
    sdk = pytest.importorskip("foxglove.messages", reason="Foxglove's classes are in the package foxglove-sdk")
    kinds = {int(kind.value): kind for kind in (sdk.PointsAnnotationType.Points, sdk.PointsAnnotationType.LineList)}

    def colour(message):
        return sdk.Color(r=message.r, g=message.g, b=message.b, a=message.a)

    points = [
        sdk.PointsAnnotation(
            type=kinds[one.type],
            points=[sdk.Point2(x=point.x, y=point.y) for point in one.points],
            outline_color=colour(one.outline_color),
            fill_color=colour(one.fill_color),
            thickness=one.thickness,
        )
        for one in annotations.points
    ]
    assert len(points) >= 2
    assert sdk.ImageAnnotations(points=points).encode()


def test_a_live_node_publishes_annotations_beside_its_features(images, tiny_weights):
    pytest.importorskip("cyclonedds", reason="needs the Python package cyclonedds")
    from superpoint_ros.hosts.dds.detector import StandaloneDetector
    from superpoint_ros.hosts.dds.node import Node
    from superpoint_ros.node.interface import Qos

    reliable, received = Qos(reliable=True, depth=50), {"features": [], "image_annotations": []}
    assignments = [f"weights:={tiny_weights}", "adapters:=[foxglove]", "max_gap:=600.0"]
    deadline = time.monotonic() + 60

    def wait(done):
        while not done():
            assert time.monotonic() < deadline, {key: len(found) for key, found in received.items()}
            time.sleep(0.01)

    with StandaloneDetector(assignments=assignments), Node("foxglove") as node:
        publisher = node.create_publisher("/image", IMAGE, reliable)
        types = {"features": "superpoint_ros/msg/Features", "image_annotations": ANNOTATIONS}
        subscriptions = [
            node.create_subscription(f"/superpoint_detector/{key}", types[key], reliable, received[key].append)
            for key in received
        ]
        wait(lambda: publisher.subscription_count and all(each.publisher_count for each in subscriptions))
        for number, image in enumerate(images):
            publisher.publish(image)
            wait(lambda number=number: all(len(found) > number for found in received.values()))
    for image, features, drawn in zip(images, *received.values(), strict=True):
        check(drawn, features, image)
