"""Decoding on the processor: only pixels that matter are touched.

Results are those of `decoding`'s forms at fixed sizes, which are for GPUs and for export. Everything is OpenCV's and
NumPy's on one thread: a few milliseconds of work are not worth waking PyTorch's threads, which would then idle in the
way of the network's.
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

_SPARSE = 3
"""Reading a pixel out of order takes so many times as long as in a pass over all."""

_MOST_EQUALS = 8
"""Where as many maxima have one score, looking for neighbours among them pair by pair is no longer worth it."""

_AT_ONCE = 64
"""Keypoints whose cells' descriptors stay in a core's cache, 1 KiB each."""


class Buffers(threading.local):
    """Arrays that each thread uses again: fresh memory, page by page, costs more than most of what is done in it."""

    def __init__(self) -> None:
        self._kept: dict[str, NDArray[Any]] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
        """An array of undefined content, which is that of the last call with this name."""
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
    """What `decoding.suppress` keeps of (H, W) scores above `threshold`, as indices of the flat map in reading order.

    Only peaks inside of `margins` (top, left, bottom, right; in pixels) are given. Where these are more than `limit`,
    those weaker than the `limit`-th may be missing: what is weaker than a maximum cannot suppress it, so later rounds
    leave it out.
    """
    buffers = buffers or Buffers()
    least = np.float32(threshold)
    if radius == 0:
        return _inside(np.flatnonzero(scores > least), scores, margins)
    flat = scores.reshape(-1)
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    found = np.flatnonzero(_equals_greatest(scores, kernel, buffers))
    found = _first_of_equals(found[flat[found] > least], scores, radius, kernel)
    kept = [_inside(found, scores, margins)]
    candidates = None
    for _ in range(rounds - 1):
        strengths = flat[np.concatenate(kept)]
        if limit is not None and len(strengths) >= limit > 0:
            least = np.nextafter(np.partition(strengths, -limit)[-limit], np.float32(0))
        candidates = _candidates(scores, least, candidates, _free(found, scores.shape, kernel, buffers), buffers)
        if not len(candidates):
            break
        found = candidates[_greatest(candidates, scores, radius, kernel, buffers)]
        found = _first_of_equals(found, scores, radius, kernel)
        kept.append(_inside(found, scores, margins))
    return np.sort(np.concatenate(kept))


def _inside(index: Indices, scores: Map, margins: Margins) -> Indices:
    if not any(margins):
        return index
    top, left, bottom, right = margins
    height, width = scores.shape
    y, x = np.divmod(index, width)
    return index[(x >= left) & (x < width - right) & (y >= top) & (y < height - bottom)]


def _equals_greatest(scores: Map, kernel: NDArray[np.uint8], buffers: Buffers) -> NDArray[np.bool_]:
    """Where no score of the window is greater."""
    # OpenCV's running maximum is some forty times faster than PyTorch's pooling.
    greatest = cv2.dilate(scores, kernel, dst=buffers.array("greatest", scores.shape, np.float32))
    return np.equal(scores, greatest, out=buffers.array("equal", scores.shape, np.bool_))


def _free(kept: Indices, shape: tuple[int, ...], kernel: NDArray[np.uint8], buffers: Buffers) -> NDArray[np.bool_]:
    """Where no kept peak is in the window."""
    free = buffers.array("free", shape, np.uint8)
    free.fill(1)
    free.reshape(-1)[kept] = 0
    return cv2.erode(free, kernel, dst=buffers.array("free around", shape, np.uint8)).view(np.bool_)


def _candidates(
    scores: Map, least: np.float32, before: Indices | None, free: NDArray[np.bool_], buffers: Buffers
) -> Indices:
    """Free scores above `least`, where known among those of `before`."""
    if before is not None:
        return before[free.reshape(-1)[before] & (scores.reshape(-1)[before] > least)]
    above = np.greater(scores, least, out=buffers.array("above", scores.shape, np.bool_))
    return np.flatnonzero(np.logical_and(above, free, out=above))


def _greatest(
    candidates: Indices, scores: Map, radius: int, kernel: NDArray[np.uint8], buffers: Buffers
) -> NDArray[np.bool_]:
    """Which candidates no other candidate in their windows is greater than."""
    height, width = scores.shape
    values = scores.reshape(-1)[candidates]
    left = buffers.array("left", (height + 2 * radius, width + 2 * radius), np.float32)
    left.fill(0)
    flat, stride = left.reshape(-1), width + 2 * radius
    # The margin spares every window a look at the edges.
    places = candidates + candidates // width * (2 * radius) + radius * (stride + 1)
    flat[places] = values
    # Most have a greater one right beside them.
    greatest = values == _window_max(flat, places, 1, stride)
    rest = np.flatnonzero(greatest)
    if len(rest) * kernel.size > scores.size // _SPARSE:
        return greatest & _equals_greatest(left, kernel, buffers).reshape(-1)[places]
    greatest[rest] = values[rest] == _window_max(flat, places[rest], radius, stride)
    return greatest


def _window_max(flat: Map, places: Indices, radius: int, stride: int) -> NDArray[np.float32]:
    step = np.arange(-radius, radius + 1)
    around = (step[:, None] * stride + step).reshape(-1, 1)
    return np.asarray(flat.take(places + around).max(axis=0))


def _first_of_equals(found: Indices, scores: Map, radius: int, kernel: NDArray[np.uint8]) -> Indices:
    """Those maxima that no earlier one, in reading order, has in its window; such two have one score."""
    values = scores.reshape(-1)[found]
    ascending = np.sort(values)
    if (ascending[1:] != ascending[:-1]).all():
        return found
    order = np.argsort(values, kind="stable")
    values, (y, x) = values[order], np.divmod(found[order], scores.shape[1])
    first = np.ones(len(found), bool)
    for lag in range(1, _MOST_EQUALS):
        equal = np.flatnonzero(values[lag:] == values[:-lag])
        if not len(equal):
            return found[first]
        near = (np.abs(y[equal + lag] - y[equal]) <= radius) & (np.abs(x[equal + lag] - x[equal]) <= radius)
        first[order[equal + lag][near]] = False
    rank = np.zeros(scores.shape, np.float32)  # whole numbers are exact up to 16 million
    rank.reshape(-1)[found] = np.arange(len(found), 0, -1)
    return found[rank.reshape(-1)[found] == cv2.dilate(rank, kernel).reshape(-1)[found]]


def pick(
    heat: Map,
    limit: int,
    radius: int,
    threshold: float,
    border: int | Margins,
    rounds: int,
    buffers: Buffers | None = None,
) -> tuple[Indices, Map]:
    """The best peaks of a (H, W) heat map: at most `limit` positions (N, 2) as (x, y), and their scores descending.

    Among equal scores the first in reading order comes first. `border` is the width of the margin without peaks, or
    its four widths at the top, left, bottom and right.
    """
    margins = (border,) * 4 if isinstance(border, int) else border
    index = peaks(heat, radius, rounds, threshold, limit, margins, buffers)
    scores = heat.reshape(-1)[index]
    order = np.argsort(-scores, kind="stable")[:limit]
    y, x = np.divmod(index[order], heat.shape[1])
    return np.stack((x, y), axis=1), scores[order]


def refine(heat: Map, positions: Indices, radius: int) -> Map:
    """As `decoding.refine`, of one image: (H, W), (N, 2) -> (N, 2) float32."""
    height, width = heat.shape
    step = np.arange(-radius, radius + 1)
    # Keypoints are the last axis, so that NumPy's innermost loops are long.
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
    """As `decoding.sample`, of one image: (D, H/8, W/8), (N, 2) -> `out` (N, D); only cells beside keypoints are
    read."""
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
    # A cell's length is taken off its weight, so that the map itself need not be normalised.
    weights /= _lengths(table)[corners]
    cells = np.empty((_AT_ONCE, 4, size), np.float32)
    for start in range(0, len(out), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        # "clip" keeps NumPy from filling a copy first; no index is out of bounds.
        taken = table.take(corners[some], axis=0, out=cells[: len(corners) - start], mode="clip")
        np.matmul(weights[some, None], taken, out=out[some, None])
    out /= _lengths(out)[:, None]


def _lengths(rows: Map) -> Map:
    return np.maximum(np.sqrt(np.einsum("ij,ij->i", rows, rows)), np.float32(1e-12))
