"""Refine matched points on the images, to a few hundredths of a pixel.

Detections are repeatable but have an error of half a pixel; the grey levels around them are more precise. The patch
around each point of the first image is located in the second by inverse compositional Gauss-Newton (Baker and Matthews,
2004), all points at once. An affine map per point predicts the distortion of its patch; the translation is estimated,
with free brightness and contrast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import cv2
import numpy as np
from numpy.typing import NDArray

from superpoint_ros.two_view.geometry import inside, transform_covariances

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]

RADIUS = 8
"""Radius of a patch, in pixels of the first image."""

SPACING = 2
"""Spacing of a patch's samples, in pixels of the first image."""

FARTHEST = 2.0
"""Maximum distance of a refined point from its start, in pixels."""

ITERATIONS = 5
"""Maximum number of Gauss-Newton steps."""

SMALL_STEP = 0.01
"""Step, in pixels, below which a patch has converged."""

LONGEST_STEP = 1.0
"""Maximum length of a step, in pixels."""

SETTLED = 0.1
"""A patch whose last step is longer, in pixels, has not been found."""

LEAST_CORRELATION = 0.75
"""Minimum correlation of a patch with its template."""

CORRELATED = 0.8
"""Factor on the variance of independent samples: neighbours share noise and errors of the prediction. It is calibrated
together with `FLOOR`."""

FLOOR = 0.033
"""Standard deviation due to interpolation and prediction, whatever the residual, in pixels."""

_BLUR = 0.8  # pixels; more would hide detail, less would let interpolation err
_LEAST_CONTRAST = 2.0  # squared grey levels: less is noise
_WORTH_COPYING = 0.6  # share of points still moving below which the others are left out of the sums
_MOST_ROWS = 2**14  # at once; OpenCV rejects 2**15 - 1 or more
# Detections: variance that all have, how it grows with the inverse of the slopes' products, and the most of that.
_DETECTION_LEAST, _DETECTION_SLOPE, _DETECTION_MOST = 0.06, 2.0, 0.3


def smooth(image: Image) -> Floats:
    """Prepare an (H, W) grey uint8 image for sampling: (H, W) float32 grey levels."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), _BLUR, borderType=cv2.BORDER_REPLICATE), np.float32)


@dataclass(frozen=True)
class Refined:
    """Refined positions of points of the first image in the second.

    Attributes:
        points: (N, 2) float32 pixels of the second image; the start of the search if not `found`.
        covariance: (N, 3) float32 of the error in px^2 as xx, xy, yy; infinite where not `found`.
        found: (N,) bool, whether the two patches match.
        correlation: (N,) float32 of the two patches, at most 1.
    """

    points: Floats
    covariance: Floats
    found: NDArray[np.bool_]
    correlation: Floats


@dataclass(frozen=True)
class Templates:
    """The patches around N points of an image, P samples each.

    Attributes:
        layers: (N, 3, P) grey levels without their mean, and the slopes in x and in y, less what a change of brightness
            and contrast explains; all three divided by P.
        contrast: (N,) variance of the grey levels.
        inverse: (N, 3) inverse of the matrix of the slopes' mean products as xx, xy, yy.
        usable: (N,) bool, whether the whole patch is inside the image and has contrast.
    """

    layers: Floats
    contrast: Floats
    inverse: Floats
    usable: NDArray[np.bool_]

    @staticmethod
    def of(image: Floats, points: NDArray[np.floating]) -> Templates:
        """Extract the patches around (N, 2) pixels of a `smooth` image."""
        points = np.asarray(points, np.float32).reshape(-1, 2)
        offset = patch_offsets()
        x, y = points[:, :1] + offset[0], points[:, 1:] + offset[1]
        samples = np.float32(x.shape[1])
        layers = np.empty((len(points), 3, x.shape[1]), np.float32)
        grey, slopes = layers[:, 0], layers[:, 1:]
        grey[:] = _sample(image, x, y)
        for slope, moving in ((slopes[:, 0], x), (slopes[:, 1], y)):
            moving += 1
            ahead = _sample(image, x, y)
            moving -= 2
            np.subtract(ahead, _sample(image, x, y), out=slope)
            moving += 1
        slopes *= np.float32(0.5)
        layers -= layers.mean(axis=2, keepdims=True)
        contrast = _mean_product(grey, grey)
        share = np.einsum("nkp,np->nk", slopes, grey) / (samples * np.maximum(contrast, 1e-3))[:, None]
        slopes -= share[:, :, None] * grey[:, None]
        xx, xy, yy = (_mean_product(layers[:, a], layers[:, b]) for a, b in ((1, 1), (1, 2), (2, 2)))
        # The prior keeps points in place along edges, where the position is undetermined.
        prior = 0.01 * (xx + yy) + 0.05
        xx, yy = xx + prior, yy + prior
        inverse = (np.stack((yy, -xy, xx), axis=1) / (xx * yy - xy * xy)[:, None]).astype(np.float32)
        usable = inside(points, image.shape, RADIUS) & (contrast > _LEAST_CONTRAST)
        layers /= samples
        return Templates(layers, contrast, inverse, usable)

    def __len__(self) -> int:
        return len(self.layers)

    def select(self, chosen: NDArray[np.integer] | NDArray[np.bool_]) -> Templates:
        """Return the templates of selected points, possibly repeated."""
        return Templates(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def replaced(self, index: NDArray[np.integer], others: Templates) -> Templates:
        """Replace the templates at some indices, in place."""
        for field in fields(self):
            getattr(self, field.name)[index] = getattr(others, field.name)
        return self


def refine_points(
    templates: Templates,
    image: Floats,
    start: NDArray[np.floating],
    warps: NDArray[np.floating],
    farthest: float = FARTHEST,
) -> Refined:
    """Locate the patches of points of one image in another.

    Args:
        templates: the patches of N points of the first image.
        image: the second image, `smooth`.
        start: (N, 2) pixels of the second image where the search starts.
        warps: (N, 2, 2) distortion of the patches in the second image: d(second pixel) / d(first pixel).
        farthest: maximum distance of a result from its start, in pixels.
    """
    start, warps = np.asarray(start, np.float32).reshape(-1, 2), np.asarray(warps, np.float32)
    count = len(start)
    if not count:
        return Refined(
            np.zeros((0, 2), np.float32), np.zeros((0, 3), np.float32), np.zeros(0, bool), np.zeros(0, np.float32)
        )
    usable = templates.usable & np.isfinite(start).all(axis=1) & np.isfinite(warps).all(axis=(1, 2))
    moved, turn = start.copy(), warps
    if not usable.all():
        moved[~usable], turn = 0, np.where(usable[:, None, None], warps, np.eye(2, dtype=np.float32))
    offset = patch_offsets()
    away_x, away_y = ((turn[:, axis, :1] * offset[0] + turn[:, axis, 1:] * offset[1]) for axis in (0, 1))
    length, distance = np.full(count, np.inf, np.float32), np.zeros(count, np.float32)
    correlation, residual = np.zeros(count, np.float32), np.full(count, np.inf, np.float32)
    # The points at work, and which of them go on; memory is taken once, since fresh pages cost more than the sums.
    index, active, some = np.arange(count), usable, templates
    x, y, grey = np.empty_like(away_x), np.empty_like(away_x), np.empty_like(away_x)
    for _ in range(ITERATIONS):
        left = np.count_nonzero(active)
        if not left:
            break
        if left < _WORTH_COPYING * len(index):
            index, some, away_x, away_y = index[active], some.select(active), away_x[active], away_y[active]
            active = np.ones(left, bool)
        count = len(index)
        np.add(moved[index, :1], away_x, out=x[:count])
        np.add(moved[index, 1:], away_y, out=y[:count])
        step, alike, rest = _compare(some, _sample(image, x[:count], y[:count], grey[:count]))
        step = np.einsum("nij,nj->ni", turn[index], step)
        far = np.hypot(step[:, 0], step[:, 1])
        step *= np.minimum(1, LONGEST_STEP / np.maximum(far, 1e-6))[:, None]
        chosen = index[active]
        moved[chosen] -= step[active]
        length[chosen], correlation[chosen], residual[chosen] = far[active], alike[active], rest[active]
        distance[chosen] = np.hypot(*(moved[chosen] - start[chosen]).T)
        # A patch that has moved too far does not come back.
        active = active & (length[index] > SMALL_STEP) & (distance[index] <= farthest)
    found = (length < SETTLED) & (correlation > LEAST_CORRELATION) & (distance <= farthest)
    found &= inside(moved, image.shape, RADIUS * np.abs(turn).sum(axis=2))
    covariance = _covariance(templates, turn, residual)
    covariance[~found] = np.inf, 0, np.inf
    return Refined(np.where(found[:, None], moved, start), covariance, found, correlation)


Refine = Callable[[Templates, Floats, NDArray[np.floating], NDArray[np.floating], float], Refined]
"""A function with the arguments and result of `refine_points`."""

UNREFINED = (0.3, 0.0, 0.3)
"""Covariance of an unrefined match as xx, xy, yy in px^2: both of its points are detections."""


def detection_covariance(templates: Templates) -> Floats:
    """Compute the (N, 3) covariance of detections as xx, xy, yy in px^2: larger along an edge than across it."""
    xx, xy, yy = (templates.inverse * np.float32(_DETECTION_SLOPE)).T
    most = np.float32(_DETECTION_MOST)
    # Limiting the size keeps the shape of the ellipse.
    cut = np.minimum(1, most / np.maximum((xx + yy) / 2, 1e-9))
    least = np.float32(_DETECTION_LEAST)
    return np.stack((xx * cut + least, xy * cut, yy * cut + least), axis=1)


def patch_offsets() -> Floats:
    """Where the samples of a patch lie around its point: (2, P) of x and y, in pixels of the first image."""
    side = np.arange(-RADIUS, RADIUS + 1, SPACING, dtype=np.float32)
    return np.stack(np.meshgrid(side, side)).reshape(2, -1)


def _sample(image: Floats, x: Floats, y: Floats, out: Floats | None = None) -> Floats:
    out = np.empty(x.shape, np.float32) if out is None else out
    for start in range(0, len(x), _MOST_ROWS):
        rows = slice(start, start + _MOST_ROWS)
        cv2.remap(image, x[rows], y[rows], cv2.INTER_LINEAR, dst=out[rows], borderMode=cv2.BORDER_REPLICATE)
    return out


def _mean_product(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.einsum("np,np->n", a, b) / np.float32(a.shape[1]))


def _compare(t: Templates, grey: Floats) -> tuple[Floats, Floats, Floats]:
    """Compare templates with samples (N, P) of the second image.

    Returns:
        the Gauss-Newton step (N, 2) in the first image, correlation (N,) and mean squared residual (N,).
    """
    grey -= grey.mean(axis=1, keepdims=True)
    own = _mean_product(grey, grey) + np.float32(1e-3)
    both, pull_x, pull_y = np.einsum("nkp,np->kn", t.layers, grey)
    # The slopes have no share in the template's grey levels, so the residual's products with them are these.
    gain = both / own
    xx, xy, yy = t.inverse.T
    step = np.stack((gain * (xx * pull_x + xy * pull_y), gain * (xy * pull_x + yy * pull_y)), axis=1)
    correlation = both / np.sqrt(own * np.maximum(t.contrast, 1e-3))
    return step, correlation, np.maximum(t.contrast - gain * both, 0)


def _covariance(t: Templates, warps: Floats, residual: Floats) -> Floats:
    scale = CORRELATED * np.where(np.isfinite(residual), residual, 0) / t.layers.shape[2]
    floor = np.array((FLOOR**2, 0, FLOOR**2), np.float32)
    return np.asarray(transform_covariances(t.inverse * scale[:, None], warps) + floor)
