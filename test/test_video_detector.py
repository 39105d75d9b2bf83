"""The detector on video and images in Foxglove's messages, in recordings and live."""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("av", reason="encoding and decoding video needs the Python package av")

from flight_video import COUNT, GROUP, NO_KEYFRAME, check, encode_frames, flight_frames, message

from superpoint_ros.node.detector import Detector

VIDEO, IMAGE = (f"foxglove_msgs/msg/{name}" for name in ("CompressedVideo", "CompressedImage"))


@pytest.fixture(scope="module")
def frames(photograph):
    return flight_frames(photograph)


@pytest.fixture(scope="module")
def encode(frames):
    """Encode the frames: the number and data of each message, given the codec and options."""
    return partial(encode_frames, frames)


class Host:
    """A host that collects what the detector says."""

    def __init__(self):
        self.published, self.warnings = [], []

    def subscriber_count(self, key, camera):
        return 0

    def publish(self, key, camera, header, fields):
        self.published.append((key, header, fields))

    def now(self):
        return 0

    def warn(self, text):
        self.warnings.append(text)

    def header(self, stamp, frame_id):
        return SimpleNamespace(stamp=stamp, frame_id=frame_id)

    def image_topic(self, camera):
        return "/camera/video"


@pytest.fixture
def run(tiny_weights):
    """A detector that has processed messages."""

    def run(messages, transport="foxglove", live=False):
        host = Host()
        values = {"weights": str(tiny_weights), "device": "cpu", "image_transport": transport, "max_gap": 600.0}
        detector = Detector(values, host, live=live)
        _, submit = detector.image_input
        for one in messages:
            submit(one)
        assert not live or detector.front_end.drain(60)
        detector.close()
        return host, detector

    return run


def test_features_have_the_stamps_and_frames_of_the_video(encode, run):
    host, detector = run([message(*packet) for packet in encode("h264")])
    headers = [header for key, header, _ in host.published if key == "features"]
    assert [round((h.stamp.sec - 1) * 10 + h.stamp.nanosec / 1e8) for h in headers] == list(range(COUNT))
    assert {header.frame_id for header in headers} == {"camera"} and not host.warnings
    assert detector.front_end.counters.processed == COUNT


def test_a_broken_stream_costs_one_warning_and_the_frames_up_to_the_next_keyframe(encode, run):
    messages = [message(*packet) for packet in encode("h264")]
    messages[2] = message(2, bytes(100))
    host, detector = run(messages)
    counters = detector.front_end.counters
    assert (counters.received, counters.processed, counters.failed, counters.dropped) == (COUNT, COUNT - 3, 1, 2)
    (warning,) = host.warnings
    assert warning.startswith("/camera/video: frame skipped: a message of the h264 video cannot be decoded")


def test_a_stream_without_a_keyframe_is_named_by_one_warning_and_by_the_diagnostics(encode, run):
    packets = encode("h264")
    host, detector = run([message(*packet) for packet in packets[1:GROUP]])
    assert host.warnings == [f"/camera/video: video: {NO_KEYFRAME}"]
    (state,) = detector.diagnostics()
    assert state.level == 1 and "video: no keyframe has arrived yet" in state.message
    counters = detector.front_end.counters
    assert counters.dropped == counters.received == GROUP - 1
    detector.submit_video(message(*packets[GROUP]))
    (state,) = detector.diagnostics()
    assert state.level == 0 and len(host.warnings) == 1


def test_a_slow_front_end_drops_frames_of_a_video_but_decodes_the_newest(encode, run, frames):
    host, detector = run([message(*packet) for packet in encode("h264")], live=True)
    counters = detector.front_end.counters
    assert counters.received == COUNT == counters.processed + counters.dropped and not counters.failed
    newest = [header.stamp for key, header, _ in host.published if key == "features"][-1]
    assert (newest.sec - 1) * 10 + newest.nanosec // 10**8 == COUNT - 1


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp"])
def test_images_in_foxgloves_messages_are_those_of_ros(run, frames, ending):
    data = cv2.imencode(ending, frames[0])[1].reshape(-1)
    host, _ = run([message(0, data, {".jpg": "jpeg"}.get(ending, ending[1:]))], transport="foxglove_image")
    header = SimpleNamespace(stamp=SimpleNamespace(sec=1, nanosec=0), frame_id="camera")
    other, _ = run([SimpleNamespace(header=header, format=f"mono8; {ending[1:]} compressed ", data=data)], "compressed")
    found, expected = (
        next(fields["keypoints"] for key, _, fields in one.published if key == "features") for one in (host, other)
    )
    assert len(found) > 20
    np.testing.assert_array_equal(found, expected)


def test_without_pyav_one_sentence_names_the_extra(run, monkeypatch, command):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match=r"package av .*, install it with: pip install 'superpoint_ros\[video\]'$"):
        run([])


@pytest.fixture
def record(tmp_path, encode, frames):
    """Write a recording of the flight: record(type, kind, storage)."""
    pytest.importorskip("rosbags", reason="writing bags needs the Python package rosbags")
    from rosbags.rosbag2 import StoragePlugin, Writer

    from superpoint_ros.hosts.wire.messages import time_message
    from superpoint_ros.hosts.wire.typesystem import message_class, serialize, typestore

    def record(type_name, kind, storage="MCAP", topic="/camera/video"):
        target = tmp_path / "recording"
        if type_name == VIDEO:
            packets = encode(kind)
        else:
            packets = [(number, cv2.imencode(f".{kind}", image)[1].tobytes()) for number, image in enumerate(frames)]
        with Writer(target, version=9, storage_plugin=StoragePlugin[storage]) as writer:
            connection = writer.add_connection(topic, type_name, typestore=typestore())
            for number, data in packets:
                one = message_class(type_name)(
                    timestamp=time_message(10**9 + number * 10**8), frame_id="camera", format=kind,
                    data=np.frombuffer(data, np.uint8),
                )  # fmt: skip
                writer.write(connection, 2 * 10**9 + number * 10**8, serialize(one, type_name))
        return target

    return record


def read(path):
    from rosbags.highlevel import AnyReader

    found: dict[str, list] = {}
    with AnyReader([path]) as reader:
        for connection, stamp, data in reader.messages():
            found.setdefault(connection.topic, []).append((stamp, reader.deserialize(data, connection.msgtype)))
    return found


@pytest.mark.parametrize(
    ("type_name", "kind", "storage"),
    [(VIDEO, "h264", "MCAP"), (VIDEO, "h265", "SQLITE3"), (IMAGE, "webp", "MCAP")],
)
def test_recordings_of_foxgloves_messages_have_features_for_every_frame(
    record, command, tmp_path, tiny_weights, type_name, kind, storage
):
    words = (record(type_name, kind, storage), tmp_path / "out", "-p", f"weights:={tiny_weights}", "--json")
    done = command("bag", *words)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    summary = json.loads(done.stdout)
    assert summary["processed"] == COUNT and summary["topic"] == "/camera/video"
    found = read(tmp_path / "out")["/superpoint_detector/features"]
    assert [stamp for stamp, _ in found] == [2 * 10**9 + number * 10**8 for number in range(COUNT)]
    stamps = [one.header.stamp.sec * 10**9 + one.header.stamp.nanosec for _, one in found]
    assert stamps == [10**9 + number * 10**8 for number in range(COUNT)]
    assert {one.header.frame_id for _, one in found} == {"camera"}


def test_a_recorded_video_can_be_trained_on(record, frames):
    from superpoint_ros.hosts.bag.reading import read_images

    images = list(read_images(record(VIDEO, "h264")))
    check([((stamp - 2 * 10**9) // 10**8, image) for stamp, image in images], frames, range(COUNT))


def test_a_recorded_video_without_pyav_is_one_sentence(record, command, tmp_path, tiny_weights, monkeypatch):
    path = record(VIDEO, "h264")
    monkeypatch.setitem(sys.modules, "av", None)
    done = command("bag", path, tmp_path / "out", "-p", f"weights:={tiny_weights}")
    assert done.returncode == 1 and not (tmp_path / "out").exists()
    assert done.stderr.strip().splitlines()[-1].endswith("install it with: pip install 'superpoint_ros[video]'")


@pytest.mark.parametrize(
    ("transport", "topic"), [("foxglove", "/camera/image/foxglove"), ("foxglove_video", "/camera/image")]
)
def test_a_live_video_yields_features(encode, tiny_weights, transport, topic):
    pytest.importorskip("cyclonedds", reason="needs the Python package cyclonedds")
    pytest.importorskip("rosbags", reason="needs the Python package rosbags")
    from superpoint_ros.hosts.dds.detector import StandaloneDetector
    from superpoint_ros.hosts.dds.node import Node
    from superpoint_ros.hosts.wire.messages import time_message
    from superpoint_ros.hosts.wire.typesystem import message_class
    from superpoint_ros.node.interface import Qos

    reliable, received = Qos(reliable=True, depth=50), []
    assignments = [f"weights:={tiny_weights}", f"image_transport:={transport}", "max_gap:=600.0"]
    deadline = time.monotonic() + 60
    with StandaloneDetector(assignments=assignments, remappings=["image:=/camera/image"]), Node("camera") as node:
        publisher = node.create_publisher(topic, VIDEO, reliable)
        features = "/superpoint_detector/features"
        subscription = node.create_subscription(features, "superpoint_ros/msg/Features", reliable, received.append)
        while not (publisher.subscription_count and subscription.publisher_count):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        for number, data in encode("h264")[1:]:  # joined after the first keyframe
            publisher.publish(
                message_class(VIDEO)(timestamp=time_message(10**9 + number), frame_id="camera", format="h264",
                                     data=np.frombuffer(data, np.uint8))
            )  # fmt: skip
            if number >= GROUP:
                while not received or received[-1].header.stamp.nanosec != number:
                    assert time.monotonic() < deadline, number
                    time.sleep(0.005)
    assert [one.header.stamp.nanosec for one in received] == list(range(GROUP, COUNT))
    assert {one.header.frame_id for one in received} == {"camera"} and len(received[-1].scores) > 20
