"""Synthetic Shapes: rendered pictures whose corners are known exactly (paper, section 4).

A class function draws on a canvas and returns its corners, (N, 2) float (x, y) in pixels of the picture.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from superpoint_ros.geometry import inside

Image = NDArray[np.uint8]
Points = NDArray[np.float64]
_SHIFT = 6  # OpenCV's fixed-point coordinates: 1/64 pixel
_ZOOM = 4


class Canvas:
    """A picture that is drawn four times larger and then reduced.

    OpenCV widens what it fills by half a pixel and more: that would shift every edge against its label.

    Args:
        picture: (H, W) uint8 background.
    """

    def __init__(self, picture: Image) -> None:
        self.height, self.width = picture.shape
        self._pixels = np.asarray(cv2.resize(picture, None, fx=_ZOOM, fy=_ZOOM), np.uint8)

    @property
    def size(self) -> int:
        """The shorter side."""
        return min(self.height, self.width)

    def picture(self) -> Image:
        """The (H, W) picture as it is now."""
        size = (self.width, self.height)
        return np.asarray(cv2.resize(self._pixels, size, interpolation=cv2.INTER_AREA), np.uint8)

    def contrast(self, rng: np.random.Generator, least: int = 25) -> int:
        """A random grey level that differs from the picture's mean."""
        mean = float(self._pixels[::_ZOOM, ::_ZOOM].mean())
        while abs((grey := float(rng.uniform(0, 255))) - mean) < least:
            pass
        return int(grey)

    def fill(self, polygon: Points, grey: int) -> None:
        """Fill a polygon of (N, 2) corners."""
        cv2.fillPoly(self._pixels, [_fixed(polygon)], grey, cv2.LINE_8, _SHIFT)

    def line(self, a: Points, b: Points, grey: int, thickness: float) -> None:
        """A line of a thickness in pixels between two points."""
        (x0, y0), (x1, y1) = _fixed(np.array([a, b])).tolist()
        cv2.line(self._pixels, (x0, y0), (x1, y1), grey, round(thickness * _ZOOM), cv2.LINE_8, _SHIFT)

    def ellipse(self, centre: Points, half_axes: Points, degrees: float, grey: int) -> None:
        """Fill an ellipse."""
        (x, y), axes = _fixed(centre).tolist(), np.round(half_axes * _ZOOM * (1 << _SHIFT)).astype(int).tolist()
        cv2.ellipse(self._pixels, (x, y), axes, degrees, 0, 360, grey, -1, cv2.LINE_8, _SHIFT)

    def replace(self, picture: Image) -> None:
        """Put another picture of the same size in its place."""
        self._pixels = np.repeat(np.repeat(picture, _ZOOM, axis=0), _ZOOM, axis=1)


def _fixed(points: Points) -> NDArray[np.int32]:
    """Pixels of the picture -> fixed-point pixels of the enlarged one; either counts from pixel centres."""
    return np.round(((points + 0.5) * _ZOOM - 0.5) * (1 << _SHIFT)).astype(np.int32)


def background(rng: np.random.Generator, size: tuple[int, int]) -> Image:
    """A smooth random field of blobs of (height, width) `size`, without corners."""
    height, width = size
    grid = int(rng.integers(2, 8))
    field = rng.uniform(0, 1, (grid, grid + 1)).astype(np.float32)
    field = cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC)
    level, contrast = rng.uniform(30, 225), rng.uniform(0, 70)
    return np.clip(level + (field - 0.5) * contrast, 0, 255).astype(np.uint8)


def _ring(rng: np.random.Generator, count: int, centre: Points, radius: float) -> Points:
    """Corners of a random star-shaped polygon around a centre, in order, none nearly flat."""
    gaps = rng.uniform(0.6, 1.4, count)
    angles = np.cumsum(gaps / gaps.sum()) * 2 * np.pi + rng.uniform(0, 2 * np.pi)
    radii = radius * rng.uniform(0.5, 1.0, count)
    return centre + np.column_stack((np.cos(angles), np.sin(angles))) * radii[:, None]


def _sharp(polygon: Points, limit: float = 155.0) -> Points:
    """The corners of a polygon whose angle is under `limit` degrees: flatter ones cannot be seen."""
    before, after = np.roll(polygon, 1, axis=0) - polygon, np.roll(polygon, -1, axis=0) - polygon
    cosine = (before * after).sum(axis=1) / (np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1) + 1e-9)
    return polygon[np.degrees(np.arccos(np.clip(cosine, -1, 1))) < limit]


def lines(rng: np.random.Generator, canvas: Canvas) -> Points:
    """Separate line segments; their ends are the corners."""
    height, width = canvas.height, canvas.width
    corners: list[Points] = []
    segments: list[tuple[Points, Points]] = []
    for _ in range(int(rng.integers(1, 8))):
        a, b = rng.uniform(0, [width, height], (2, 2))
        if np.linalg.norm(a - b) < 15 or any(_near(a, b, c, d) for c, d in segments):
            continue
        segments.append((a, b))
        canvas.line(a, b, canvas.contrast(rng), rng.uniform(1, 3.5))
        corners += [a, b]
    return np.array(corners).reshape(-1, 2)


def _near(a: Points, b: Points, c: Points, d: Points) -> bool:
    steps = np.linspace(0, 1, 24)[:, None]
    first, second = a + (b - a) * steps, c + (d - c) * steps
    return bool(np.linalg.norm(first[:, None] - second[None], axis=2).min() < 8)


def polygon(rng: np.random.Generator, canvas: Canvas) -> Points:
    """One filled polygon of three to six corners."""
    height, width, size = canvas.height, canvas.width, canvas.size
    centre = rng.uniform(0.2, 0.8, 2) * [width, height]
    shape = _ring(rng, int(rng.integers(3, 7)), centre, rng.uniform(0.2, 0.5) * size)
    canvas.fill(shape, canvas.contrast(rng))
    return _sharp(shape)


def polygons(rng: np.random.Generator, canvas: Canvas) -> Points:
    """Several polygons that do not touch."""
    height, width, size = canvas.height, canvas.width, canvas.size
    taken: list[tuple[Points, float]] = []
    corners = []
    for _ in range(int(rng.integers(2, 12))):
        radius = rng.uniform(0.07, 0.25) * size
        centre = rng.uniform(0, 1, 2) * [width, height]
        if any(np.linalg.norm(centre - other) < radius + reach + 3 for other, reach in taken):
            continue
        taken.append((centre, radius))
        shape = _ring(rng, int(rng.integers(3, 6)), centre, radius)
        canvas.fill(shape, canvas.contrast(rng))
        corners.append(_sharp(shape))
    return np.concatenate(corners) if corners else np.zeros((0, 2))


def ellipses(rng: np.random.Generator, canvas: Canvas) -> Points:
    """Filled ellipses that do not touch: edges without corners."""
    height, width, size = canvas.height, canvas.width, canvas.size
    taken: list[tuple[Points, float]] = []
    for _ in range(int(rng.integers(2, 12))):
        half_axes = rng.uniform(0.05, 0.25, 2) * size
        centre, radius = rng.uniform(0, 1, 2) * [width, height], half_axes.max()
        if any(np.linalg.norm(centre - other) < radius + reach + 3 for other, reach in taken):
            continue
        taken.append((centre, radius))
        canvas.ellipse(centre, half_axes, float(rng.uniform(0, 180)), canvas.contrast(rng))
    return np.zeros((0, 2))


def star(rng: np.random.Generator, canvas: Canvas) -> Points:
    """Lines from a common centre; the centre and the tips are corners."""
    height, width, size = canvas.height, canvas.width, canvas.size
    centre = rng.uniform(0.25, 0.75, 2) * [width, height]
    tips = _ring(rng, int(rng.integers(3, 7)), centre, rng.uniform(0.25, 0.5) * size)
    thickness = rng.uniform(1, 3.5)
    grey = canvas.contrast(rng)
    for tip in tips:
        canvas.line(centre, tip, grey, thickness)
    return np.vstack((centre, tips))


def _projected_grid(rng: np.random.Generator, canvas: Canvas, rows: int, columns: int, jitter: float) -> Points:
    """Corners of a rows x columns grid under a random affinity and perspective: (rows + 1, columns + 1, 2)."""
    height, width = canvas.height, canvas.width
    u, v = np.meshgrid(np.linspace(-1, 1, columns + 1), np.linspace(-1, 1, rows + 1))
    if jitter:
        u[:, 1:-1] += rng.uniform(-jitter, jitter, columns - 1) / columns
    angle = rng.uniform(-np.pi, np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn = turn @ np.array([[1, rng.uniform(-0.4, 0.4)], [0, rng.uniform(0.6, 1.0)]])
    plane = np.stack((u, v), axis=-1) @ turn.T * rng.uniform(0.35, 0.75) * canvas.size
    tilt = rng.uniform(-0.35, 0.35, 2) / canvas.size
    plane = plane / (1 + plane @ tilt)[..., None]
    return plane + rng.uniform(0.35, 0.65, 2) * [width, height]


def checkerboard(rng: np.random.Generator, canvas: Canvas) -> Points:
    """A board of squares in perspective; every crossing is a corner."""
    rows, columns = rng.integers(3, 8, 2)
    grid = _projected_grid(rng, canvas, int(rows), int(columns), 0.0)
    dark, light = sorted((canvas.contrast(rng), canvas.contrast(rng)))
    if light - dark < 30:
        dark, light = max(dark - 40, 0), min(light + 40, 255)
    for i in range(rows):
        for j in range(columns):
            base = light if (i + j) % 2 else dark
            cell = np.array([grid[i, j], grid[i, j + 1], grid[i + 1, j + 1], grid[i + 1, j]])
            canvas.fill(cell, int(np.clip(base + rng.uniform(-10, 10), 0, 255)))
    return grid.reshape(-1, 2)


def stripes(rng: np.random.Generator, canvas: Canvas) -> Points:
    """Parallel bars of changing grey; the corners are the bars' ends."""
    columns = int(rng.integers(3, 9))
    grid = _projected_grid(rng, canvas, 1, columns, 0.5)
    grey = canvas.contrast(rng)
    for j in range(columns):
        canvas.fill(np.array([grid[0, j], grid[0, j + 1], grid[1, j + 1], grid[1, j]]), grey)
        change = int(rng.integers(35, 110)) * (1 if rng.random() < 0.5 else -1)
        grey = grey + change if 0 <= grey + change <= 255 else grey - change
        grey = int(np.clip(grey, 0, 255))
    return grid.reshape(-1, 2)


def cube(rng: np.random.Generator, canvas: Canvas) -> Points:
    """A box of which three faces are seen; its seven visible corners are labelled."""
    height, width, size = canvas.height, canvas.width, canvas.size
    angles = rng.uniform(0.35, 1.2, 2)
    edges = np.array(
        [
            [np.cos(angles[0]), np.sin(angles[0]) * 0.6],
            [-np.cos(angles[1]), np.sin(angles[1]) * 0.6],
            [rng.uniform(-0.15, 0.15), -1.0],
        ]
    )
    edges = edges * rng.uniform(0.2, 0.45, (3, 1)) * size
    turn = rng.uniform(-np.pi, np.pi)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    right, left, up = edges @ rotation.T
    near = rng.uniform(0.35, 0.65, 2) * [width, height]
    greys = _three_greys(rng, canvas)
    for (a, b), grey in zip(((right, left), (right, up), (left, up)), greys, strict=True):
        canvas.fill(np.array([near, near + a, near + a + b, near + b]), grey)
    return near + np.array([0 * up, right, left, up, right + left, right + up, left + up])


def _three_greys(rng: np.random.Generator, canvas: Canvas) -> list[int]:
    base, step = canvas.contrast(rng, 40), int(rng.integers(25, 60))
    greys = [base, base + step, base + 2 * step] if base < 128 else [base, base - step, base - 2 * step]
    return [int(np.clip(grey, 0, 255)) for grey in rng.permutation(greys)]


def gaussian_noise(rng: np.random.Generator, canvas: Canvas) -> Points:
    """Noise and nothing else: no corner anywhere."""
    noise = rng.normal(rng.uniform(60, 195), rng.uniform(5, 60), (canvas.height, canvas.width))
    canvas.replace(np.clip(noise, 0, 255).astype(np.uint8))
    return np.zeros((0, 2))


CLASSES: dict[str, Callable[[np.random.Generator, Canvas], Points]] = {
    "lines": lines,
    "polygon": polygon,
    "polygons": polygons,
    "ellipses": ellipses,
    "star": star,
    "checkerboard": checkerboard,
    "stripes": stripes,
    "cube": cube,
    "gaussian_noise": gaussian_noise,
}


def draw(rng: np.random.Generator, size: tuple[int, int], name: str | None = None) -> tuple[Image, Points]:
    """A picture of (height, width) `size` of one class (random where not named) and its corners inside the picture."""
    name = name or list(CLASSES)[int(rng.integers(len(CLASSES)))]
    canvas = Canvas(background(rng, size))
    corners = CLASSES[name](rng, canvas)
    return canvas.picture(), corners[inside(corners, size)]


def preview(seed: int = 0, columns: int = 6, zoom: int = 2) -> NDArray[np.uint8]:
    """A picture of every class in a row of its own, BGR, with the labels as green circles."""
    rng = np.random.default_rng(seed)
    rows = []
    for name in CLASSES:
        tiles = []
        for _ in range(columns):
            image, corners = draw(rng, (120, 160), name)
            tile = cv2.cvtColor(cv2.resize(image, None, fx=zoom, fy=zoom), cv2.COLOR_GRAY2BGR)
            for x, y in np.round((corners + 0.5) * zoom - 0.5).astype(int).tolist():
                cv2.circle(tile, (x, y), 4, (0, 255, 0), 1, cv2.LINE_AA)
            tiles.append(tile)
        rows.append(np.hstack(tiles))
    return np.asarray(np.vstack(rows), np.uint8)
