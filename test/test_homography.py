"""Homographies: exact and noisy recovery, covariance, and a status for all degenerate cases."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from superpoint_ros import Matches, Status, estimate_homography
from superpoint_ros.two_view.homography import METHODS, homography_from_points
from superpoint_ros.two_view.reprojection import reprojection_error

TURN = np.array([[0.94, -0.21, 35.0], [0.18, 1.02, -12.0], [1e-4, -6e-5, 1.0]])
STRONG = np.array([[0.6, 0.1, 60.0], [-0.15, 0.8, 40.0], [-0.0011, 0.0007, 1.0]])


def project(matrix, points):
    xyw = np.column_stack((points, np.ones(len(points)))) @ matrix.T
    return xyw[:, :2] / xyw[:, 2:]


def scattered(count, seed=0, size=(640, 480)):
    return np.random.default_rng(seed).uniform(0, size, (count, 2))


def corner_error(matrix, truth):
    corners = np.array([[0, 0], [639, 0], [639, 479], [0, 479]], float)
    return np.linalg.norm(project(matrix, corners) - project(truth, corners), axis=1).max()


def assert_failed(found, status, count):
    assert found.status == status
    assert found.inliers.shape == (count,) and not found.inliers.any() and found.inlier_count == 0
    assert not found.matrix.any() and not found.covariance.any() and found.rmse == 0
    assert found.matrix.shape == (3, 3) and found.covariance.shape == (8, 8)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("truth", [np.eye(3), TURN, STRONG], ids=["identity", "turn", "strong perspective"])
def test_exact_points_give_the_exact_homography(truth, method):
    source = scattered(60)
    found = homography_from_points(source, project(truth, source), method=method)
    assert found.status == Status.OK and found.inliers.all() and found.inlier_count == 60
    np.testing.assert_allclose(found.matrix, truth, atol=1e-5, rtol=1e-6)
    assert found.matrix[2, 2] == 1 and found.matrix.dtype == np.float64
    assert found.rmse < 1e-3


def test_matches_close_together_and_far_from_the_origin_lose_no_precision():
    source = np.array([3000.0, 2000.0]) + scattered(60, size=(12, 12))
    found = homography_from_points(source, project(TURN, source))
    assert found.status == Status.OK and found.inliers.all()
    assert np.abs(project(found.matrix, source) - project(TURN, source)).max() < 1e-6


@pytest.mark.parametrize("method", METHODS)
def test_noise_and_forty_percent_of_outliers_are_tolerated(method):
    random = np.random.default_rng(1)
    source = scattered(300, seed=1)
    target = project(TURN, source) + random.normal(scale=0.5, size=(300, 2))
    wrong = random.permutation(300)[:120]
    target[wrong] = random.uniform(0, (640, 480), (120, 2))
    found = homography_from_points(source, target, method=method)
    assert found.status == Status.OK and found.matrix[2, 2] == 1
    assert corner_error(found.matrix, TURN) < 0.6
    assert found.rmse == pytest.approx(0.5 * np.sqrt(2), rel=0.15)  # two coordinates of 0.5 px each
    right = np.setdiff1d(np.arange(300), wrong)
    assert found.inliers[right].mean() > 0.98 and found.inliers[wrong].mean() < 0.05


@pytest.mark.parametrize("seed", range(10))
def test_inliers_and_rmse_are_those_of_the_matrix_returned(seed):
    source = scattered(100, seed=seed)
    target = project(TURN, source) + np.random.default_rng(seed).normal(scale=1.2, size=(100, 2))
    found = homography_from_points(source, target, threshold=2.0)
    error = np.linalg.norm(project(found.matrix, source) - target, axis=1)
    assert 12 <= found.inlier_count < 100
    np.testing.assert_array_equal(found.inliers, error <= 2.0)
    assert found.rmse == pytest.approx(np.sqrt((error[found.inliers] ** 2).mean()), rel=1e-6)


def test_slightly_wrong_matches_affect_the_homography_less_than_in_least_squares():
    weighted, plain = [], []
    for seed in range(20):
        source = scattered(120, seed=seed)
        random = np.random.default_rng(seed)
        target = project(TURN, source) + random.normal(scale=0.2, size=source.shape)
        target[:40] += random.uniform(-2, 2, (40, 2))
        found = homography_from_points(source, target, threshold=3.0)
        weighted.append(corner_error(found.matrix, TURN))
        plain.append(corner_error(cv2.findHomography(source[found.inliers], target[found.inliers])[0], TURN))
    assert np.median(weighted) < 0.6 * np.median(plain)


# Half of the matches may have five times the error of the others.
@pytest.mark.parametrize("spread", [1, 5])
def test_the_covariance_matches_the_scatter_of_repeated_measurements(spread):
    count = 16 * spread
    source, estimates, predicted = scattered(count, seed=3), [], []
    exact = project(TURN, source)
    random = np.random.default_rng(3)
    sigma = 0.4 / spread * np.where(random.permutation(count) % 2, spread, 1)[:, None]
    for _ in range(200):
        found = homography_from_points(source, exact + random.normal(scale=sigma, size=exact.shape), threshold=5.0)
        assert found.inliers.all()
        estimates.append(found.matrix.reshape(-1)[:8])
        predicted.append(found.covariance)
    covariance = np.mean(predicted, axis=0)
    np.testing.assert_allclose(covariance, covariance.T, rtol=1e-9)
    measured = np.cov(np.array(estimates).T)
    np.testing.assert_allclose(np.diag(covariance), np.diag(measured), rtol=0.25)
    # All 64 entries together: the expected Mahalanobis distance of 8 parameters is 8.
    error = np.array(estimates) - TURN.reshape(-1)[:8]
    distance = np.einsum("ni,ij,nj->n", error, np.linalg.inv(covariance), error)
    assert distance.mean() == pytest.approx(8, rel=0.12)


def test_the_covariance_of_few_and_noisy_matches_is_not_too_small():
    source, random, estimates, predicted = scattered(16, seed=5), np.random.default_rng(5), [], []
    exact = project(TURN, source)
    for _ in range(300):
        found = homography_from_points(source, exact + random.normal(scale=1.0, size=exact.shape), threshold=3.0)
        estimates.append(found.matrix.reshape(-1)[:8])
        predicted.append(np.diag(found.covariance))
    ratio = np.sqrt(np.median(predicted, axis=0)) / np.std(estimates, axis=0)
    assert 0.75 < ratio.min() and ratio.max() < 1.2


def test_twice_the_noise_has_four_times_the_covariance():
    source = scattered(60, seed=4)
    noise = np.random.default_rng(4).normal(scale=0.2, size=(60, 2))
    once, twice = (homography_from_points(source, project(TURN, source) + k * noise, threshold=9.0) for k in (1, 2))
    np.testing.assert_allclose(np.diag(twice.covariance), 4 * np.diag(once.covariance), rtol=0.05)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", [0, 1, 3, 4, 11])
def test_fewer_points_than_min_inliers_are_too_few(count, method):
    source = scattered(count)
    assert_failed(homography_from_points(source, source + 1, method=method), Status.TOO_FEW_MATCHES, count)


@pytest.mark.parametrize("method", METHODS)
def test_four_points_suffice_if_allowed_but_never_three(method):
    source = np.array([[10.0, 10], [600, 20], [580, 440], [30, 460]])
    found = homography_from_points(source, project(TURN, source), method=method, min_inliers=4)
    assert found.status == Status.OK and corner_error(found.matrix, TURN) < 1e-3
    assert np.isfinite(found.covariance).all()
    assert_failed(homography_from_points(source[:3], source[:3], method=method, min_inliers=1), 2, 3)


def line(count):
    return np.column_stack((np.linspace(0, 600, count), np.linspace(20, 400, count)))


WOBBLE = np.random.default_rng(5).normal(scale=0.2, size=(40, 2))
DEGENERATE = {
    "all equal": (np.full((40, 2), 77.0), np.full((40, 2), 99.0)),
    "all equal in the target": (scattered(40), np.full((40, 2), 99.0)),
    "on a line": (line(40), line(40) + 5),
    "on a line in the source": (line(40), scattered(40)),
    "nearly on a line": (line(40) + WOBBLE, line(40) + 5 - WOBBLE),
    "two places": (np.repeat([[5.0, 5], [300, 200]], 20, axis=0), np.repeat([[9.0, 5], [310, 200]], 20, axis=0)),
    "three places": (np.repeat([[5.0, 5], [300, 200], [9, 400]], 14, axis=0),) * 2,
    "line and one point": (np.vstack([line(40), [[50, 400]]]), np.vstack([line(40), [[50, 400]]])),
    "nothing but outliers": (scattered(100, seed=7), scattered(100, seed=8)),
    "mirrored halves": (scattered(40), scattered(40)[::-1]),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate_points_yield_a_status_and_never_an_exception(case, method):
    source, target = DEGENERATE[case]
    found = homography_from_points(source, target, method=method)
    assert_failed(found, Status.NO_CONSENSUS, len(source))


def test_fewer_inliers_than_required_are_no_consensus():
    source = scattered(60, seed=5)
    target = project(TURN, source)
    target[20:] = scattered(40, seed=6)
    assert homography_from_points(source, target, min_inliers=15).status == Status.OK
    assert_failed(homography_from_points(source, target, min_inliers=40), Status.NO_CONSENSUS, 60)


def test_an_unknown_method_is_rejected_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'psychic' is unknown, allowed is one of magsac, .*lmeds"):
        homography_from_points(scattered(20), scattered(20), method="psychic")


def test_the_matches_determine_the_pairs_of_keypoints(make_features):
    source = scattered(50, seed=9).astype(np.float32)
    order = np.random.default_rng(0).permutation(50)
    first, second = make_features(source), make_features(project(TURN, source)[order])
    indices = np.column_stack((order, np.arange(50)))[10:]
    found = estimate_homography(first, second, Matches(indices, np.ones(40, np.float32)))
    assert found.status == Status.OK and found.inliers.shape == (40,)
    assert corner_error(found.matrix, TURN) < 0.01
    assert_failed(estimate_homography(first, second, Matches.empty()), Status.TOO_FEW_MATCHES, 0)


def test_points_beyond_the_line_at_infinity_are_never_inliers():
    matrix = np.array([[1.0, 0, 0], [0, 1, 0], [-0.01, 0, 1]])  # w = 0 at x = 100
    source = np.array([[10.0, 0], [20, 0], [30, 5], [150, 0]])
    error = reprojection_error(matrix, source, project(matrix, source))
    assert (error[:3] < 1e-9).all() and error[3] == np.inf


def test_a_mirror_image_is_not_a_view_of_the_same_plane():
    source = np.random.default_rng(0).uniform(0, 400, (50, 2))
    mirrored = homography_from_points(source, source * [-1, 1] + [400, 0])
    assert mirrored.status == Status.NO_CONSENSUS
    assert homography_from_points(source, 400 - source).status == Status.OK
