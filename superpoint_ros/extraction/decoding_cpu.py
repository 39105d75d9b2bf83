"""Decode on a CPU, touching only the pixels that matter.

Results equal those of the fixed-shape functions in `decoding`, which are for GPUs and export. OpenCV and NumPy run on
one thread: a few milliseconds of work are not worth waking PyTorch's threads, which would then spin and take cores
from the network.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]
Indices = NDArray[np.int64]
Margins = tuple[int, int, int, int]

_RANDOM_ACCESS_COST = 3
"""Cost of reading a pixel at random, relative to a sequential pass."""

_MAX_TIES = 8
"""Number of maxima with equal scores from which comparing them pairwise no longer pays off."""

_CHUNK = 64
"""Number of keypoints whose cells' descriptors, 1 KiB each, fit in a core's cache."""


class Buffers(threading.local):
    """Arrays that each thread reuses: page faults on fresh memory cost more than most of the work done in it."""

    def __init__(self) -> None:
        self._kept: dict[str, NDArray[Any]] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
        """Return an uninitialised array; it shares memory with that of the last call with this name."""
        size = math.prod(shape)
        kept = self._kept.get(name)
        if kept is None or kept.dtype != dtype or kept.size < size:
            kept = self._kept[name] = np.empty(size, dtype)
        return kept[:size].reshape(shape)


def peaks(
    scores: Map,
    radius: int,
    rounds: int,
    threshold: float = 0,
    limit: int | None = None,
    margins: Margins = (0, 0, 0, 0),
    buffers: Buffers | None = None,
) -> Indices:
    """Find the peaks that `decoding.suppress` keeps of (H, W) scores, as indices of the flat map in row-major order.

    Only peaks above `threshold` and inside `margins` (top, left, bottom, right; in pixels) are returned. If there are
    more than `limit`, those weaker than the `limit`-th may be missing: they cannot suppress a stronger one, so later
    rounds skip them.
    """
    buffers = buffers or Buffers()
    least = np.float32(threshold)
    if radius == 0:
        return _within_margins(np.flatnonzero(scores > least), scores, margins)
    flat = scores.reshape(-1)
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    found = np.flatnonzero(_is_window_max(scores, kernel, buffers))
    found = _break_ties(found[flat[found] > least], scores, radius, kernel)
    kept = [_within_margins(found, scores, margins)]
    candidates = None
    for _ in range(rounds - 1):
        strengths = flat[np.concatenate(kept)]
        if limit is not None and len(strengths) >= limit > 0:
            least = np.nextafter(np.partition(strengths, -limit)[-limit], np.float32(0))
        candidates = _candidates(
            scores, least, candidates, _unsuppressed(found, scores.shape, kernel, buffers), buffers
        )
        if not len(candidates):
            break
        found = candidates[_are_local_maxima(candidates, scores, radius, kernel, buffers)]
        found = _break_ties(found, scores, radius, kernel)
        kept.append(_within_margins(found, scores, margins))
    return np.sort(np.concatenate(kept))


def _within_margins(index: Indices, scores: Map, margins: Margins) -> Indices:
    if not any(margins):
        return index
    top, left, bottom, right = margins
    height, width = scores.shape
    y, x = np.divmod(index, width)
    return index[(x >= left) & (x < width - right) & (y >= top) & (y < height - bottom)]


def _is_window_max(scores: Map, kernel: NDArray[np.uint8], buffers: Buffers) -> NDArray[np.bool_]:
    """Mark the scores that no other score in their window exceeds."""
    # OpenCV's dilation is about forty times as fast as PyTorch's max pooling.
    greatest = cv2.dilate(scores, kernel, dst=buffers.array("greatest", scores.shape, np.float32))
    return np.equal(scores, greatest, out=buffers.array("equal", scores.shape, np.bool_))


def _unsuppressed(
    kept: Indices, shape: tuple[int, ...], kernel: NDArray[np.uint8], buffers: Buffers
) -> NDArray[np.bool_]:
    """Mark the pixels whose window contains no kept peak."""
    free = buffers.array("free", shape, np.uint8)
    free.fill(1)
    free.reshape(-1)[kept] = 0
    return cv2.erode(free, kernel, dst=buffers.array("free around", shape, np.uint8)).view(np.bool_)


def _candidates(
    scores: Map, least: np.float32, before: Indices | None, free: NDArray[np.bool_], buffers: Buffers
) -> Indices:
    """Find the unsuppressed scores above `least`, among those of `before` if given."""
    if before is not None:
        return before[free.reshape(-1)[before] & (scores.reshape(-1)[before] > least)]
    above = np.greater(scores, least, out=buffers.array("above", scores.shape, np.bool_))
    return np.flatnonzero(np.logical_and(above, free, out=above))


def _are_local_maxima(
    candidates: Indices, scores: Map, radius: int, kernel: NDArray[np.uint8], buffers: Buffers
) -> NDArray[np.bool_]:
    """Mark the candidates that no other candidate in their window exceeds."""
    height, width = scores.shape
    values = scores.reshape(-1)[candidates]
    left = buffers.array("left", (height + 2 * radius, width + 2 * radius), np.float32)
    left.fill(0)
    flat, stride = left.reshape(-1), width + 2 * radius
    # The margin saves bounds checks at the edges.
    places = candidates + candidates // width * (2 * radius) + radius * (stride + 1)
    flat[places] = values
    # Most have a greater neighbour.
    greatest = values == _window_max(flat, places, 1, stride)
    rest = np.flatnonzero(greatest)
    if len(rest) * kernel.size > scores.size // _RANDOM_ACCESS_COST:
        return greatest & _is_window_max(left, kernel, buffers).reshape(-1)[places]
    greatest[rest] = values[rest] == _window_max(flat, places[rest], radius, stride)
    return greatest


def _window_max(flat: Map, places: Indices, radius: int, stride: int) -> NDArray[np.float32]:
    step = np.arange(-radius, radius + 1)
    around = (step[:, None] * stride + step).reshape(-1, 1)
    return np.asarray(flat.take(places + around).max(axis=0))


def _break_ties(found: Indices, scores: Map, radius: int, kernel: NDArray[np.uint8]) -> Indices:
    """Drop maxima whose window contains an earlier one, in row-major order; the two have equal scores."""
    values = scores.reshape(-1)[found]
    ascending = np.sort(values)
    if (ascending[1:] != ascending[:-1]).all():
        return found
    order = np.argsort(values, kind="stable")
    values, (y, x) = values[order], np.divmod(found[order], scores.shape[1])
    first = np.ones(len(found), bool)
    for lag in range(1, _MAX_TIES):
        equal = np.flatnonzero(values[lag:] == values[:-lag])
        if not len(equal):
            return found[first]
        near = (np.abs(y[equal + lag] - y[equal]) <= radius) & (np.abs(x[equal + lag] - x[equal]) <= radius)
        first[order[equal + lag][near]] = False
    rank = np.zeros(scores.shape, np.float32)  # integers are exact up to 16 million
    rank.reshape(-1)[found] = np.arange(len(found), 0, -1)
    return found[rank.reshape(-1)[found] == cv2.dilate(rank, kernel).reshape(-1)[found]]


def select_peaks(
    heat: Map,
    limit: int,
    radius: int,
    threshold: float,
    border: int | Margins,
    rounds: int,
    buffers: Buffers | None = None,
) -> tuple[Indices, Map]:
    """Select the best peaks of an (H, W) heat map: at most `limit` positions (N, 2) as (x, y), and scores, descending.

    Equal scores are in row-major order. `border` is the width of the margin without peaks, or its four widths at the
    top, left, bottom and right.
    """
    margins = (border,) * 4 if isinstance(border, int) else border
    index = peaks(heat, radius, rounds, threshold, limit, margins, buffers)
    scores = heat.reshape(-1)[index]
    order = np.argsort(-scores, kind="stable")[:limit]
    y, x = np.divmod(index[order], heat.shape[1])
    return np.stack((x, y), axis=1), scores[order]


def refine(heat: Map, positions: Indices, radius: int) -> Map:
    """Refine positions as `decoding.refine` does, in one image: (H, W), (N, 2) -> (N, 2) float32."""
    height, width = heat.shape
    step = np.arange(-radius, radius + 1)
    # Keypoints are the last axis to make NumPy's inner loops long.
    x, y = positions.T[:, None] + step[:, None]
    window = heat.reshape(-1).take((y.clip(0, height - 1) * width)[:, None] + x.clip(0, width - 1))
    window *= ((y >= 0) & (y < height))[:, None]
    window *= (x >= 0) & (x < width)
    columns, rows = window.sum(axis=0), window.sum(axis=1)
    mass = np.maximum(columns.sum(axis=0), np.float32(1e-12))
    weights = step.astype(np.float32)
    offset = np.stack((weights @ columns, weights @ rows), axis=1) / mass[:, None]
    return (positions + offset.clip(-1, 1)).astype(np.float32)


def sample(descriptors: Map, keypoints: Map, cell: int, out: Map) -> None:
    """Sample descriptors as `decoding.sample` does, in one image: (D, H/8, W/8), (N, 2) -> `out` (N, D).

    Reads only the cells next to keypoints.
    """
    size, rows, columns = descriptors.shape
    by_cell = descriptors.transpose(1, 2, 0)
    # Maps that are channels-last already need no copy.
    table = by_cell if by_cell.flags.c_contiguous else cv2.transpose(descriptors.reshape(size, -1))
    table = table.reshape(-1, size)
    place = (keypoints + np.float32(0.5)) / np.float32(cell) - np.float32(0.5)
    x, y = place[:, 0].clip(0, columns - 1), place[:, 1].clip(0, rows - 1)
    left, top = np.floor(x), np.floor(y)
    u, v = x - left, y - top
    first = (top * columns + left).astype(np.int64)
    right, down = (left < columns - 1).astype(np.int64), (top < rows - 1) * columns
    corners = np.stack((first, first + right, first + down, first + right + down), axis=1)
    weights = np.stack(((1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v), axis=1)
    # Dividing the weights by the cells' norms saves normalising the map.
    weights /= _norms(table)[corners]
    cells = np.empty((_CHUNK, 4, size), np.float32)
    for start in range(0, len(out), _CHUNK):
        some = slice(start, start + _CHUNK)
        # mode="clip" makes NumPy write to `out` without a temporary copy; no index is out of bounds.
        taken = table.take(corners[some], axis=0, out=cells[: len(corners) - start], mode="clip")
        np.matmul(weights[some, None], taken, out=out[some, None])
    out /= _norms(out)[:, None]


def _norms(rows: Map) -> Map:
    return np.maximum(np.sqrt(np.einsum("ij,ij->i", rows, rows)), np.float32(1e-12))
