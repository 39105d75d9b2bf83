"""The room's surfaces and their projections: rays, depths and rectangles in the world and in images.

The world's frame has z up (REP 103), the camera's looks along z with x right and y down. A pose is the (4, 4) matrix
from the camera's frame to the world's. Pixel (0, 0) is the centre of the top-left pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Points = NDArray[np.float64]

NEAR = 0.05
"""Near plane, in metres from the camera."""


@dataclass(frozen=True)
class Surface:
    """A rectangle that is visible from one side.

    Attributes:
        origin: (3,) the top-left corner of its texture, in metres.
        along: (3,) from there to the texture's top-right corner.
        down: (3,) from there to the texture's bottom-left corner, perpendicular to `along`. The rectangle is visible
            from the side where `along` points right if `down` points down.
        texture: name of its texture.
    """

    origin: Points
    along: Points
    down: Points
    texture: str

    @property
    def size(self) -> tuple[float, float]:
        """Return height and width in metres."""
        return float(np.linalg.norm(self.down)), float(np.linalg.norm(self.along))

    def points(self, places: Points) -> Points:
        """Convert (N, 2) positions in units of `along` and `down` to (N, 3) points of the world."""
        return np.asarray(self.origin + places[:, :1] * self.along + places[:, 1:] * self.down)


def surface(origin: object, along: object, down: object, texture: str) -> Surface:
    """Create a surface from three sequences of three numbers."""
    first, second, third = (np.asarray(value, np.float64) for value in (origin, along, down))
    return Surface(first, second, third, texture)


def box(low: tuple[float, ...], high: tuple[float, ...], sides: str, top: str = "", bottom: str = "") -> list[Surface]:
    """Create the outside of an upright cuboid between two corners; top and bottom only if they have a texture."""
    (x0, y0, z0), (x1, y1, z1) = low, high
    dx, dy, dz = x1 - x0, y1 - y0, z1 - z0
    found = [
        surface((x0, y0, z1), (dx, 0, 0), (0, 0, -dz), sides),
        surface((x1, y0, z1), (0, dy, 0), (0, 0, -dz), sides),
        surface((x1, y1, z1), (-dx, 0, 0), (0, 0, -dz), sides),
        surface((x0, y1, z1), (0, -dy, 0), (0, 0, -dz), sides),
    ]
    if top:
        found.append(surface((x0, y1, z1), (dx, 0, 0), (0, -dy, 0), top))
    if bottom:
        found.append(surface((x0, y0, z0), (dx, 0, 0), (0, dy, 0), bottom))
    return found


def furnished_room() -> list[Surface]:
    """Create a room of 8 m x 6 m x 2.8 m with a pillar, a table, a screen and boxes around a free centre."""
    x, y, z = 8.0, 6.0, 2.8
    walls = [
        surface((x, y, z), (0, -y, 0), (0, 0, -z), "east"),
        surface((0, 0, z), (0, y, 0), (0, 0, -z), "west"),
        surface((0, y, z), (x, 0, 0), (0, 0, -z), "north"),
        surface((x, 0, z), (-x, 0, 0), (0, 0, -z), "south"),
        surface((0, y, 0), (x, 0, 0), (0, -y, 0), "floor"),
        surface((0, 0, z), (x, 0, 0), (0, y, 0), "ceiling"),
    ]
    return [
        *walls,
        *box((1.9, 2.5, 0.0), (2.35, 2.95, z), "pillar"),
        # The table: a slab on two panels.
        *box((6.2, 2.2, 0.72), (7.2, 4.0, 0.78), "edge", "table", "edge"),
        *box((6.3, 2.3, 0.0), (7.1, 2.36, 0.72), "edge"),
        *box((6.3, 3.84, 0.0), (7.1, 3.9, 0.72), "edge"),
        *box((6.5, 2.9, 0.78), (6.85, 3.3, 1.15), "parcel", "parcel"),
        *box((5.6, 0.4, 0.0), (6.4, 1.2, 0.9), "crate", "crate"),
        *box((5.75, 0.55, 0.9), (6.2, 0.95, 1.4), "parcel", "parcel"),
        *box((0.3, 4.7, 0.0), (1.4, 5.5, 1.1), "crate", "crate"),
        *box((3.6, 5.0, 0.0), (5.0, 5.1, 1.9), "screen", "edge"),
        *box((2.6, 0.3, 0.0), (3.3, 0.9, 0.6), "crate", "crate"),
    ]


def plane_maps(surfaces: list[Surface], intrinsics: Matrix, pose: Matrix) -> Matrix:
    """Compute (N, 3, 3) homographies from pixels (x, y, 1) to positions on each surface.

    They map to (a d, b d, d): the position origin + a along + b down, and d, its inverse depth in 1/m. All are zero for
    a surface seen from behind.
    """
    rays = pose[:3, :3] @ np.linalg.inv(intrinsics)
    maps = np.zeros((len(surfaces), 3, 3))
    for i, rectangle in enumerate(surfaces):
        normal = np.cross(rectangle.down, rectangle.along)  # towards the visible side
        offset = pose[:3, 3] - rectangle.origin
        if normal @ offset <= 1e-9:
            continue
        inverse_depth = -(normal @ rays) / (normal @ offset)
        for row, edge in enumerate((rectangle.along, rectangle.down)):
            dual = edge / (edge @ edge)
            maps[i, row] = (dual @ offset) * inverse_depth + dual @ rays
        maps[i, 2] = inverse_depth
    return maps


def cast(maps: Matrix, points: Points) -> tuple[Points, NDArray[np.intp]]:
    """Cast rays through (M, 2) pixels: (M,) inverse depths in 1/m and (M,) surface indices; 0 and -1 for no hit."""
    a, b, d = np.moveaxis(maps @ np.column_stack((points, np.ones(len(points)))).T, 1, 0)
    inside = (a >= 0) & (a <= d) & (b >= 0) & (b <= d) & (d > 0) & (d < 1 / NEAR)
    nearness = np.where(inside, d, 0.0)
    nearest = nearness.argmax(axis=0)
    found = nearness[nearest, np.arange(len(points))]
    return found, np.where(found > 0, nearest, -1)


def windows(
    surfaces: list[Surface], intrinsics: Matrix, pose: Matrix, size: tuple[int, int]
) -> Iterator[tuple[int, slice, slice]]:
    """Yield index, rows and columns of each surface that may be visible in an image of (height, width) pixels."""
    to_camera = np.linalg.inv(pose)
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64)
    for i, rectangle in enumerate(surfaces):
        if np.cross(rectangle.down, rectangle.along) @ (pose[:3, 3] - rectangle.origin) <= 1e-9:
            continue
        outline = _clipped(rectangle.points(corners) @ to_camera[:3, :3].T + to_camera[:3, 3])
        if not len(outline):
            continue
        pixels = outline @ intrinsics.T
        pixels = pixels[:, :2] / pixels[:, 2:]
        left, top = np.clip(np.floor(pixels.min(axis=0)), 0, [size[1], size[0]]).astype(int)
        right, bottom = np.clip(np.ceil(pixels.max(axis=0)) + 1, 0, [size[1], size[0]]).astype(int)
        if left < right and top < bottom:
            yield i, slice(top, bottom), slice(left, right)


def _clipped(polygon: Points) -> Points:
    """Clip a polygon in the camera's frame at the near plane."""
    found = []
    for start, end in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if start[2] >= NEAR:
            found.append(start)
        if (start[2] >= NEAR) != (end[2] >= NEAR):
            found.append(start + (NEAR - start[2]) / (end[2] - start[2]) * (end - start))
    return np.array(found).reshape(-1, 3)
