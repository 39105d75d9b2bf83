"""The fields of the real node's messages: tracks, refined positions, and covariances."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="needs a ROS 2 install in the environment (make test-ros)")

import numpy as np
from camera import RELIABLE, Listener
from sensor_msgs.msg import CameraInfo, Image

from superpoint_ros import features_from_message

pytestmark = pytest.mark.ros
IMAGE = "/camera/image"


@pytest.fixture
def connected(context, start):
    """Start the node with these parameters; return a listener that is connected to it."""
    opened = []

    def connected(**parameters):
        words = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
        remap = ("-r", f"image:={IMAGE}", "-r", "camera_info:=/camera/camera_info", "-p", "max_gap:=600.0")
        start("ros2", "run", "superpoint_ros", "detector", "--ros-args", *remap, *words)
        opened.append(Listener(context, IMAGE, "/superpoint_detector"))
        opened[-1].connect()
        return opened[-1]

    yield connected
    for listener in opened:
        listener.close()


@pytest.fixture
def answers(connected):
    """Return the features and homographies of a flight's first frames, from a node with these parameters."""

    def answers(frames, **parameters):
        listener = connected(**parameters)
        return [listener.exchange() for _ in range(frames)]

    return answers


def test_tracks_matches_and_covariances_are_filled(answers):
    found = answers(5)
    for features, homography in found:
        count, matches = len(features.scores), len(homography.similarity)
        assert [len(features.track_ids), len(features.track_ages), len(features.coasted)] == [count] * 3
        xx, xy, yy = np.array(features.covariance).reshape(count, 3).T
        assert (xx > 0).all() and (xx * yy > xy**2).all()
        assert [len(homography.refined), len(homography.inliers)] == [matches] * 2
        xx, xy, yy = np.array(homography.match_covariance).reshape(matches, 3).T
        assert (xx > 0).all() and (xx * yy > xy**2).all()
        np.testing.assert_array_equal(features_from_message(features).covariance.reshape(-1), features.covariance)
    first, last = found[0][0], found[-1][0]
    assert not any(first.track_ages) and not any(first.coasted)
    ages = np.array(last.track_ages)
    assert ages.max() == 4 and np.mean(ages > 0) > 0.5
    assert any(any(features.coasted) for features, _ in found)
    assert np.mean(found[-1][1].refined) > 0.5
    # A track keeps its id, and grows by one from frame to frame.
    grown = dict(zip(found[-2][0].track_ids, found[-2][0].track_ages, strict=True))
    assert all(grown[number] + 1 == age for number, age in zip(last.track_ids, ages, strict=True) if age)


def test_without_refinement_no_covariances_are_claimed(answers):
    features, homography = answers(3, **{"match.refine": "false"})[-1]
    assert len(features.scores) > 50 and len(homography.similarity) > 50
    assert not len(features.covariance) and not len(homography.match_covariance)
    assert not any(homography.refined) and not any(features.coasted)


def test_without_tracking_no_tracks_are_claimed(answers):
    features, homography = answers(3, tracking="false")[-1]
    assert len(features.scores) > 50 and len(homography.similarity) > 50
    assert not len(features.track_ids) and not len(features.track_ages)


def test_with_a_calibration_points_are_normalized(connected):
    listener = connected()
    assert not listener.exchange()[0].camera_model_of_points
    info = CameraInfo(height=240, width=320, distortion_model="plumb_bob", d=[0.0] * 5)
    info.k = [200.0, 0.0, 159.5, 0.0, 200.0, 119.5, 0.0, 0.0, 1.0]
    assert listener.spin_until(listener.info.get_subscription_count, 20)

    def calibrated():
        listener.info.publish(info)
        features, _ = listener.exchange()
        return features if features.camera_model_of_points and any(features.velocity) else None

    features = listener.spin_until(calibrated, 60)
    assert features.camera_model_of_points == "pinhole"  # as any model without distortion
    normalized = np.array(features.normalized).reshape(-1, 2)
    keypoints = np.array(features.keypoints).reshape(-1, 2)
    np.testing.assert_allclose(normalized * 200 + [159.5, 119.5], keypoints, atol=1e-2)
    assert len(features.velocity) == len(features.normalized)


def test_there_are_no_keypoints_where_the_mask_is_zero(connected):
    listener = connected(mask_max_age=60.0)
    everywhere, _ = listener.exchange()
    assert (np.array(everywhere.keypoints)[::2] < 160).any()
    publisher = listener.node.create_publisher(Image, "/mask", RELIABLE)
    assert listener.spin_until(publisher.get_subscription_count, 20)
    mask = Image(height=240, width=320, encoding="mono8", step=320)
    mask.data.frombytes(np.tile(np.repeat(np.uint8([0, 255]), 160), 240).tobytes())

    def masked():
        mask.header.stamp = listener.node.get_clock().now().to_msg()
        publisher.publish(mask)
        features, _ = listener.exchange()
        return len(features.scores) > 20 and (np.array(features.keypoints)[::2] >= 159.5).all()

    assert listener.spin_until(masked, 60)
