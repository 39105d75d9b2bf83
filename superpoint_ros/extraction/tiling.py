"""Large images in overlapping tiles, with the features of the whole image and a fraction of the memory.

A tile is given to the network with as much around it as the network's outputs depend on, and its heat map is decoded
with as much around it as non-maximum suppression depends on. So each keypoint, its refinement and its descriptor are
those of the whole image, up to the rounding of another order of summation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from superpoint_ros.extraction.clock import Clock
from superpoint_ros.extraction.decoding import ROUNDS, Decoding, decode_maps
from superpoint_ros.extraction.decoding_cpu import Buffers, Margins
from superpoint_ros.extraction.network import CELL, receptive_reach
from superpoint_ros.extraction.runtimes import Extracted, Runtime

_CONTEXT = -(-receptive_reach() // CELL) * CELL
"""Width of a tile's edge whose outputs are not those of the whole image."""

_BESIDE = 16
"""What refining a keypoint and sampling its descriptor read around it, in pixels."""

_LEAST_CORE = 128
"""Shortest side of the part of a tile in which keypoints are found, however few pixels a tile may have."""


@dataclass(frozen=True)
class Span:
    """A tile along one axis, in pixels of the image.

    Attributes:
        start, stop: what the network is given.
        first, last: where the tile's keypoints lie, from `first` on and before `last`.
    """

    start: int
    stop: int
    first: int
    last: int


@dataclass(frozen=True)
class Tile:
    """A tile of an image."""

    rows: Span
    columns: Span


def tiles(shape: tuple[int, int], most_pixels: int, nms_radius: int) -> list[Tile]:
    """Tiles of one size of an image of `shape` (height, width), which are multiples of 8; in reading order.

    Args:
        most_pixels: of a tile; more where that is too few for what a tile needs around it.
        nms_radius: of the non-maximum suppression.
    """
    halo = _CONTEXT + _around(nms_radius)
    rows, columns = _side_lengths(shape[0], halo), _side_lengths(shape[1], halo)
    fitting = [(m * high * n * wide, m, n) for m, high in rows for n, wide in columns if high * wide <= most_pixels]
    _, m, n = min(fitting) if fitting else (0, rows[-1][0], columns[-1][0])
    across = list(_spans(shape[1], dict(columns)[n], n, halo))
    return [Tile(down, along) for down in _spans(shape[0], dict(rows)[m], m, halo) for along in across]


@dataclass(frozen=True)
class Tiling:
    """How large images go through the network.

    Attributes:
        most_pixels: of a tile.
        descriptor_size: D, of the network.
        buffers: for decoding.
    """

    most_pixels: int
    descriptor_size: int
    buffers: Buffers

    def extract(
        self,
        runtime: Runtime,
        image: Tensor,
        size: tuple[int, int],
        settings: Decoding,
        clock: Clock,
        again: bool = False,
    ) -> Extracted:
        """Features of one image.

        Args:
            image: (1, 1, H, W) uint8, sides multiples of 8.
            size: (height, width) of the image before padding.
            clock: measures the stages network and decode features; `again` as parts of their last runs.
        """
        best = _Best(settings.max_keypoints, self.descriptor_size, runtime.device)
        for tile in tiles((image.shape[2], image.shape[3]), self.most_pixels, settings.nms_radius):
            window = _Window.of(tile, size, settings)
            if window is None:
                continue
            with clock.stage("network", again), torch.inference_mode():
                given = image[..., tile.rows.start : tile.rows.stop, tile.columns.start : tile.columns.stop]
                given = given.contiguous().to(runtime.device)
                heat, descriptors = runtime(given)
            with clock.stage("decode features", again), torch.inference_mode():
                best.add(*window.decode(heat, descriptors, given, settings, self.buffers))
            again = True
        return best.extracted()


def _around(nms_radius: int) -> int:
    """Width of a heat map's edge, in whole cells, in which keypoints may be others than those of the whole image.

    A pixel is a local maximum by what lies within the radius, and the first of equals by whether those are maxima;
    each further round adds what is covered by the maxima of the round before.
    """
    return -(-max(nms_radius * (3 * ROUNDS - 1), _BESIDE) // CELL) * CELL


def _side_lengths(length: int, halo: int) -> list[tuple[int, int]]:
    """Numbers of tiles along an axis, and their length then."""
    found = [(1, length)]
    for count in range(2, length // CELL + 2):
        side = -(-(length + (count - 1) * 2 * halo) // (count * CELL)) * CELL
        if side < 2 * halo + _LEAST_CORE:
            break
        if side < found[-1][1]:
            found.append((count, side))
    return found


def _spans(length: int, side: int, count: int, halo: int) -> Iterator[Span]:
    starts = [index * (length - side) // (max(count - 1, 1) * CELL) * CELL for index in range(count)]
    firsts = [0, *(start + halo for start in starts[1:])]
    for start, first, last in zip(starts, firsts, [*firsts[1:], length], strict=True):
        yield Span(start, start + side, first, last)


@dataclass(frozen=True)
class _Window:
    """The part of a tile in which the network's outputs are those of the whole image.

    Attributes:
        rows, columns: of the tile, in whole cells.
        size: (height, width) without padding.
        origin: of the window in the image, (x, y).
        margins: without keypoints of this tile.
    """

    rows: slice
    columns: slice
    size: tuple[int, int]
    origin: tuple[int, int]
    margins: Margins

    @staticmethod
    def of(tile: Tile, size: tuple[int, int], settings: Decoding) -> _Window | None:
        """The window of a tile, or None where there can be no keypoint."""
        found = []
        for span, length in ((tile.rows, size[0]), (tile.columns, size[1])):
            start = span.start + (_CONTEXT if span.start else 0)
            stop = span.stop if span.stop >= length else span.stop - _CONTEXT
            first, last = max(span.first, settings.border), min(span.last, length - settings.border)
            if first >= last:
                return None
            end = min(stop, length)
            found.append((slice(start - span.start, stop - span.start), end - start, start, first - start, end - last))
        (rows, height, y, top, bottom), (columns, width, x, left, right) = found
        return _Window(rows, columns, (height, width), (x, y), (top, left, bottom, right))

    def decode(
        self, heat: Tensor, descriptors: Tensor, given: Tensor, settings: Decoding, buffers: Buffers
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A tile's maps and pixels -> keypoints (K, 2) in pixels of the image, scores (K,), descriptors (K, D)."""
        in_cells = tuple(slice(part.start // CELL, part.stop // CELL) for part in (self.rows, self.columns))
        by_cell = descriptors.permute(0, 2, 3, 1)[:, in_cells[0], in_cells[1]].contiguous()
        keypoints, scores, sampled = decode_maps(
            heat[:, self.rows, self.columns],
            by_cell.permute(0, 3, 1, 2),
            given[..., self.rows, self.columns].contiguous(),
            self.size,
            settings,
            buffers,
            self.margins,
        )
        return keypoints[0] + keypoints.new_tensor(self.origin), scores[0], sampled[0]


class _Best:
    """The best keypoints of the tiles so far."""

    def __init__(self, limit: int, descriptor_size: int, device: torch.device) -> None:
        self._limit = limit
        shapes = ((0, 2), (0,), (0, descriptor_size))
        self._found = tuple(torch.zeros(shape, device=device) for shape in shapes)

    def add(self, *found: Tensor) -> None:
        """Take a tile's keypoints, scores and descriptors in."""
        used = found[1] > 0
        found = tuple(torch.cat((before, one[used])) for before, one in zip(self._found, found, strict=True))
        keypoints, scores = (one.cpu().numpy() for one in found[:2])
        # Among equal scores the first in reading order comes first, as in the whole image.
        order = np.lexsort((keypoints[:, 0], keypoints[:, 1], -scores))[: self._limit]
        chosen = torch.from_numpy(order).to(found[0].device)
        self._found = tuple(one[chosen] for one in found)

    def extracted(self) -> Extracted:
        """The features as those of a batch of one."""
        keypoints, scores, descriptors = (one.cpu().numpy()[None] for one in self._found)
        on_device = self._found[2][None] if self._found[2].device.type != "cpu" else None
        return Extracted(keypoints, scores, descriptors, on_device)
