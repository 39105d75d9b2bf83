"""Align two images by refining a homography.

Keypoints of two views have an error of half a pixel, patches around them of a tenth. All patches around matched
keypoints
are compared through the homography, which is refined to minimise their differences: inverse
compositional Gauss-Newton (Baker and Matthews, 2004) on sparse patches, whose brightness and contrast may differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from superpoint_ros.two_view.geometry import Matrix, propagate_covariance, scaled

Image = NDArray[np.uint8]

RADIUS = 5
"""Radius of a patch, in pixels of the first image."""

MOST = 150
"""Maximum number of patches, one per square of `_SQUARE` pixels."""

_SQUARE = 16

_BLUR, _MOST_BLUR = 0.8, 8.0  # pixels of the coarser and of the finer image
_ITERATIONS = 8
_SMALL_STEP = 0.01  # pixels
_MOST_STEP = 0.5  # of half the image's width
_LEAST_CORRELATION = 0.3
_FEWEST = 8
_LEAST_SHARE = 0.5  # minimum fraction of the common patches that must match in the end
_BLACK = 1e-3


@dataclass(frozen=True)
class Alignment:
    """The result of an alignment.

    Attributes:
        matrix: (3, 3) float64 with h33 = 1, from pixels of the first image to pixels of the second.
        covariance: (8, 8) float64 of (h11, h12, h13, h21, h22, h23, h31, h32), from the residuals of the patches.
    """

    matrix: Matrix
    covariance: Matrix


def align(first: Image, second: Image, matrix: Matrix, points: NDArray[np.floating]) -> Alignment | None:
    """Refine a homography with an error of a few pixels; None if the images have too little texture.

    Args:
        first, second: (H, W) grey.
        matrix: (3, 3) from pixels of the first image to pixels of the second.
        points: (N, 2) pixels of the first image whose patches are compared, the best first.
    """
    places = _spread(points)
    normal = _normalisation(first.shape)
    matrix = np.asarray(matrix / matrix[2, 2], np.float64)
    growth = _growth(matrix, places)
    if not 0 < growth < np.inf:
        return None
    # Detail that only the sharper image has would disturb the comparison.
    patches = _patches(_blurred(first, _BLUR * max(1.0, 1 / growth)), places, normal)
    if patches is None:
        return None
    return _descend(patches, _blurred(second, _BLUR * max(1.0, growth)), matrix, normal)


@dataclass(frozen=True)
class _Patches:
    """The patches of the first image: N patches of P samples.

    Attributes:
        places: (3, N * P) homogeneous pixels.
        grey: (N, P) zero-mean grey levels.
        energy: (N,) sum of their squares.
        slopes: (8, N, P) derivatives of the samples by the eight parameters of a step, orthogonal to brightness and
            contrast.
    """

    places: NDArray[np.float32]
    grey: NDArray[np.float32]
    energy: NDArray[np.float32]
    slopes: NDArray[np.float32]


def _spread(points: NDArray[np.floating]) -> NDArray[np.int64]:
    """Select the best points, rounded to pixels, one per square of the image."""
    square = np.floor_divide(points, _SQUARE).astype(np.int64) @ (1, 1 << 32)
    chosen = np.sort(np.unique(square, return_index=True)[1])[:MOST]
    return np.rint(points[chosen]).astype(np.int64)


def _normalisation(shape: tuple[int, ...]) -> Matrix:
    """Normalise pixels, so that the eight parameters of a step have similar magnitudes."""
    height, width = shape
    return np.array([[2 / width, 0, -1], [0, 2 / width, -height / width], [0, 0, 1]])


def _growth(matrix: Matrix, places: NDArray[np.int64]) -> float:
    """Estimate the median scale of the second image relative to the first."""
    depth = places @ matrix[2, :2] + matrix[2, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.median(np.sqrt(np.abs(np.linalg.det(matrix) / depth**3)))) if len(places) else np.nan


def _blurred(image: Image, blur: float) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), min(blur, _MOST_BLUR)), np.float32)


def _patches(image: NDArray[np.float32], places: NDArray[np.int64], normal: Matrix) -> _Patches | None:
    height, width = image.shape
    offset = np.arange(-RADIUS, RADIUS + 1)
    reach = RADIUS + 1
    inside = (places >= reach).all(axis=1) & (places < (width - reach, height - reach)).all(axis=1)
    if np.count_nonzero(inside) < _FEWEST:
        return None
    x, y = (places[inside, axis, None, None] for axis in (0, 1))
    count = len(x)
    index = ((y + offset[:, None]) * width + x + offset).reshape(count, -1)
    flat = image.reshape(-1)
    grey = flat.take(index)
    gx, gy = ((flat.take(index + step) - flat.take(index - step)) / 2 for step in (1, width))
    rows, columns = np.divmod(index, width)
    pixels = np.stack((columns, rows, np.ones_like(rows))).reshape(3, -1).astype(np.float32)
    u, v, _ = (normal.astype(np.float32) @ pixels).reshape(3, count, -1)
    gx, gy = gx / np.float32(normal[0, 0]), gy / np.float32(normal[1, 1])
    away = -(gx * u + gy * v)
    slopes = np.stack((gx * u, gx * v, gx, gy * u, gy * v, gy, away * u, away * v))
    grey = grey - grey.mean(axis=1, keepdims=True)
    energy = np.einsum("np,np->n", grey, grey) + np.float32(_BLACK)
    slopes -= slopes.mean(axis=2, keepdims=True)
    contrast = np.einsum("np,knp->kn", grey, slopes) / energy
    slopes -= grey * contrast[:, :, None]
    return _Patches(pixels, grey, energy, slopes)


def _descend(patches: _Patches, image: NDArray[np.float32], matrix: Matrix, normal: Matrix) -> Alignment | None:
    back = np.linalg.inv(normal)
    for turn in range(_ITERATIONS):
        residuals, weights, seen = _compare(patches, image, matrix)
        if np.count_nonzero(weights) < _FEWEST:
            return None
        pull = np.einsum("np,knp->nk", residuals, patches.slopes).astype(np.float64)
        weighted = (patches.slopes * weights[:, None]).reshape(8, -1)
        hessian = (weighted @ patches.slopes.reshape(8, -1).T).astype(np.float64)
        root = np.sqrt(np.diag(hessian))
        scale = np.outer(root, root)
        if not (root > 0).all() or np.linalg.cond(hessian / scale) > 1e10:
            return None
        inverse = np.linalg.inv(hessian / scale) / scale
        step = inverse @ (weights @ pull)
        if not np.abs(step).max() < _MOST_STEP:
            return None
        if turn + 1 == _ITERATIONS or np.abs(step).max() < _SMALL_STEP * normal[0, 0]:
            break
        change = np.eye(3) + np.append(step, 0).reshape(3, 3)
        changed = scaled(matrix @ back @ np.linalg.inv(change) @ normal)
        if changed is None:
            return None
        matrix = changed
    if np.count_nonzero(weights) < _LEAST_SHARE * seen:
        return None
    return Alignment(matrix, _covariance(matrix, normal, inverse, weights, pull))


def _compare(
    patches: _Patches, image: NDArray[np.float32], matrix: Matrix
) -> tuple[NDArray[np.float32], NDArray[np.float32], int]:
    """Compute residuals (N, P) after fitting brightness and contrast per patch, weights (N,), and the number of visible
    patches."""
    x, y, w = matrix.astype(np.float32) @ patches.places
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y = (np.nan_to_num(part / w, nan=-1, posinf=-1, neginf=-1).reshape(patches.grey.shape) for part in (x, y))
    seen = ((x >= 0) & (y >= 0) & (x <= image.shape[1] - 1) & (y <= image.shape[0] - 1)).all(axis=1)
    grey = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    grey = grey - grey.mean(axis=1, keepdims=True)
    both, own = np.einsum("np,np->n", grey, patches.grey), np.einsum("np,np->n", grey, grey) + np.float32(_BLACK)
    residuals = grey * (both / own)[:, None] - patches.grey
    error = np.einsum("np,np->n", residuals, residuals)
    used = seen & (both > _LEAST_CORRELATION * np.sqrt(own * patches.energy))
    if not used.any():
        return residuals, np.zeros(len(used), np.float32), 0
    # Cauchy weights for moving or occluded patches.
    usual = 2 * np.median(error[used]) + _BLACK
    return residuals, (used / (1 + error / usual)).astype(np.float32), int(np.count_nonzero(seen))


def _covariance(matrix: Matrix, normal: Matrix, inverse: Matrix, weights: NDArray[Any], pull: Matrix) -> Matrix:
    """Compute the covariance of h11 ... h32 with one observation per patch (White's sandwich estimator)."""
    own = pull * weights[:, None]
    count = np.count_nonzero(weights)
    spread = inverse @ (own.T @ own) @ inverse * count / max(count - 4, 1)
    return propagate_covariance(spread, -matrix @ np.linalg.inv(normal), normal, matrix)
