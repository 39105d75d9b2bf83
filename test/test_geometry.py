"""The geometry that several estimators share: Jacobians, covariances, errors and the choice between models."""

from __future__ import annotations

import numpy as np
import pytest

from superpoint_ros.two_view.geometry import (
    cross_matrix,
    gric,
    inside,
    jacobians,
    numerical_jacobians,
    project,
    robust_variance,
    transform_covariances,
)

HOMOGRAPHY = np.array([[0.9, -0.2, 30.0], [0.15, 1.1, -12.0], [2e-4, -1e-4, 1.0]])
POINTS = np.array([[10.0, 20.0], [300.0, 200.0], [630.0, 5.0]])


def test_jacobians_of_a_homography_agree_with_central_differences():
    numerical = numerical_jacobians(lambda points: project(HOMOGRAPHY, points), POINTS)
    np.testing.assert_allclose(jacobians(HOMOGRAPHY, POINTS), numerical, rtol=1e-5)


def test_transformed_covariances_are_those_of_transformed_samples():
    covariance = np.array([[2.0, 0.5, 0.3]])
    samples = np.random.default_rng(3).multivariate_normal([0, 0], [[2.0, 0.5], [0.5, 0.3]], 50000)
    jacobian = np.array([[1.5, -0.4], [0.2, 0.8]])
    xx, xy, yy = np.cov((samples @ jacobian.T).T)[[0, 0, 1], [0, 1, 1]]
    np.testing.assert_allclose(transform_covariances(covariance, jacobian[None]), [[xx, xy, yy]], rtol=0.03)


def test_the_cross_matrix_multiplies_like_the_cross_product():
    first, second = np.array([1.0, -2.0, 3.0]), np.array([0.5, 4.0, -1.0])
    np.testing.assert_allclose(cross_matrix(first) @ second, np.cross(first, second))


def test_the_robust_variance_ignores_outliers():
    errors = np.random.default_rng(5).normal(0, 0.7, 10000)
    errors[:200] = 100
    assert robust_variance(errors) == pytest.approx(0.49, rel=0.1)


def test_of_models_with_equal_errors_the_criterion_prefers_the_one_of_fewer_dimensions():
    squares = np.full(100, 0.25)
    assert gric(squares, 0.25, 2, 8) < gric(squares, 0.25, 3, 7)
    assert gric(20 * squares, 0.25, 2, 8) > gric(squares, 0.25, 3, 7)


def test_points_are_inside_up_to_the_margin():
    points = np.array([[0, 0], [3, 3], [6, 3], [7, 3], [np.nan, 3]])
    assert inside(points, (7, 10)).tolist() == [True, True, True, True, False]
    assert inside(points, (7, 10), 3).tolist() == [False, True, True, False, False]
