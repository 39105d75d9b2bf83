"""Which model explains a frame's matches, in pixels of the image or of the ideal pinhole camera."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.features import EpipolarGeometry, Homography
from superpoint_ros.frontend.frames import Pinhole
from superpoint_ros.frontend.settings import FrontEndSettings
from superpoint_ros.two_view.epipolar import estimate_epipolar
from superpoint_ros.two_view.geometry import Points
from superpoint_ros.two_view.homography import homography_from_points


def explain(
    source: Points, target: Points, homography: Homography, settings: FrontEndSettings, pinhole: Pinhole | None
) -> tuple[Homography, EpipolarGeometry]:
    """Estimate the epipolar geometry, and both models anew where points are undistorted.

    Args:
        source, target: (M, 2) matched pixels of the image.
        homography: of these matches, in pixels of the image.
        pinhole: the ideal camera, where there is one.

    Returns:
        The homography and the epipolar geometry, in pixels of the pinhole camera; a match that it has no pixels for is
        an inlier of neither.
    """
    count = len(source)
    known: NDArray[np.bool_] = np.ones(count, bool)
    if pinhole is not None and pinhole.undistort is not None:
        source, target = pinhole.undistort(source), pinhole.undistort(target)
        known = np.asarray(np.isfinite(np.hstack((source, target))).all(axis=1))
        source, target = source[known], target[known]
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
    if known.all():
        return homography, epipolar
    whole = np.zeros((2, count), bool)
    whole[:, known] = homography.inliers, epipolar.inliers
    return replace(homography, inliers=whole[0]), replace(epipolar, inliers=whole[1])
