"""Process large images in overlapping tiles, with the features of the whole image and a fraction of the memory.

Tiles overlap by the network's receptive field plus the reach of non-maximum suppression. So each keypoint, its
refinement and its descriptor equal those of the whole image, up to floating-point rounding.
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
from superpoint_ros.extraction.network import CELL, receptive_margin
from superpoint_ros.extraction.runtimes import ExtractedBatch, Runtime

_CONTEXT = -(-receptive_margin() // CELL) * CELL
"""Width of a tile's margin in which outputs differ from those of the whole image."""

_SAMPLING_MARGIN = 16
"""How far around a keypoint its refinement and its descriptor read, in pixels."""

_MIN_CORE = 128
"""Minimum side of the part of a tile in which keypoints are detected, however small `max_pixels` is."""


@dataclass(frozen=True)
class Span:
    """A tile along one axis, in pixels of the image.

    Attributes:
        start, stop: input of the network.
        first, last: where the tile's keypoints are, from `first` up to but not including `last`.
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


def tiles(shape: tuple[int, int], max_pixels: int, nms_radius: int) -> list[Tile]:
    """Split an image of `shape` (height, width), multiples of 8, into tiles of equal size, in row-major order.

    Args:
        max_pixels: of a tile; exceeded if it leaves no room for the overlap.
        nms_radius: of the non-maximum suppression.
    """
    halo = _CONTEXT + _suppression_margin(nms_radius)
    rows, columns = _side_lengths(shape[0], halo), _side_lengths(shape[1], halo)
    fitting = [(m * high * n * wide, m, n) for m, high in rows for n, wide in columns if high * wide <= max_pixels]
    _, m, n = min(fitting) if fitting else (0, rows[-1][0], columns[-1][0])
    across = list(_spans(shape[1], dict(columns)[n], n, halo))
    return [Tile(down, along) for down in _spans(shape[0], dict(rows)[m], m, halo) for along in across]


@dataclass(frozen=True)
class Tiling:
    """Runs the network on large images, tile by tile.

    Attributes:
        max_pixels: of a tile.
        descriptor_size: D, of the network.
        buffers: for decoding.
    """

    max_pixels: int
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
        mask: Tensor | None = None,
    ) -> ExtractedBatch:
        """Extract the features of one image.

        Args:
            image: (1, 1, H, W) uint8, sides multiples of 8.
            size: (height, width) of the image before padding.
            clock: measures the stages network and decode features; `again` adds to their last runs.
            mask: (H, W) float32, 0 where no keypoints are wanted.
        """
        best = _BestKeypoints(settings.max_keypoints, self.descriptor_size, runtime.device)
        for tile in tiles((image.shape[2], image.shape[3]), self.max_pixels, settings.nms_radius):
            window = _Window.for_tile(tile, size, settings)
            if window is None:
                continue
            with clock.stage("network", again), torch.inference_mode():
                pixels = image[..., tile.rows.start : tile.rows.stop, tile.columns.start : tile.columns.stop]
                pixels = pixels.contiguous().to(runtime.device)
                heat, descriptors = runtime(pixels)
                if mask is not None:
                    part = mask[tile.rows.start : tile.rows.stop, tile.columns.start : tile.columns.stop]
                    heat = heat * part.to(heat.device)
            with clock.stage("decode features", again), torch.inference_mode():
                best.add(*window.decode(heat, descriptors, pixels, settings, self.buffers))
            again = True
        return best.result()


def _suppression_margin(nms_radius: int) -> int:
    """Compute the margin of a heat map, in whole cells, in which keypoints may differ from those of the whole image.

    Whether a pixel is a local maximum depends on its window, ties depend on whether its neighbours are maxima, and each
    further round depends on what the previous one suppressed.
    """
    return -(-max(nms_radius * (3 * ROUNDS - 1), _SAMPLING_MARGIN) // CELL) * CELL


def _side_lengths(length: int, halo: int) -> list[tuple[int, int]]:
    """List possible numbers of tiles along an axis with the resulting side lengths."""
    found = [(1, length)]
    for count in range(2, length // CELL + 2):
        side = -(-(length + (count - 1) * 2 * halo) // (count * CELL)) * CELL
        if side < 2 * halo + _MIN_CORE:
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
    """The part of a tile in which the network's outputs equal those of the whole image.

    Attributes:
        rows, columns: of the tile, in whole cells.
        size: (height, width) without padding.
        origin: (x, y) of the window in the image.
        margins: where no keypoints of this tile are.
    """

    rows: slice
    columns: slice
    size: tuple[int, int]
    origin: tuple[int, int]
    margins: Margins

    @staticmethod
    def for_tile(tile: Tile, size: tuple[int, int], settings: Decoding) -> _Window | None:
        """Return the window of a tile, or None if it can contain no keypoint."""
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
        self, heat: Tensor, descriptors: Tensor, pixels: Tensor, settings: Decoding, buffers: Buffers
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Decode a tile: keypoints (K, 2) in pixels of the image, scores (K,), descriptors (K, D)."""
        in_cells = tuple(slice(part.start // CELL, part.stop // CELL) for part in (self.rows, self.columns))
        by_cell = descriptors.permute(0, 2, 3, 1)[:, in_cells[0], in_cells[1]].contiguous()
        keypoints, scores, sampled = decode_maps(
            heat[:, self.rows, self.columns],
            by_cell.permute(0, 3, 1, 2),
            pixels[..., self.rows, self.columns].contiguous(),
            self.size,
            settings,
            buffers,
            self.margins,
        )
        return keypoints[0] + keypoints.new_tensor(self.origin), scores[0], sampled[0]


class _BestKeypoints:
    """The best keypoints of the tiles so far."""

    def __init__(self, limit: int, descriptor_size: int, device: torch.device) -> None:
        self._limit = limit
        shapes = ((0, 2), (0,), (0, descriptor_size))
        self._found = tuple(torch.zeros(shape, device=device) for shape in shapes)

    def add(self, *found: Tensor) -> None:
        """Add a tile's keypoints, scores and descriptors."""
        used = found[1] > 0
        found = tuple(torch.cat((before, one[used])) for before, one in zip(self._found, found, strict=True))
        keypoints, scores = (one.cpu().numpy() for one in found[:2])
        # Equal scores are in row-major order, as in the whole image.
        order = np.lexsort((keypoints[:, 0], keypoints[:, 1], -scores))[: self._limit]
        chosen = torch.from_numpy(order).to(found[0].device)
        self._found = tuple(one[chosen] for one in found)

    def result(self) -> ExtractedBatch:
        """Return the features as a batch of one."""
        keypoints, scores, descriptors = (one.cpu().numpy()[None] for one in self._found)
        on_device = self._found[2][None] if self._found[2].device.type != "cpu" else None
        return ExtractedBatch(keypoints, scores, descriptors, on_device)
