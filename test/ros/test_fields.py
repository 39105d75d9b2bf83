"""The fields of the real node's messages: tracks, refined positions, and covariances."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="needs a ROS 2 install in the environment (make test-ros)")

import numpy as np
from camera import Listener

from superpoint_ros import features_from_message

pytestmark = pytest.mark.ros
IMAGE = "/camera/image"


@pytest.fixture
def answers(context, start):
    """Run a node with these parameters on the first frames of a flight; return features and homographies."""

    def answers(frames, **parameters):
        words = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
        remap = ("-r", f"image:={IMAGE}", "-p", "max_gap:=600.0")
        start("ros2", "run", "superpoint_ros", "detector", "--ros-args", *remap, *words)
        listener = Listener(context, IMAGE, "/superpoint_detector")
        try:
            listener.connect()
            return [listener.exchange() for _ in range(frames)]
        finally:
            listener.close()

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
