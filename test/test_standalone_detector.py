"""Host 2: what the real command makes of images in its own process, over real DDS."""

from __future__ import annotations

import signal
import time

import numpy as np
import pytest

pytest.importorskip("cyclonedds", reason="needs the Python package cyclonedds")
pytest.importorskip("rosbags", reason="needs the Python package rosbags")

from detector_process import DETECTOR, RELIABLE, TIMEOUT, Inbox, detectors

from superpoint_ros.hosts.dds.node import Node
from superpoint_ros.hosts.wire.messages import create_message, header_message, image_message
from superpoint_ros.node import interface
from superpoint_ros.node.messages import features_from_message
from superpoint_ros.simulation.flight import Flight


@pytest.fixture
def start():
    with detectors() as start:
        yield start


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
