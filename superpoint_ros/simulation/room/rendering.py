"""Render textured surfaces, precise to about 0.01 pixels.

Every surface is rendered through the homography between its plane and the image, on a supersampled grid whose cells are
then averaged. Distant surfaces are sampled from a mip map, blended between the two nearest levels. All averages are
over cells that are symmetric around their centres, so that nothing shifts; tests compare images of a pattern with its
projection.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from superpoint_ros.simulation.room.scene import NEAR, Matrix, Surface, plane_maps, windows

Image = NDArray[np.uint8]
Values = NDArray[np.float32]

_LEVELS = 6
_TABLE = 256
"""Number of entries of a table of cv2.LUT, which limits the number of visible surfaces times levels."""


class Atlas:
    """Textures with their mip map levels in one image.

    Args:
        textures: (H, W, 3) uint8, sides multiples of 32.
    """

    def __init__(self, textures: list[Image]) -> None:
        parts = [level for texture in textures for level in _pyramid(texture)]
        width = max(2048, max(part.shape[1] for part in parts))
        corners: list[tuple[int, int]] = [(0, 0)] * len(parts)
        left = top = shelf = 0
        # Shelf packing, the tallest parts first.
        for i in sorted(range(len(parts)), key=lambda i: -parts[i].shape[0]):
            height, wide = parts[i].shape[:2]
            if left + wide > width:
                left, top, shelf = 0, top + shelf, 0
            corners[i] = left, top
            left, shelf = left + wide, max(shelf, height)
        self.image = np.zeros((top + shelf, width, 3), np.uint8)
        for part, (left, top) in zip(parts, corners, strict=True):
            self.image[top : top + part.shape[0], left : left + part.shape[1]] = part
        # Offset of a level's coordinate 0, the outer edge of its first texel, relative to the texel centres of the
        # atlas.
        self.offsets = (np.array(corners, np.float32) + 0.5).reshape(len(textures), _LEVELS, 2)
        self.sizes = np.array([texture.shape[1::-1] for texture in textures], np.float64)


def _pyramid(texture: Image) -> list[Image]:
    levels, exact = [], texture.astype(np.float32)
    for level in range(_LEVELS):
        if level:
            exact = cv2.resize(exact, (exact.shape[1] // 2, exact.shape[0] // 2), interpolation=cv2.INTER_AREA)
        # A border of one texel for the bilinear interpolation.
        levels.append(cv2.copyMakeBorder(exact.round().astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_REPLICATE))
    return levels


class Renderer:
    """Renders surfaces.

    Args:
        surfaces: the surfaces.
        atlas: their textures, in the same order.
        supersampling: samples along each side of a pixel; even.
    """

    def __init__(self, surfaces: list[Surface], atlas: Atlas, supersampling: int = 2) -> None:
        self._surfaces, self._atlas, self._fine = surfaces, atlas, supersampling

    def image(self, intrinsics: Matrix, pose: Matrix, size: tuple[int, int]) -> Values:
        """Render (H, W, 3) float32 BGR from 0 to 255; black if there is nothing."""
        fine = self._fine
        finer = np.diag([1.0 / fine, 1.0 / fine, 1.0])
        finer[:2, 2] = 0.5 / fine - 0.5  # the centre of the first sample
        fine_size = size[0] * fine, size[1] * fine
        return self._sampled(np.linalg.inv(finer) @ intrinsics, pose, fine_size)

    def _sampled(self, intrinsics: Matrix, pose: Matrix, size: tuple[int, int]) -> Values:
        atlas = self._atlas
        maps = plane_maps(self._surfaces, intrinsics, pose)
        maps[:, :2] *= atlas.sizes[:, :, None]  # from here on, positions are in texels
        seen, nearness, u, v, slots = _visible(
            maps, atlas.sizes, list(windows(self._surfaces, intrinsics, pose, size)), size
        )
        np.maximum(nearness, 1e-6, out=nearness)
        u /= nearness
        v /= nearness
        footprint = _footprint(maps[slots], seen[::2, ::2], nearness[::2, ::2], u[::2, ::2], v[::2, ::2])
        level = np.clip(np.log2(np.maximum(footprint, 1e-6)), 0, _LEVELS - 1.001)
        whole = level.astype(np.uint8)
        blend = _doubled((level - whole).astype(np.float32), size)
        whole = _doubled(whole, size)
        key = seen * np.uint8(_LEVELS) + whole
        scale = cv2.LUT(whole, _table(0.5 ** np.arange(_LEVELS)))
        offsets = atlas.offsets[slots].reshape(-1, 2)
        near = self._read(
            u * scale, v * scale, cv2.LUT(key, _table(offsets[:, 0])), cv2.LUT(key, _table(offsets[:, 1]))
        )
        scale *= 0.5
        key += np.uint8(1)
        far = self._read(u * scale, v * scale, cv2.LUT(key, _table(offsets[:, 0])), cv2.LUT(key, _table(offsets[:, 1])))
        mixed = cv2.blendLinear(near, far, 1 - blend, blend)
        mixed[nearness <= 1e-6] = 0
        coarse = size[1] // self._fine, size[0] // self._fine
        return np.asarray(cv2.resize(mixed.astype(np.float32), coarse, interpolation=cv2.INTER_AREA))

    def _read(self, x: Values, y: Values, left: Values, top: Values) -> Image:
        x += left
        y += top
        return np.asarray(cv2.remap(self._atlas.image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def depth_map(surfaces: list[Surface], intrinsics: Matrix, pose: Matrix, size: tuple[int, int]) -> Values:
    """Render (H, W) float32 depths along z in metres at pixel centres; infinity if there is nothing."""
    maps = plane_maps(surfaces, intrinsics, pose)
    found = list(windows(surfaces, intrinsics, pose, size))
    _, nearness, *_ = _visible(maps, np.ones((len(surfaces), 2)), found, size)
    with np.errstate(divide="ignore"):
        return np.asarray(1 / nearness)


def _visible(
    maps: Matrix, sizes: Matrix, found: list[tuple[int, slice, slice]], size: tuple[int, int]
) -> tuple[NDArray[np.uint8], Values, Values, Values, list[int]]:
    """Find the nearest surface of every pixel.

    Returns:
        (H, W) uint8 positions in the last list; (H, W) float32 inverse depth, and texture coordinates multiplied by it;
        list of surface indices.
    """
    seen = np.zeros(size, np.uint8)
    nearness, u, v = (np.zeros(size, np.float32) for _ in range(3))
    for slot, (i, rows, columns) in enumerate(found):
        x = np.arange(columns.start, columns.stop)
        y = np.arange(rows.start, rows.stop)[:, None]
        a, b, d = ((m[0] * x).astype(np.float32) + (m[1] * y + m[2]).astype(np.float32) for m in maps[i])
        here = nearness[rows, columns]
        mask = d > here
        mask &= a >= 0
        mask &= b >= 0
        mask &= a <= np.float32(sizes[i, 0]) * d
        mask &= b <= np.float32(sizes[i, 1]) * d
        mask &= d < np.float32(1 / NEAR)
        np.copyto(here, d, where=mask)
        np.copyto(u[rows, columns], a, where=mask)
        np.copyto(v[rows, columns], b, where=mask)
        np.copyto(seen[rows, columns], np.uint8(slot), where=mask)
    return seen, nearness, u, v, [i for i, *_ in found]


def _footprint(maps: Matrix, seen: NDArray[np.uint8], nearness: Values, u: Values, v: Values) -> Values:
    """Compute the (H, W) number of texels per pixel, in the direction with the larger number."""
    (ux, uy), (vx, vy), (dx, dy) = (
        (cv2.LUT(seen, _table(maps[:, row, 0])), cv2.LUT(seen, _table(maps[:, row, 1]))) for row in range(3)
    )
    across = (ux - u * dx) ** 2 + (vx - v * dx) ** 2
    down = (uy - u * dy) ** 2 + (vy - v * dy) ** 2
    return np.asarray(np.sqrt(np.maximum(across, down)) / nearness)


def _table(values: NDArray[np.floating]) -> Values:
    if len(values) > _TABLE:
        raise ValueError(f"{len(values)} parts of the atlas are visible at once, allowed are at most {_TABLE}")
    return np.pad(np.asarray(values, np.float32), (0, _TABLE - len(values)))


def _doubled(values: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    return np.asarray(cv2.resize(values, size[::-1], interpolation=cv2.INTER_NEAREST))
