"""Host 2: the real command in its own process, over real DDS."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("cyclonedds", reason="needs the Python package cyclonedds")
pytest.importorskip("rosbags", reason="needs the Python package rosbags")

from superpoint_ros.hosts.dds.node import Node
from superpoint_ros.hosts.wire.messages import create_message, header_message, image_message
from superpoint_ros.node import interface
from superpoint_ros.node.detector import stamp_to_ns
from superpoint_ros.node.messages import features_from_message
from superpoint_ros.simulation.flight import Flight

TIMEOUT = 120.0  # timeout in seconds; one or two suffice on an idle machine
DETECTOR = "/front/superpoint_detector"
RELIABLE = interface.Qos(reliable=True, depth=50)


class Inbox:
    """Collects received messages by key, from any thread."""

    def __init__(self, keys):
        self.changed = threading.Condition()
        self.received = {key: [] for key in keys}

    def keeper(self, key):
        def keep(message):
            with self.changed:
                self.received[key].append(message)
                self.changed.notify_all()

        return keep

    def wait(self, done, timeout=TIMEOUT):
        with self.changed:
            assert self.changed.wait_for(done, timeout), {key: len(found) for key, found in self.received.items()}


class Graph(Inbox):
    """A camera and a subscriber around a running detector."""

    def __init__(self, process):
        super().__init__(topic.key for topic in interface.OUTPUTS)
        self.process = process
        self.node = Node("test")
        self.image = self.node.create_publisher("/camera/image", "sensor_msgs/msg/Image", RELIABLE)
        self.compressed = self.node.create_publisher(
            "/camera/image/compressed", "sensor_msgs/msg/CompressedImage", RELIABLE
        )
        for topic in interface.OUTPUTS:
            if topic.key != "image_annotated":
                name = topic.name.replace("~", DETECTOR)
                self.node.create_subscription(name, topic.type, RELIABLE, self.keeper(topic.key))

    def ready(self):
        self.wait(lambda: self.received["diagnostics"])
        deadline = time.monotonic() + TIMEOUT
        while not (self.image.subscription_count or self.compressed.subscription_count):
            assert time.monotonic() < deadline, "the detector does not subscribe"
            time.sleep(0.02)
        return self

    def exchange(self, picture, stamp=None, publisher=None):
        """Publish an image or a whole message; return its features and homography."""
        stamp = stamp or time.time_ns()
        message = picture if hasattr(picture, "header") else image_message(stamp, "camera_optical", picture)
        (publisher or self.image).publish(message)
        stamp = stamp_to_ns(message.header.stamp)
        found = {}

        def arrived():
            for key in ("features", "matched_homography"):
                found[key] = [m for m in self.received[key] if stamp_to_ns(m.header.stamp) == stamp]
            return all(found.values())

        self.wait(arrived)
        return found["features"][0], found["matched_homography"][0]

    def counters(self):
        """Wait for the next diagnostics and return their counters."""
        count = len(self.received["diagnostics"])
        self.wait(lambda: len(self.received["diagnostics"]) > count)
        values = self.received["diagnostics"][-1].status[0].values
        return {v.key: int(v.value) for v in values if v.key in ("received", "processed", "dropped", "failed")}


@pytest.fixture
def start():
    processes, graphs = [], []

    def start(*words, threads=0):
        command = [sys.executable, "-m", "superpoint_ros", "detector", "-r", "image:=/camera/image"]
        command += ["-r", "__ns:=/front", "-p", "max_gap:=600.0", *words]
        environ = {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
        process = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        return process

    def graph(*words, threads=0):
        graphs.append(Graph(start(*words, threads=threads)))
        return graphs[-1].ready()

    yield SimpleNamespace(process=start, graph=graph)
    for one in graphs:
        one.node.close()
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def flight(photograph):
    return Flight(photograph, size=(240, 320))


def test_every_image_yields_both_messages_with_its_header(start, flight):
    graph = start.graph()
    for i in range(6):
        features, homography = graph.exchange(flight.frame(i * 0.1))
        assert features.header.frame_id == homography.header.frame_id == "camera_optical"
    found = features_from_message(features)
    assert found.image_size == (240, 320)
    assert len(found) == len(features.track_ids) > 20
    np.testing.assert_allclose(np.linalg.norm(found.descriptors, axis=1), 1, atol=1e-4)
    np.testing.assert_array_equal(homography.current_points.reshape(-1, 2), found.keypoints[homography.current_indices])
    assert len(homography.inliers) == len(homography.similarity)
    counters = graph.counters()
    assert counters == {"received": 6, "processed": 6, "dropped": 0, "failed": 0}


def test_bad_images_are_counted_and_the_next_one_is_processed(start, flight):
    graph = start.graph()
    good = flight.frame(0)
    for fields in ({"encoding": "unheard_of"}, {"step": 3}, {"height": 4800}, {"height": 0, "width": 0}):
        message = image_message(time.time_ns(), "camera", good)
        for name, value in fields.items():
            setattr(message, name, value)
        graph.image.publish(message)
        deadline = time.monotonic() + TIMEOUT
        failed = graph.counters()["failed"]
        while failed < 1 and time.monotonic() < deadline:
            failed = graph.counters()["failed"]
    features, _ = graph.exchange(flight.frame(0.1))
    assert features.image_height == 240
    counters = graph.counters()
    assert counters["failed"] + counters["dropped"] == 4
    assert counters["processed"] == 1
    graph.process.send_signal(signal.SIGINT)
    _, errors = graph.process.communicate(timeout=TIMEOUT)
    assert "/camera/image: frame skipped: image encoding 'unheard_of' is not supported" in errors


def test_a_changed_size_yields_the_status_image_changed(start, flight, photograph):
    graph = start.graph()
    graph.exchange(flight.frame(0))
    _, homography = graph.exchange(photograph)
    assert homography.status == 5
    assert not homography.homography.any()


def test_compressed_images_are_accepted_if_the_parameter_is_set(start, flight):
    import cv2

    graph = start.graph("-p", "image_transport:=compressed")
    data = cv2.imencode(".jpg", flight.frame(0))[1].reshape(-1)
    header = header_message(time.time_ns(), "camera")
    fields = {"format": "bgr8; jpeg compressed bgr8", "data": data}
    message = create_message("sensor_msgs/msg/CompressedImage", header, fields)
    features, _ = graph.exchange(message, publisher=graph.compressed)
    assert (features.image_height, features.image_width) == (240, 320)


def test_several_cameras_have_their_own_topics_previous_frames_and_counters(start, flight, photograph):
    words = ("-p", "cameras:=[left, right]", "-r", "left/image:=/rig/left", "-r", "right/image:=/rig/right")
    start.process(*words)
    outputs = interface.outputs(("left", "right"))
    inbox = Inbox(outputs)

    def homographies(camera):
        return inbox.received["matched_homography", camera]

    def states():
        return {status.name: status for message in inbox.received["diagnostics", ""][-1:] for status in message.status}

    with Node("test") as node:
        images = {
            camera: node.create_publisher(f"/rig/{camera}", "sensor_msgs/msg/Image", RELIABLE)
            for camera in ("left", "right")
        }
        for place, topic in outputs.items():
            if topic.type != "sensor_msgs/msg/Image":
                name = topic.name.replace("~", DETECTOR)
                node.create_subscription(name, topic.type, RELIABLE, inbox.keeper(place))
        inbox.wait(states)
        deadline = time.monotonic() + TIMEOUT
        while not all(publisher.subscription_count for publisher in images.values()):
            assert time.monotonic() < deadline, "the detector does not subscribe to both"
            time.sleep(0.02)
        for i in range(3):
            pictures = {"left": flight.frame(i * 0.1), "right": np.ascontiguousarray(photograph[: 160 + 16 * (i == 2)])}
            for camera, picture in pictures.items():
                images[camera].publish(image_message(time.time_ns(), f"{camera}_optical", picture))
            inbox.wait(lambda i=i: all(len(homographies(camera)) > i for camera in images))
        assert [message.status for message in homographies("left")] == [1, 0, 0]
        assert [message.status for message in homographies("right")] == [1, 0, 5]
        for camera in images:
            assert {message.header.frame_id for message in homographies(camera)} == {f"{camera}_optical"}
        names = {f"front/superpoint_detector: front end {camera}" for camera in images}

        def counted():
            found = states()
            values = [{v.key: v.value for v in found[name].values} for name in names & set(found)]
            return [each["processed"] for each in values] == ["3", "3"]

        inbox.wait(counted)
        assert set(states()) == names


def test_a_parameters_file_and_assignments_are_applied(start, flight, tmp_path):
    file = tmp_path / "parameters.yaml"
    file.write_text(
        "/front/*:\n  ros__parameters:\n    max_keypoints: 7\n    descriptor_type: float16\n"
        "/elsewhere/*:\n  ros__parameters:\n    max_keypoints: 900\n"
    )
    graph = start.graph("--params-file", str(file), "-p", "nms_radius:=10")
    features, _ = graph.exchange(flight.frame(0))
    assert len(features.scores) <= 7
    assert features.descriptor_type == 1
    assert len(features.descriptors) == 2 * features.descriptor_size * len(features.scores)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("-p", "max_keypoint:=5"), "parameter 'max_keypoint' is unknown"),
        (("-p", "max_keypoints:=0"), "parameter 'max_keypoints' is 0, allowed is an integer from 1 to 20000"),
        (("-p", "weights:=nowhere.pth"), "weights 'nowhere.pth' are neither a file nor one of"),
        (("--params-file", "nowhere.yaml"), "parameters file 'nowhere.yaml' cannot be read"),
        (("-p", "cameras:=left"), "parameter 'cameras' is 'left', allowed is a list of different names"),
        (("-p", "device:=cuda:99"), "device 'cuda:99' is not in this machine"),
    ],
)
def test_a_user_error_stops_the_program_with_one_sentence(command, words, sentence):
    done = command("detector", *words)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert sentence in done.stderr


def test_ctrl_c_stops_the_program_cleanly_within_seconds(start, flight):
    graph = start.graph()
    graph.exchange(flight.frame(0))
    graph.process.send_signal(signal.SIGINT)
    assert graph.process.wait(20) == 0


@pytest.mark.serial
def test_a_slow_detector_processes_the_newest_frames_and_counts_the_dropped_ones(start, flight):
    """With a camera far faster than the network, ages stay below two processing times: nothing queues up."""
    graph = start.graph("-p", "precision:=float32", "-p", "resize:=960", threads=1)  # too fast for any core
    graph.exchange(flight.frame(0))
    pictures = [flight.frame(i / 30) for i in range(60)]
    stop, ages = time.monotonic() + 8, []
    seen = len(graph.received["features"])
    count = 1
    while time.monotonic() < stop:
        graph.image.publish(image_message(time.time_ns(), "camera", pictures[count % 60]))
        count += 1
        time.sleep(1 / 30)
        with graph.changed:
            new, seen = graph.received["features"][seen:], len(graph.received["features"])
        ages += [(time.time_ns() - stamp_to_ns(m.header.stamp)) * 1e-9 for m in new]
    counters, patience = graph.counters(), time.monotonic() + TIMEOUT
    while counters["received"] != sum(counters[name] for name in ("processed", "dropped", "failed")):
        assert time.monotonic() < patience, counters
        time.sleep(0.5)  # the last frame is being processed
        counters = graph.counters()
    processing = 8 / max(counters["processed"] - 2, 1)
    assert counters["dropped"] > counters["processed"]
    assert np.median(ages) < 2 * processing


def test_a_mask_by_topic_keeps_keypoints_out(start, flight):
    graph = start.graph("-p", "mask_max_age:=60.0")
    masks = graph.node.create_publisher("/front/mask", "sensor_msgs/msg/Image", RELIABLE)
    mask = np.full((240, 320), 255, np.uint8)
    mask[:, :160] = 0
    deadline = time.monotonic() + TIMEOUT
    while not masks.subscription_count:
        assert time.monotonic() < deadline, "the detector does not subscribe to masks"
        time.sleep(0.02)
    before = features_from_message(graph.exchange(flight.frame(0))[0]).keypoints
    assert (before[:, 0] < 160).any()
    masks.publish(image_message(time.time_ns(), "camera_optical", mask))

    def masked():
        keypoints = features_from_message(graph.exchange(flight.frame(0))[0]).keypoints
        return len(keypoints) > 0 and (np.round(keypoints[:, 0]) >= 160).all()

    while not masked():  # the mask may come after the first images
        assert time.monotonic() < deadline, "keypoints are still masked"
    assert masked()
