"""Decoding on the processor: only pixels that matter are touched.

Results are those of `decoding`'s forms at fixed sizes, which are for GPUs and for export. Everything is OpenCV's and
NumPy's on one thread: a few milliseconds of work are not worth waking PyTorch's threads, which would then idle in the
way of the network's.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]
Indices = NDArray[np.int64]

_SPARSE = 8
"""Reading a pixel out of order takes so many times as long as in a pass over all."""

_MOST_EQUALS = 8
"""Where as many maxima have one score, looking for neighbours among them pair by pair is no longer worth it."""


def peaks(scores: Map, radius: int, rounds: int) -> Indices:
    """What `decoding.suppress` keeps of (H, W) scores of at least 0, as indices of the flat map in reading order."""
    if radius == 0:
        return np.flatnonzero(scores > 0)
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    candidates = np.flatnonzero(scores > 0)
    kept: list[Indices] = []
    for turn in range(rounds):
        found = _maxima(scores, candidates, radius, kernel)
        found = _first_of_equals(found, scores, radius, kernel)
        kept.append(found)
        if turn + 1 == rounds or len(found) == len(candidates):
            break
        free = np.full(scores.shape, 255, np.uint8)
        free.reshape(-1)[found] = 0
        free = np.asarray(cv2.erode(free, kernel))
        candidates = candidates[free.reshape(-1)[candidates] > 0]
        scores = np.asarray(cv2.copyTo(scores, free))
    return np.sort(np.concatenate(kept))


def _maxima(scores: Map, candidates: Indices, radius: int, kernel: NDArray[np.uint8]) -> Indices:
    """Those candidates whose score is the greatest of its window."""
    flat = scores.reshape(-1)
    if len(candidates) * kernel.size > scores.size // _SPARSE:
        # OpenCV's running maximum is some forty times faster than PyTorch's pooling.
        return candidates[flat[candidates] == cv2.dilate(scores, kernel).reshape(-1)[candidates]]
    step = np.arange(-radius, radius + 1)
    y, x = np.divmod(candidates, scores.shape[1])
    rows = (y[:, None] + step).clip(0, scores.shape[0] - 1) * scores.shape[1]
    columns = (x[:, None] + step).clip(0, scores.shape[1] - 1)
    return candidates[flat[candidates] == flat.take(rows[:, :, None] + columns[:, None, :]).max(axis=(1, 2), initial=0)]


def _first_of_equals(found: Indices, scores: Map, radius: int, kernel: NDArray[np.uint8]) -> Indices:
    """Those maxima that no earlier one, in reading order, has in its window; such two have one score."""
    values = scores.reshape(-1)[found]
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


def pick(heat: Map, limit: int, radius: int, threshold: float, border: int, rounds: int) -> tuple[Indices, Map]:
    """The best peaks of a (H, W) heat map: at most `limit` positions (N, 2) as (x, y), and their scores descending.

    Among equal scores the first in reading order comes first.
    """
    height, width = heat.shape
    index = peaks(cv2.threshold(heat, threshold, 0, cv2.THRESH_TOZERO)[1], radius, rounds)
    y, x = np.divmod(index, width)
    if border:
        inside = (x >= border) & (x < width - border) & (y >= border) & (y < height - border)
        index, x, y = index[inside], x[inside], y[inside]
    scores = heat.reshape(-1)[index]
    order = np.argsort(-scores, kind="stable")[:limit]
    return np.stack((x[order], y[order]), axis=1), scores[order]


def refine(heat: Map, positions: Indices, radius: int) -> Map:
    """As `decoding.refine`, of one image: (H, W), (N, 2) -> (N, 2) float32."""
    height, width = heat.shape
    step = np.arange(-radius, radius + 1)
    x, y = positions[:, :1] + step, positions[:, 1:] + step
    index = (y.clip(0, height - 1) * width)[:, :, None] + x.clip(0, width - 1)[:, None, :]
    window = heat.reshape(-1).take(index)
    window *= ((y >= 0) & (y < height))[:, :, None]
    window *= ((x >= 0) & (x < width))[:, None, :]
    columns, rows = window.sum(axis=1), window.sum(axis=2)
    mass = np.maximum(columns.sum(axis=1), np.float32(1e-12))
    offset = np.stack((columns @ step.astype(np.float32), rows @ step.astype(np.float32)), axis=1) / mass[:, None]
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
    np.matmul(weights[:, None], table.take(corners, axis=0), out=out[:, None])
    out /= _lengths(out)[:, None]


def _lengths(rows: Map) -> Map:
    return np.maximum(np.sqrt(np.einsum("ij,ij->i", rows, rows)), np.float32(1e-12))
