"""Estimate a homography from matches, with inliers, covariance and a status."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from superpoint_ros.compute.blas import one_thread
from superpoint_ros.features import Features, Homography, Matches, Status, matched_points
from superpoint_ros.io.images import to_grey
from superpoint_ros.two_view.alignment import align
from superpoint_ros.two_view.geometry import Matrix, Points, scaled
from superpoint_ros.two_view.reprojection import covariance, degenerate, fit, mirrored, reprojection_error

METHODS = {
    "magsac": cv2.USAC_MAGSAC,
    "accurate": cv2.USAC_ACCURATE,
    "fast": cv2.USAC_FAST,
    "ransac": cv2.RANSAC,
    "lmeds": cv2.LMEDS,
}
"""OpenCV's robust estimators by name; magsac is MAGSAC++ (Barath et al., 2020)."""

# Minimum fraction of inliers that an alignment must keep.
_LEFT_BY_ALIGNMENT = 0.8

Image = NDArray[np.uint8]


@one_thread()
def estimate_homography(
    first: Features,
    second: Features,
    matches: Matches,
    *,
    method: str = "magsac",
    threshold: float = 3.0,
    min_inliers: int = 12,
    images: tuple[Image, Image] | None = None,
) -> Homography:
    """Estimate the homography of matches, from pixels of the first image to pixels of the second.

    The robust estimate is refined on the inliers' reprojection error in the second image, by least squares with
    Cauchy weights: an error of a third of the threshold halves the weight. Few or degenerate points result in a status,
    never an exception.

    Args:
        method: one of `METHODS`.
        threshold: maximum reprojection error of an inlier, in pixels.
        min_inliers: minimum number of inliers of a valid homography, at least 4.
        images: the two images, each (H, W) grey or (H, W, 3) BGR. With them the homography is refined by aligning the
            images around the inliers (see `alignment.align`), which is several times as accurate, and its covariance is
            that of the alignment. It is unchanged if the alignment fails.

    Raises:
        ValueError: if the method is unknown, or the images are not those of the features.
    """
    if images is not None:
        for name, features, image in zip(("first", "second"), (first, second), images, strict=True):
            size = image.shape[:2]
            if size != features.image_size:
                raise ValueError(f"the {name} image is {size}, that of its features was {features.image_size}")
    return homography_from_points(
        *matched_points(first, second, matches),
        method=method,
        threshold=threshold,
        min_inliers=min_inliers,
        images=images,
    )


def check_method(method: str) -> None:
    """Raise a `ValueError` if a robust estimator is not one of `METHODS`."""
    if method not in METHODS:
        raise ValueError(f"homography method '{method}' is unknown, allowed is one of {', '.join(METHODS)}")


@one_thread()
def homography_from_points(
    source: Points,
    target: Points,
    *,
    method: str = "magsac",
    threshold: float = 3.0,
    min_inliers: int = 12,
    images: tuple[Image, Image] | None = None,
) -> Homography:
    """Estimate a homography as `estimate_homography` does, from (M, 2) corresponding points."""
    check_method(method)
    count, fewest = len(source), max(4, min_inliers)
    if count < fewest:
        return Homography.failed(Status.TOO_FEW_MATCHES, count)
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    try:
        estimate, _ = cv2.findHomography(source, target, METHODS[method], threshold, maxIters=2000, confidence=0.9999)
    except cv2.error:
        estimate = None
    if estimate is None:
        return Homography.failed(Status.NO_CONSENSUS, count)
    refined = _refine_on_inliers(estimate, source, target, threshold, fewest)
    if refined is None:
        return Homography.failed(Status.NO_CONSENSUS, count)
    matrix, inliers, rmse = refined
    uncertainty = covariance(matrix, source[inliers], target[inliers], threshold)
    if uncertainty is None:
        return Homography.failed(Status.NO_CONSENSUS, count)
    found = Homography(Status.OK, matrix, inliers, rmse, uncertainty)
    return _aligned(found, source, target, images, threshold, fewest) if images is not None else found


def with_points(found: Homography, source: Points, target: Points, threshold: float) -> Homography:
    """Recompute inliers and error of a homography for other (M, 2) points."""
    if found.status != Status.OK:
        return Homography.failed(found.status, len(source))
    error = reprojection_error(found.matrix, np.asarray(source, np.float64), np.asarray(target, np.float64))
    inliers = error <= threshold
    return replace(found, inliers=inliers, rmse=_root_mean_square(error[inliers]) if inliers.any() else 0.0)


def _aligned(
    found: Homography, source: Points, target: Points, images: tuple[Image, Image], threshold: float, fewest: int
) -> Homography:
    """Align the images; return the homography unchanged if the result contradicts the matches."""
    better = align(to_grey(images[0]), to_grey(images[1]), found.matrix, source[found.inliers])
    if better is None:
        return found
    error = reprojection_error(better.matrix, source, target)
    inliers = error <= threshold
    if np.count_nonzero(inliers) < max(fewest, _LEFT_BY_ALIGNMENT * found.inlier_count):
        return found
    return Homography(Status.OK, better.matrix, inliers, _root_mean_square(error[inliers]), better.covariance)


def _refine_on_inliers(
    estimate: Matrix, source: Points, target: Points, threshold: float, fewest: int
) -> tuple[Matrix, NDArray[np.bool_], float] | None:
    """Alternate inlier selection and weighted least squares; None if the result is degenerate.

    Returns:
        the homography, its inliers and their root mean square error.
    """
    matrix = scaled(estimate)
    if matrix is None:
        return None
    error = reprojection_error(matrix, source, target)
    inliers = error <= threshold
    for _ in range(3):
        if np.count_nonzero(inliers) < fewest or degenerate(source[inliers]) or degenerate(target[inliers]):
            return None
        better = fit(matrix, source[inliers], target[inliers], threshold)
        if better is None:
            break
        error_again = reprojection_error(better, source, target)
        again = error_again <= threshold
        if np.count_nonzero(again) < np.count_nonzero(inliers) * 0.9:
            break
        same = bool(np.array_equal(again, inliers))
        matrix, inliers, error = better, again, error_again
        if same:
            break
    if np.count_nonzero(inliers) < fewest or mirrored(matrix, source[inliers]):
        return None
    return matrix, inliers, _root_mean_square(error[inliers])


def _root_mean_square(error: NDArray[np.float64]) -> float:
    return float(np.sqrt((error**2).mean()))
