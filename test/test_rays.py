"""Published points of calibrated cameras: normalised, their velocities, and in pixels of the ideal camera."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from superpoint_ros import Frame, FrontEnd, FrontEndSettings, Status, SuperPoint
from superpoint_ros.node.camera import Camera
from superpoint_ros.node.messages import features_fields, homography_fields
from superpoint_ros.node.rays import ray_fields
from superpoint_ros.node.visualization import cloud_fields
from superpoint_ros.simulation.flight import Flight
from superpoint_ros.two_view.geometry import project

SIZE, RATE = (360, 480), 10
K = np.array([[330.0, 0, 240], [0, 330, 178], [0, 0, 1]])
D = np.array([-0.28, 0.07, 2e-4, 2e-5, 0.0])
TURN = cv2.Rodrigues(np.array([0.0, 0.02, 0.01]))[0]
P = np.array([[300.0, 0, 236, 0], [0, 300, 180, 0], [0, 0, 1, 0]])


def camera_info(**fields):
    roi = SimpleNamespace(x_offset=0, y_offset=0, height=0, width=0)
    base = {"height": SIZE[0], "width": SIZE[1], "k": K.ravel(), "d": D, "r": TURN.ravel(), "p": P.ravel()}
    return SimpleNamespace(
        **{**base, "distortion_model": "plumb_bob", "binning_x": 0, "binning_y": 0, "roi": roi, **fields}
    )


@pytest.fixture(scope="module")
def views(photograph):
    """Frames of a flight through a distorting lens, and the homographies from the photograph to the ideal camera."""
    flight = Flight(photograph, SIZE)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    pixels = np.stack((columns, rows), axis=-1).reshape(-1, 1, 2).astype(np.float64)
    # The flight's own camera is taken as one with matrix K; the lens shows its image bent.
    places = cv2.undistortPoints(pixels, K, D, P=K).reshape(*SIZE, 2).astype(np.float32)
    images, homographies = [], []
    to_ideal = P[:, :3] @ TURN @ np.linalg.inv(K)
    for index in range(4):
        image = cv2.cvtColor(flight.frame(index / RATE), cv2.COLOR_BGR2GRAY)
        images.append(cv2.remap(image, places, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT))
        homographies.append(to_ideal @ flight.homography(index / RATE))
    return images, homographies


@pytest.fixture(scope="module")
def superpoint():
    return SuperPoint("light", device="cpu")


def run(superpoint, images, pinhole, **settings):
    front_end = FrontEnd(superpoint, FrontEndSettings(**settings))
    return [
        front_end.process(Frame(1 + int(1e9 / RATE) * index, lambda image=image: image, pinhole=pinhole))
        for index, image in enumerate(images)
    ]


def test_undistorted_points_follow_the_homography_of_the_ideal_camera(superpoint, views):
    images, truth = views
    camera = Camera.from_message(camera_info())
    bent = run(superpoint, images, None)
    ideal = run(superpoint, images, camera.pinhole(undistort=True))
    corners = np.array([[80, 60], [400, 60], [400, 300], [80, 300.0]])
    for index in range(1, 4):
        result = ideal[index]
        assert result.homography.status == Status.OK
        step = truth[index] @ np.linalg.inv(truth[index - 1])
        assert np.abs(project(result.homography.matrix, corners) - project(step, corners)).max() < 0.2
        fields = homography_fields(result)
        first, second = (fields[name].reshape(-1, 2) for name in ("reference_points", "current_points"))
        error = np.linalg.norm(project(step, first) - second, axis=1)
        assert np.median(error[fields["inliers"]]) < 0.06
        features = features_fields(result, "light", rays=ray_fields(result, camera))
        assert features["camera_model_of_points"] == "pinhole"
        keypoints = features["keypoints"].reshape(-1, 2)
        np.testing.assert_array_equal(keypoints[fields["current_indices"]], second)
        # What is published is where the lens would have to show it, seen back through the lens.
        rays = (np.column_stack((keypoints, np.ones(len(keypoints)))) @ np.linalg.inv(P[:, :3]).T) @ TURN
        back, _ = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), K, D)
        np.testing.assert_allclose(back.reshape(-1, 2), result.features.keypoints, atol=2e-3)
        np.testing.assert_array_equal(result.features.keypoints, bent[index].features.keypoints)


def test_covariances_are_those_of_the_published_points(superpoint, views):
    camera = Camera.from_message(camera_info(r=np.eye(3).ravel(), p=np.hstack((2 * K, np.zeros((3, 1)))).ravel()))
    result = run(superpoint, views[0][:2], camera.pinhole(undistort=True))[1]
    raw = replace(result, frame=replace(result.frame, pinhole=None))
    near = np.linalg.norm(result.features.keypoints - (240, 178), axis=1) < 25
    assert near.any()
    messages = (features_fields(each, "light", rays=ray_fields(each, camera)) for each in (result, raw))
    ours, theirs = (message["covariance"].reshape(-1, 3) for message in messages)
    # Near the principal point the lens shows things in their true size, and P doubles it.
    np.testing.assert_allclose(ours[near], 4 * theirs[near], rtol=0.06, atol=1e-3)


@pytest.mark.parametrize("undistort", [False, True])
def test_normalised_points_are_the_rays_and_velocities_their_motion_along_tracks(superpoint, views, undistort):
    camera = Camera.from_message(camera_info())
    results = run(superpoint, views[0], camera.pinhole(undistort))
    messages = [features_fields(result, "light", rays=ray_fields(result, camera)) for result in results]
    assert not messages[0]["velocity"].any() and len(messages[0]["velocity"]) == 2 * len(results[0].features)
    for before, after, now in zip(messages, messages[1:], results[1:], strict=False):
        assert after["camera_model_of_points"] == ("pinhole" if undistort else "plumb_bob")
        normalized = after["normalized"].reshape(-1, 2)
        if undistort:
            pixels = np.column_stack((normalized, np.ones(len(normalized)))) @ P[:, :3].T
            np.testing.assert_allclose(pixels[:, :2], after["keypoints"].reshape(-1, 2), atol=1e-3)
        else:
            rays = np.column_stack((normalized, np.ones(len(normalized)))).astype(np.float64)
            pixels, _ = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), K, D)
            np.testing.assert_allclose(pixels.reshape(-1, 2), after["keypoints"].reshape(-1, 2), atol=2e-3)
        places = {
            track: place for track, place in zip(before["track_ids"], before["normalized"].reshape(-1, 2), strict=True)
        }
        velocity = after["velocity"].reshape(-1, 2)
        followed = 0
        for track, age, place, speed in zip(after["track_ids"], after["track_ages"], normalized, velocity, strict=True):
            if age == 0:
                assert not speed.any()
            else:
                np.testing.assert_allclose(speed, (place - places[track]) * RATE, atol=1e-4)
                followed += 1
        assert followed > 50 and len(now.features) == len(normalized)


@pytest.mark.parametrize("undistort", [False, True])
def test_the_cloud_has_the_rays_in_the_frame_of_the_camera_itself(superpoint, views, undistort):
    # Beyond some radius this lens has no rays.
    camera = Camera.from_message(camera_info(d=np.array([-0.9, 0, 0, 0])))
    (result,) = run(superpoint, views[0][:1], camera.pinhole(undistort))
    points = cloud_fields(result, camera, ray_fields(result, camera))["points"]
    assert points.dtype == np.float32 and 0 < np.isnan(points[:, 0]).sum() < len(points)
    np.testing.assert_array_equal(points[:, :3], camera.rays(result.features.keypoints))


def test_without_a_calibration_of_the_images_size_the_fields_are_empty(superpoint, views):
    result = run(superpoint, views[0][:1], None)[0]
    for calibration in (None, Camera.from_message(camera_info(width=SIZE[1] * 2))):
        fields = features_fields(result, "light", rays=ray_fields(result, calibration))
        assert fields["camera_model_of_points"] == ""
        assert len(fields["normalized"]) == len(fields["velocity"]) == 0


def test_a_pinhole_of_another_size_leaves_points_as_they_are(superpoint, views):
    pinhole = Camera.from_message(camera_info(width=SIZE[1] * 2)).pinhole(undistort=True)
    ours, plain = run(superpoint, views[0][:2], pinhole)[1], run(superpoint, views[0][:2], None)[1]
    assert ours.undistort is None
    np.testing.assert_array_equal(ours.homography.matrix, plain.homography.matrix)


def test_undistorting_without_a_projection_matrix_keeps_that_of_the_lens(superpoint):
    pinhole = Camera.from_message(camera_info(r=np.zeros(9), p=np.zeros(12))).pinhole(undistort=True)
    np.testing.assert_array_equal(pinhole.matrix, K)
    np.testing.assert_allclose(pinhole.undistort(np.array([[240.0, 178.0]])), [[240, 178]], atol=1e-4)
