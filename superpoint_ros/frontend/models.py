"""Which model explains a frame's matches, in pixels of the image or of the ideal pinhole camera."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.features import EpipolarGeometry, Homography, Matches
from superpoint_ros.frontend.frames import Pinhole
from superpoint_ros.frontend.settings import FrontEndSettings
from superpoint_ros.two_view.consistency import consistent_covariances
from superpoint_ros.two_view.epipolar import estimate_epipolar
from superpoint_ros.two_view.geometry import Points, numerical_jacobians
from superpoint_ros.two_view.homography import homography_from_points


def explain(
    matches: Matches,
    source: Points,
    target: Points,
    image_size: tuple[int, int],
    homography: Homography,
    settings: FrontEndSettings,
    pinhole: Pinhole | None,
) -> tuple[Matches, Homography, EpipolarGeometry]:
    """Estimate the epipolar geometry, and both models anew where points are undistorted.

    Args:
        matches: the (M,) matches.
        source, target: (M, 2) matched pixels of the image.
        image_size: (height, width).
        homography: of these matches, in pixels of the image.
        pinhole: the ideal camera, where there is one.

    Returns:
        The matches, with covariances that allow for the scene around them (see `consistency`), in pixels of the image;
        and the homography and the epipolar geometry, in pixels of the pinhole camera. A match that it has no pixels
        for is an inlier of neither.
    """
    count, places, slopes = len(source), source, None
    known: NDArray[np.bool_] = np.ones(count, bool)
    if pinhole is not None and pinhole.undistort is not None:
        slopes = numerical_jacobians(pinhole.undistort, target)
        source, target = pinhole.undistort(source), pinhole.undistort(target)
        known = np.asarray(np.isfinite(np.hstack((source, target, slopes.reshape(-1, 4)))).all(axis=1))
        source, target, places, slopes = source[known], target[known], places[known], slopes[known]
        homography = homography_from_points(
            source,
            target,
            method=settings.method,
            threshold=settings.threshold,
            min_inliers=settings.min_inliers,
        )
    epipolar = EpipolarGeometry.unknown(len(source))
    if settings.epipolar:
        matrix = None if pinhole is None else pinhole.matrix
        threshold = settings.epipolar_threshold
        epipolar = estimate_epipolar(source, target, homography, threshold=threshold, camera_matrix=matrix)
    if matches.covariance is not None and matches.refined is not None:
        covariance = matches.covariance.copy()
        adjusted = consistent_covariances(
            covariance[known], source, target, homography, epipolar, places, image_size, slopes
        )
        refined = matches.refined[known]
        covariance[np.flatnonzero(known)[refined]] = adjusted[refined]
        matches = replace(matches, covariance=covariance)
    if known.all():
        return matches, homography, epipolar
    whole = np.zeros((2, count), bool)
    whole[:, known] = homography.inliers, epipolar.inliers
    return matches, replace(homography, inliers=whole[0]), replace(epipolar, inliers=whole[1])
