"""Metrics of tracks, on constructed tracks and ground truth."""

from __future__ import annotations

import numpy as np
import pytest

from superpoint_ros.evaluation import track_summary, tracks
from superpoint_ros.evaluation.track_truth import LineTruth, PointTruth, jacobians, planar, stationary
from superpoint_ros.evaluation.tracks import Observation, TrackTable
from superpoint_ros.node.camera import Camera
from superpoint_ros.two_view.geometry import project, transform_covariances

SIZE = (480, 640)
RNG = np.random.default_rng(5)


def observed(points, ids, reference=-1, before=None, covariance=None, match_covariance=None):
    """An observation whose first points are matches with `before`."""
    points = np.asarray(points, float).reshape(-1, 2)
    before = np.zeros((0, 2)) if before is None else np.asarray(before, float)
    here = points[: len(before)]
    ids = np.asarray(ids, np.int64)
    return Observation(points, ids, covariance, None, reference, before, here, match_covariance)


def lifetimes(*spans):
    """Create the table of tracks with the given first and last frames (inclusive), in ten frames."""
    frames = [[i for i, (a, b) in enumerate(spans) if a <= frame <= b] for frame in range(10)]
    return TrackTable.from_observations([observed(np.zeros((len(ids), 2)), ids) for ids in frames])


def test_the_length_is_weighted_by_points():
    assert tracks.weighted_length(lifetimes((0, 9), (3, 4), (5, 5)).lengths) == pytest.approx((100 + 4 + 1) / 13)


def test_points_are_alive_from_their_second_frame_on():
    assert tracks.alive(lifetimes((0, 9), (3, 4), (5, 5))).tolist() == [0, 1, 1, 1, 2, 1, 1, 1, 1, 1]


def test_survival_counts_the_tracks_that_could_have_survived():
    table = lifetimes((0, 9), (0, 3), (3, 4), (8, 9))
    assert tracks.survival(table, 3) == pytest.approx(2 / 3)
    assert tracks.survival(table, 3, np.array([True, True, False, True])) == 1
    assert np.isnan(tracks.survival(table, 10))


def test_a_track_that_is_found_again_has_no_point_in_between():
    table = TrackTable.from_observations([observed([[1, 1]], [7]), observed([], []), observed([[3, 1]], [7])])
    assert [rows.tolist() for rows in table.after(1)] == [[], []]
    assert [rows.tolist() for rows in table.after(2)] == [[0], [1]]


def test_a_sequence_without_tracks_has_no_figures_and_raises_nothing():
    table = TrackTable.from_observations([Observation.empty(), Observation.empty()])
    assert np.isnan(tracks.weighted_length(table.lengths))
    assert tracks.alive(table).tolist() == [0, 0]
    assert not len(tracks.scatter(table))


def test_scatter_is_the_noise_of_a_track_whatever_its_length():
    frames, sigma = 40, 0.2
    noise = RNG.normal(0, sigma, (frames, 300, 2))
    ids = np.arange(300)
    short = ids % 3 == 0  # of 10 frames
    seen = [observed(noise[i][~short | (i < 10)], ids[~short | (i < 10)]) for i in range(frames)]
    found = tracks.scatter(TrackTable.from_observations(seen))
    assert len(found) == 300
    assert np.sqrt(np.mean(found[:100:3] ** 2)) == pytest.approx(sigma * np.sqrt(2), rel=0.1)
    assert np.sqrt(np.mean(found**2)) == pytest.approx(sigma * np.sqrt(2), rel=0.05)


def test_scatter_excludes_the_common_motion():
    shake = RNG.normal(0, 1, (30, 1, 2))
    seen = [observed(points, np.arange(200)) for points in shake + RNG.normal(0, 0.1, (30, 200, 2))]
    assert np.median(tracks.scatter(TrackTable.from_observations(seen))) == pytest.approx(0.1 * np.sqrt(2), rel=0.05)


def test_the_normalised_squares_of_consistent_covariances_have_mean_two():
    covariance = np.array([[2.0, 0.5], [0.5, 0.3]])
    residuals = RNG.multivariate_normal([0, 0], covariance, 20000)
    stated = np.tile([2.0, 0.5, 0.3], (20000, 1))
    assert tracks.normalised_squares(residuals, stated).mean() == pytest.approx(2, rel=0.03)
    assert tracks.normalised_squares(residuals, 4 * stated).mean() == pytest.approx(0.5, rel=0.03)


@pytest.mark.parametrize("stated", [[1, 2, 1], [0, 0, 0], [-1, 0, -1], [np.nan, 0, 1]])
def test_an_invalid_covariance_has_no_normalised_square(stated):
    assert np.isnan(tracks.normalised_squares(np.ones((1, 2)), np.array([stated], float))).all()


def test_covariances_rotate_with_the_image():
    quarter = np.array([[[0.0, -1.0], [1.0, 0.0]]])
    assert transform_covariances(np.array([[4.0, 0.5, 1.0]]), quarter)[0].tolist() == [1.0, -0.5, 4.0]


@pytest.fixture(scope="module")
def homographies():
    """Ground truth of a camera that moves over a plane by 3 pixels per frame and rotates."""
    angles = 0.01 * np.arange(12)
    return [
        np.array([[np.cos(a), -np.sin(a), 3.0 * i], [np.sin(a), np.cos(a), 0], [1e-5 * i, 0, 1]])
        for i, a in enumerate(angles)
    ]


def followed(homographies, drift, noise, wrong=0):
    """Create noisy tracks of 400 points with drift in pixels per frame; `wrong` matches per frame are 9 px off."""
    plane = RNG.uniform([150, 100], [450, 380], (400, 2))
    found, before = [], None
    for frame, homography in enumerate(homographies):
        points = project(homography, plane) + np.array([drift * frame, 0]) + RNG.normal(0, noise, plane.shape)
        points[:wrong] += 9 * (frame % 2)
        stated = np.tile([noise**2, 0, noise**2], (len(plane), 1))
        found.append(observed(points, np.arange(400), frame - 1, before, stated, 2 * stated))
        before = points
    return found


class Replay:
    """A tracker that returns given observations."""

    name = "replay"

    def __init__(self, observations):
        self._observations = iter(observations)

    def settings(self):
        return {}

    def process(self, image, time):
        return next(self._observations)


def summarised(observations, truth):
    from superpoint_ros.evaluation.track_sources import Source

    count = len(observations)
    source = Source("made", "simulation", np.arange(count) / 10, truth, [np.zeros((4, 4), np.uint8)] * count)
    (run,) = track_summary.evaluate(source, [Replay(observations)])
    return run


def test_noise_affects_matches_and_drift_affects_tracks(homographies):
    truth = planar(homographies, SIZE)
    noisy = summarised(followed(homographies, 0, 0.3), truth).values
    drifting = summarised(followed(homographies, 0.2, 0.001), truth).values
    # The distance of two points with noise in x and y has a Rayleigh distribution.
    assert noisy["match_median"] == pytest.approx(0.3 * np.sqrt(2) * 1.1774, rel=0.05)
    assert noisy["match_rms"] == pytest.approx(0.3 * 2, rel=0.05)
    assert noisy["off_1"] == pytest.approx(noisy["off_10"], rel=0.15)
    assert drifting["off_1"] == pytest.approx(0.2, rel=0.05)
    assert drifting["off_10"] == pytest.approx(2.0, rel=0.1)
    assert noisy["survival_10"] == 1


def test_consistent_covariances_have_an_nmse_of_two(homographies):
    values = summarised(followed(homographies, 0, 0.3), planar(homographies, SIZE)).values
    assert values["match_nmse"] == pytest.approx(2, rel=0.1)
    assert values["nmse"] == pytest.approx(2, rel=0.2)


def test_wrong_matches_are_counted_and_excluded_from_the_error(homographies):
    values = summarised(followed(homographies, 0, 0.1, wrong=40), planar(homographies, SIZE)).values
    assert values["wrong"] == pytest.approx(0.1)
    assert values["match_rms"] == pytest.approx(0.2, rel=0.05)


def test_a_stationary_camera_has_scatter_and_a_moving_one_has_none(homographies):
    still = [np.eye(3)] * 12
    assert summarised(followed(still, 0, 0.1), stationary(SIZE)).values["scatter"] == pytest.approx(0.14, rel=0.05)
    assert np.isnan(summarised(followed(homographies, 0, 0.1), planar(homographies, SIZE)).values["scatter"])


def test_jacobians_are_those_of_the_transfer(homographies):
    truth = planar([np.eye(3), np.array([[2.0, 0.5, 7], [0, 3, 1], [0, 0, 1]])], SIZE)
    found = jacobians(truth, np.array([[10.0, 20.0], [300.0, 200.0]]), 0, 1)
    np.testing.assert_allclose(found, np.tile([[2.0, 0.5], [0, 3]], (2, 1, 1)), atol=1e-9)


@pytest.fixture
def camera():
    matrix = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
    return Camera(SIZE, matrix, np.array([-0.2, 0.05, 0, 0]), False, "plumb_bob", np.eye(3), matrix)


def test_points_of_a_scene_are_on_their_epipolar_lines_and_others_are_not(camera):
    import cv2

    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1, :3, :3] = cv2.Rodrigues(np.array([0.02, -0.05, 0.03]))[0]
    poses[1, :3, 3] = [0.2, 0.05, 0.1]
    world = RNG.uniform([-1, -1, 3], [1, 1, 8], (50, 3))
    views = []
    for pose in poses:
        seen = (world - pose[:3, 3]) @ pose[:3, :3]
        views.append(cv2.projectPoints(seen, np.zeros(3), np.zeros(3), camera.matrix, camera.distortion)[0][:, 0])
    truth = LineTruth(poses, camera)
    assert np.abs(truth.residuals(views[0], views[1], 0, 1)).max() < 2e-3
    assert truth.residuals(views[0], views[1] + [0, 1], 0, 1).mean() > 0.3
    # A camera that has not moved has no epipolar lines.
    assert np.isnan(LineTruth(poses[[0, 0]], camera).residuals(views[0], views[0], 0, 1)).all()


def test_only_points_that_stay_in_view_count_for_survival():
    leaving = PointTruth(lambda points, i, j: (points, points[:, 0] < 300))
    table_points = [[100.0, 9.0], [500.0, 9.0]]
    run = summarised([observed(table_points, [0, 1]), observed(table_points[:1], [0])], leaving)
    assert run.values["survival_1"] == 1
