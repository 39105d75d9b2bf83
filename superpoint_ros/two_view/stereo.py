"""Features of a left and a right image of one moment -> stereo matches with disparities.

Of a calibrated pair, a point of the left image lies on a known row of the right one once both are rectified, and only
how far to the left is open: its disparity. Descriptors are compared along rows, in both directions; the images say
where the surroundings of each left keypoint lie in the right image, and have to lead back to it.

Images may be raw: keypoints are rectified one by one, and surroundings are compared in the images as they are, through
the distortion of both lenses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.features import Features, Matches
from superpoint_ros.two_view.geometry import Points, numerical_jacobians, transform_covariances
from superpoint_ros.two_view.guided import match_near
from superpoint_ros.two_view.local_motion import local_motion
from superpoint_ros.two_view.refinement import UNREFINED, Image, Templates, refine_points, smooth

Rectify = Callable[[NDArray[np.floating]], NDArray[np.float64]]
"""(N, 2) pixels of an image -> (N, 2) pixels of the rectified pair, in which rows agree and infinity has the disparity
0; NaN where there are none."""

_NOISE = 1.0
"""So far below 0, in pixels, detections may put the disparity of points far away."""
_ROW_ERROR = 0.1
"""Standard deviation of the rows of a pair once the calibration's part is taken away, in pixels."""
_ROW_OUTLIER = 0.75
"""Greatest row error of a right match that the images have refined, in pixels."""
_CONSISTENT = 0.5
"""Greatest distance in pixels from a left keypoint to where its match leads back."""
_ITERATIONS = 5
_STIFF = 0.5
"""How many matches at the border of the image the calibration's part outweighs in favour of zero."""
_AWAY = 1e6
"""Where keypoints without a rectified pixel are put, in pixels: out of everything's reach."""
_FEW, _MORE, _LEAST = 0.2, 2.0, 16
"""Images count as swapped if less than this share of the keypoints is matched, while with negative disparities more
than it would be, so many times as many, and at least so many."""
_COLUMNS = ("indices", "similarity", "disparity", "variance", "rows_off", "row_errors", "refined")


@dataclass(frozen=True, eq=False)
class StereoMatches:
    """Pairs of keypoints of a left and a right image that show the same point.

    Attributes:
        indices: (M, 2) int64 into the keypoints of the left and of the right image.
        similarity: (M,) float32 cosine similarity of the descriptors.
        disparity: (M,) float32, by how much the point lies further left in the right image, in rectified pixels;
            positive. It belongs to the left keypoint as it is; the images say where its right one is.
        variance: (M,) float32 of the disparity, in px^2.
        rows_off: (M,) float32, by how much the point lies lower in the right image than in the left one, in rectified
            pixels.
        row_errors: (M,) float32, what is left of that without the part that varies smoothly over the image, which is
            the calibration's.
        refined: (M,) bool, whether disparity and row come from the images and not from the detections.
        swapped: whether the images look as if left and right had changed places.
    """

    indices: NDArray[np.int64]
    similarity: NDArray[np.float32]
    disparity: NDArray[np.float32]
    variance: NDArray[np.float32]
    rows_off: NDArray[np.float32]
    row_errors: NDArray[np.float32]
    refined: NDArray[np.bool_]
    swapped: bool = False

    def __len__(self) -> int:
        return len(self.indices)


def match_stereo(
    left: Features,
    right: Features,
    rectify: tuple[Rectify, Rectify] | None = None,
    images: tuple[Image, Image] | None = None,
    *,
    max_disparity: float = np.inf,
    row_tolerance: float = 2.0,
    min_similarity: float = 0.5,
    ratio: float = 1.0,
) -> StereoMatches:
    """Match the keypoints of a left and a right image along the rows of the rectified pair.

    Args:
        left, right: features with descriptors of equal size, keypoints in pixels of the images.
        rectify: from pixels of the left and of the right image to rectified ones; None where the images are rectified.
        images: left and right, (H, W) grey uint8; None takes disparities from the detections.
        max_disparity: greatest disparity, in rectified pixels.
        row_tolerance: greatest difference of the rows of a match, in rectified pixels.
        min_similarity, ratio: see `matching.match`; the runner-up is one within the same reach.
    """
    rectify = rectify or (_unchanged, _unchanged)
    here, there = (function(side.keypoints) for function, side in zip(rectify, (left, right), strict=True))
    # Beyond the width of the images there is nothing to find.
    reach = min(max_disparity, _extent(here, there))
    sides = left, right, rectify, here, there, images
    search = row_tolerance, min_similarity, ratio
    found = _match((-_NOISE, reach), *sides, *search)
    # Without the images, a good part of all keypoints matches something by chance.
    share = _FEW if images is not None else 2 * _FEW
    enough = max(share * min(len(left), len(right)), _LEAST)
    if len(found) < enough:
        other = _match((-reach, -_NOISE), *sides, *search)
        found = replace(found, swapped=len(other) > max(enough, _MORE * len(found)))
    right_way = (found.disparity > 0) & (found.disparity <= max_disparity)
    return replace(found, **{name: getattr(found, name)[right_way] for name in _COLUMNS})


def _match(
    disparities: tuple[float, float],
    left: Features,
    right: Features,
    rectify: tuple[Rectify, Rectify],
    here: Points,
    there: Points,
    images: tuple[Image, Image] | None,
    row_tolerance: float,
    min_similarity: float,
    ratio: float,
) -> StereoMatches:
    """Matches with a disparity from low to high, and a little beyond."""
    matches = _along_rows(left, right, here, there, disparities, row_tolerance, (min_similarity, ratio))
    if images is None:
        found = _detected(here, there, matches)
    else:
        found = _refined(left, right, rectify, here, there, matches, images)
    shift, covariance, refined = found
    rows_off = shift[:, 1]
    # The images are asked about every match, and if they do not agree it is none.
    good = refined.copy() if images is not None else np.ones(len(matches), bool)
    row_errors = rows_off - _smooth_part(here[matches.indices[:, 0]], rows_off, good, left.image_size)
    # Along slanted edges, where the errors in x and y are correlated, the row tells something about the disparity.
    gain = covariance[:, 1] / (covariance[:, 2] + _ROW_ERROR**2)
    disparity = gain * row_errors - shift[:, 0]
    variance = covariance[:, 0] - gain * covariance[:, 1]
    good &= (np.abs(rows_off) <= row_tolerance) & (~refined | (np.abs(row_errors) <= _ROW_OUTLIER))
    return StereoMatches(
        matches.indices[good],
        matches.similarity[good],
        disparity[good].astype(np.float32),
        variance[good].astype(np.float32),
        rows_off[good].astype(np.float32),
        row_errors[good].astype(np.float32),
        refined[good],
    )


def _unchanged(pixels: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.asarray(pixels, np.float64)


def _extent(*points: Points) -> float:
    """The greatest distance in x between any two points."""
    x = np.concatenate([each[:, 0] for each in points])
    x = x[np.isfinite(x)]
    return float(np.ptp(x)) + 1 if len(x) else 1.0


def _along_rows(
    left: Features,
    right: Features,
    here: Points,
    there: Points,
    disparities: tuple[float, float],
    row_tolerance: float,
    limits: tuple[float, float],
) -> Matches:
    """Mutual nearest neighbours among the pairs with a disparity from low to high in nearly one row."""
    low, high = disparities
    expected = np.nan_to_num(here - [(low + high) / 2, 0], nan=-_AWAY)
    placed = replace(right, keypoints=np.nan_to_num(there, nan=_AWAY).astype(np.float32), link=None)
    return match_near(left, placed, expected, ((high - low) / 2, row_tolerance), *limits)


Found = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]
"""(M, 2) rectified pixels from the left to the right point of each match, (M, 3) their covariance as xx, xy, yy, (M,)
whether the images agree on them."""


def _detected(here: Points, there: Points, matches: Matches) -> Found:
    first, second = matches.indices.T
    covariance = np.tile(2 * np.array(UNREFINED), (len(matches), 1))
    return np.asarray(there[second] - here[first], np.float64), covariance, np.zeros(len(matches), bool)


def _refined(
    left: Features,
    right: Features,
    rectify: tuple[Rectify, Rectify],
    here: Points,
    there: Points,
    matches: Matches,
    images: tuple[Image, Image],
) -> Found:
    """Where the images put the right point of each match, and whether it leads back to the left one."""
    first, second = matches.indices.T
    origin, goal = left.keypoints[first].astype(np.float64), right.keypoints[second].astype(np.float64)
    here, there = np.asarray(here[first], np.float64), np.asarray(there[second], np.float64)
    bend, bend_back = _slopes(rectify[0], origin), _slopes(rectify[1], goal)
    # How surfaces that are seen at an angle are sheared: the matches around say it. Rows stay rows.
    shear = local_motion(here, there, left.image_size).at(here)[:, :, :2]
    shear[:, 1] = 0, 1
    unbend = _inverse(bend_back)
    warps = unbend @ shear @ bend
    # The row is known better than the detector found it.
    rows_off = there[:, 1] - here[:, 1]
    known = _smooth_part(here, rows_off, np.ones(len(here), bool), left.image_size)
    start = goal + unbend[:, :, 1] * (known - rows_off)[:, None]
    smoothed = smooth(images[0]), smooth(images[1])
    found = refine_points(Templates.of(smoothed[0], origin), smoothed[1], start, warps)
    back = refine_points(Templates.of(smoothed[1], found.points), smoothed[0], origin, _inverse(warps))
    shift = rectify[1](found.points) - here
    with np.errstate(invalid="ignore"):
        agreed = found.found & back.found & (np.hypot(*(back.points - origin).T) <= _CONSISTENT)
        agreed &= np.isfinite(shift).all(axis=1)
    covariance = np.where(agreed[:, None], found.covariance, UNREFINED).astype(np.float64)
    return np.where(agreed[:, None], shift, 0.0), transform_covariances(covariance, bend_back), agreed


def _smooth_part(
    points: Points, rows_off: NDArray[np.floating], good: NDArray[np.bool_], image_size: tuple[int, int]
) -> NDArray[np.float64]:
    """The part of (M,) row offsets that is a quadratic function of the place in the left image: errors of a calibration
    are (turned cameras, what a lens model leaves), mismatches are not."""
    height, width = image_size
    x, y = (points / [width / 2, height / 2] - 1).T
    terms = np.stack((np.ones_like(x), x, y, x * x, x * y, y * y), axis=1)
    used, weights = terms[good], np.ones(int(np.count_nonzero(good)))
    coefficients = np.zeros(6)
    for _ in range(_ITERATIONS):
        weighted = used * weights[:, None]
        coefficients = np.linalg.solve(weighted.T @ used + _STIFF * np.eye(6), weighted.T @ rows_off[good])
        error = np.abs(rows_off[good] - used @ coefficients)
        # Where the fit is rough still, offsets far from it are no outliers yet.
        scale = max(2 * float(np.median(error)), 2 * _ROW_ERROR) if len(error) else 1.0
        weights = 1 / (1 + (error / scale) ** 2) ** 2
    return np.asarray(terms @ coefficients)


def _slopes(rectify: Rectify, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 2, 2) derivatives of rectified pixels by those of the image; no change where there are none."""
    slopes = numerical_jacobians(rectify, points)
    usable = np.asarray(np.isfinite(slopes).all(axis=(1, 2)))
    return np.asarray(np.where(usable[:, None, None], slopes, np.eye(2)))


def _inverse(matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 2, 2) inverses; no change where there is none."""
    (a, b), (c, d) = matrices.transpose(1, 2, 0)
    determinant = a * d - b * c
    usable = np.asarray(np.abs(determinant) > 1e-6)
    determinant = np.where(usable, determinant, 1)
    inverse = np.stack((d, -b, -c, a), axis=1).reshape(-1, 2, 2) / determinant[:, None, None]
    return np.asarray(np.where(usable[:, None, None], inverse, np.eye(2)))
