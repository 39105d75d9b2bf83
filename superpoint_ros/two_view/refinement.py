"""Refine matched points on the images, to a few hundredths of a pixel.

A detection is found again anywhere, but half a pixel off; the grey levels around it say exactly where it went. The
surroundings of each point of the first image are found in the second by Gauss-Newton steps in their inverse
compositional form (Baker and Matthews, 2004), all points at once. An affine map for each point predicts how its
surroundings have changed; what is estimated is the translation, while brightness and contrast are free.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]

RADIUS = 8
"""Half the side of a patch, in pixels of the first image."""

SPACING = 2
"""Distance of a patch's samples, in pixels of the first image."""

FARTHEST = 2.0
"""Greatest distance of a refined point from where the search began, in pixels."""

_BLUR = 0.8  # pixels; more would hide detail, less would let interpolation err
_ITERATIONS = 5
_SMALL_STEP = 0.01  # pixels; a patch that moves less is done
_LONGEST_STEP = 1.0  # pixels
_LEAST_CORRELATION = 0.75
_LEAST_CONTRAST = 2.0  # squared grey levels: less is noise
_SETTLED = 0.1  # pixels; a patch that still moves further in the end has not been found
# Neighbouring samples share noise and errors of the prediction, so that each counts for less than one observation.
_CORRELATED = 4.0
# What interpolation and the prediction leave, whatever the residual says (pixels).
_FLOOR = 0.015
# Detections: variance that all have, how it grows with the inverse of the slopes' products, and the most of that.
_DETECTION_LEAST, _DETECTION_SLOPE, _DETECTION_MOST = 0.06, 2.0, 0.3


@dataclass(frozen=True)
class Smoothed:
    """An image prepared for sampling: (H, W) float32 grey levels, and their slopes in x and in y."""

    grey: Floats
    slope_x: Floats
    slope_y: Floats

    @staticmethod
    def of(image: Image) -> Smoothed:
        """Prepare an (H, W) grey uint8 image."""
        grey = np.asarray(cv2.GaussianBlur(image, (0, 0), _BLUR, borderType=cv2.BORDER_REPLICATE), np.float32)
        tap = np.array([-0.5, 0, 0.5], np.float32)
        one = np.ones(1, np.float32)
        border = cv2.BORDER_REPLICATE
        slope_x = cv2.sepFilter2D(grey, cv2.CV_32F, tap, one, borderType=border)
        slope_y = cv2.sepFilter2D(grey, cv2.CV_32F, one, tap, borderType=border)
        return Smoothed(grey, np.asarray(slope_x, np.float32), np.asarray(slope_y, np.float32))


@dataclass(frozen=True)
class Refined:
    """Where points of the first image lie in the second.

    Attributes:
        points: (N, 2) float32 pixels of the second image; where not `found`, where the search began.
        covariance: (N, 3) float32 of the error in px^2 as xx, xy, yy; infinite where not `found`.
        found: (N,) bool, whether the two surroundings agree.
        correlation: (N,) float32 of the two surroundings, at most 1.
    """

    points: Floats
    covariance: Floats
    found: NDArray[np.bool_]
    correlation: Floats


@dataclass(frozen=True)
class Templates:
    """The surroundings of N points of an image, P samples each.

    Attributes:
        grey: (N, P) grey levels without their mean.
        contrast: (N,) variance of the grey levels.
        slope_x, slope_y: (N, P) slopes, less what a change of brightness and contrast explains, divided by P.
        inverse: (N, 3) inverse of the matrix of the slopes' mean products as xx, xy, yy.
        usable: (N,) bool, whether the whole patch lies in the image and has contrast.
    """

    grey: Floats
    contrast: Floats
    slope_x: Floats
    slope_y: Floats
    inverse: Floats
    usable: NDArray[np.bool_]

    @staticmethod
    def of(image: Smoothed, points: NDArray[np.floating]) -> Templates:
        """Cut out the surroundings of (N, 2) pixels."""
        points = np.asarray(points, np.float32).reshape(-1, 2)
        offset = _offsets()
        x, y = points[:, :1] + offset[0], points[:, 1:] + offset[1]
        grey, slope_x, slope_y = (_sample(one, x, y) for one in (image.grey, image.slope_x, image.slope_y))
        grey -= grey.mean(axis=1, keepdims=True)
        contrast = _mean_product(grey, grey)
        for slope in (slope_x, slope_y):
            slope -= slope.mean(axis=1, keepdims=True)
            slope -= grey * (_mean_product(slope, grey) / np.maximum(contrast, 1e-3))[:, None]
        xx, xy, yy = _mean_product(slope_x, slope_x), _mean_product(slope_x, slope_y), _mean_product(slope_y, slope_y)
        # The prior keeps points where they are along edges, where nothing says how far to go.
        prior = 0.01 * (xx + yy) + 0.05
        xx, yy = xx + prior, yy + prior
        inverse = (np.stack((yy, -xy, xx), axis=1) / (xx * yy - xy * xy)[:, None]).astype(np.float32)
        usable = _inside(image.grey, x, y) & (contrast > _LEAST_CONTRAST)
        samples = np.float32(x.shape[1])
        return Templates(grey, contrast, slope_x / samples, slope_y / samples, inverse, usable)

    def __len__(self) -> int:
        return len(self.grey)

    def replaced(self, index: NDArray[np.integer], others: Templates) -> Templates:
        """These templates, but others at some indices."""
        columns = {field.name: getattr(self, field.name).copy() for field in fields(self)}
        for name, column in columns.items():
            column[index] = getattr(others, name)
        return Templates(**columns)

    def select(self, chosen: NDArray[np.integer]) -> Templates:
        """The templates of chosen points, which may be named more than once."""
        return Templates(*(getattr(self, field.name)[chosen] for field in fields(self)))


def refine_points(
    templates: Templates,
    image: Smoothed,
    start: NDArray[np.floating],
    warps: NDArray[np.floating],
    farthest: float = FARTHEST,
) -> Refined:
    """Find the surroundings of points of one image in another.

    Args:
        templates: the surroundings of N points of the first image.
        image: the second image.
        start: (N, 2) pixels of the second image where the search begins.
        warps: (N, 2, 2) by which the second image shows the surroundings distorted: d(second pixel) / d(first pixel).
        farthest: greatest distance of a result from its start, in pixels.
    """
    start, warps = np.asarray(start, np.float32).reshape(-1, 2), np.asarray(warps, np.float32)
    count = len(start)
    if not count:
        return Refined(
            np.zeros((0, 2), np.float32), np.zeros((0, 3), np.float32), np.zeros(0, bool), np.zeros(0, np.float32)
        )
    offset = _offsets()
    away_x = warps[:, 0, :1] * offset[0] + warps[:, 0, 1:] * offset[1]
    away_y = warps[:, 1, :1] * offset[0] + warps[:, 1, 1:] * offset[1]
    moved = start.copy()
    length, distance = np.full(count, np.inf, np.float32), np.zeros(count, np.float32)
    correlation, residual = np.zeros(count, np.float32), np.full(count, np.inf, np.float32)
    active = np.flatnonzero(templates.usable & np.isfinite(start).all(axis=1) & np.isfinite(warps).all(axis=(1, 2)))
    for _ in range(_ITERATIONS):
        if not len(active):
            break
        x, y = moved[active, :1] + away_x[active], moved[active, 1:] + away_y[active]
        some = templates if len(active) == count else templates.select(active)
        step, correlation[active], residual[active] = _compare(some, _sample(image.grey, x, y))
        step = np.einsum("nij,nj->ni", warps[active], step)
        length[active] = np.hypot(step[:, 0], step[:, 1])
        step *= np.minimum(1, _LONGEST_STEP / np.maximum(length[active], 1e-6))[:, None]
        moved[active] -= step
        distance[active] = np.hypot(*(moved[active] - start[active]).T)
        # A patch that has left its surroundings does not come back.
        active = active[(length[active] > _SMALL_STEP) & (distance[active] <= farthest)]
    found = (length < _SETTLED) & (correlation > _LEAST_CORRELATION) & (distance <= farthest)
    found &= _inside(image.grey, moved[:, :1] + away_x, moved[:, 1:] + away_y)
    covariance = _covariance(templates, warps, residual)
    covariance[~found] = np.inf, 0, np.inf
    return Refined(np.where(found[:, None], moved, start), covariance, found, correlation)


UNREFINED = (0.3, 0.0, 0.3)
"""Covariance of a match that the images do not refine, as xx, xy, yy in px^2: both of its points are detections."""


def detection_covariance(templates: Templates) -> Floats:
    """Covariance (N, 3) of detections as xx, xy, yy in px^2: along an edge they are less certain than across it."""
    xx, xy, yy = (templates.inverse * np.float32(_DETECTION_SLOPE)).T
    most = np.float32(_DETECTION_MOST)
    # The ellipse keeps its shape where it is cut down to size.
    cut = np.minimum(1, most / np.maximum((xx + yy) / 2, 1e-9))
    least = np.float32(_DETECTION_LEAST)
    return np.stack((xx * cut + least, xy * cut, yy * cut + least), axis=1)


def _offsets() -> Floats:
    side = np.arange(-RADIUS, RADIUS + 1, SPACING, dtype=np.float32)
    return np.stack(np.meshgrid(side, side)).reshape(2, -1)


def _sample(image: Floats, x: Floats, y: Floats) -> Floats:
    if not x.size:  # which OpenCV refuses
        return np.zeros(x.shape, np.float32)
    return np.asarray(cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def _inside(image: Floats, x: Floats, y: Floats) -> NDArray[np.bool_]:
    height, width = image.shape
    return np.asarray((x.min(1) >= 0) & (y.min(1) >= 0) & (x.max(1) <= width - 1) & (y.max(1) <= height - 1))


def _mean_product(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.einsum("np,np->n", a, b) / np.float32(a.shape[1]))


def _compare(t: Templates, grey: Floats) -> tuple[Floats, Floats, Floats]:
    """The Gauss-Newton step (N, 2) in the first image, the correlation (N,) and the mean squared residual (N,) of the
    templates and what the second image shows (N, P)."""
    grey -= grey.mean(axis=1, keepdims=True)
    own, both = _mean_product(grey, grey) + np.float32(1e-3), _mean_product(grey, t.grey)
    residual = grey * (both / own)[:, None] - t.grey
    pull_x, pull_y = np.einsum("np,np->n", residual, t.slope_x), np.einsum("np,np->n", residual, t.slope_y)
    xx, xy, yy = t.inverse.T
    step = np.stack((xx * pull_x + xy * pull_y, xy * pull_x + yy * pull_y), axis=1)
    correlation = both / np.sqrt(own * np.maximum(t.contrast, 1e-3))
    return step, correlation, _mean_product(residual, residual)


def _covariance(t: Templates, warps: Floats, residual: Floats) -> Floats:
    scale = _CORRELATED * np.where(np.isfinite(residual), residual, 0) / t.grey.shape[1]
    xx, xy, yy = (t.inverse * scale[:, None]).T
    matrix = np.stack((xx, xy, xy, yy), axis=1).reshape(-1, 2, 2)
    turned = warps @ matrix @ warps.swapaxes(1, 2)
    floor = np.float32(_FLOOR**2)
    return np.stack((turned[:, 0, 0] + floor, turned[:, 0, 1], turned[:, 1, 1] + floor), axis=1)
