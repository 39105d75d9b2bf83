"""Synthetic Shapes: rendered pictures whose corners are known exactly (paper, section 4).

A class function draws on a (H, W) uint8 picture in place and returns its corners, (N, 2) float (x, y) in pixels.
Drawing is done at sub-pixel precision, so labels carry no rounding.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Points = NDArray[np.float64]
_SHIFT = 6  # OpenCV's fixed-point coordinates: 1/64 pixel


def background(rng: np.random.Generator, size: tuple[int, int]) -> Image:
    """A smooth random field of blobs of (height, width) `size`, without corners."""
    height, width = size
    grid = int(rng.integers(2, 8))
    field = rng.uniform(0, 1, (grid, grid + 1)).astype(np.float32)
    field = cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC)
    level, contrast = rng.uniform(30, 225), rng.uniform(0, 70)
    return np.clip(level + (field - 0.5) * contrast, 0, 255).astype(np.uint8)


def _contrast(rng: np.random.Generator, image: Image, least: int = 25) -> int:
    """A grey level that differs from the picture's mean."""
    mean = float(image.mean())
    while abs((grey := float(rng.uniform(0, 255))) - mean) < least:
        pass
    return int(grey)


def _fixed(points: Points) -> NDArray[np.int32]:
    return np.round(points * (1 << _SHIFT)).astype(np.int32)


def _fill(image: Image, points: Points, grey: int) -> None:
    cv2.fillPoly(image, [_fixed(points)], grey, cv2.LINE_AA, _SHIFT)


def _line(image: Image, a: Points, b: Points, grey: int, thickness: int) -> None:
    start, end = _fixed(a), _fixed(b)
    cv2.line(image, (int(start[0]), int(start[1])), (int(end[0]), int(end[1])), grey, thickness, cv2.LINE_AA, _SHIFT)


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


def lines(rng: np.random.Generator, image: Image) -> Points:
    """Separate line segments; their ends are the corners."""
    height, width = image.shape
    corners: list[Points] = []
    segments: list[tuple[Points, Points]] = []
    for _ in range(int(rng.integers(1, 8))):
        a, b = rng.uniform(0, [width, height], (2, 2))
        if np.linalg.norm(a - b) < 15 or any(_near(a, b, c, d) for c, d in segments):
            continue
        segments.append((a, b))
        _line(image, a, b, _contrast(rng, image), int(rng.integers(1, 4)))
        corners += [a, b]
    return np.array(corners).reshape(-1, 2)


def _near(a: Points, b: Points, c: Points, d: Points) -> bool:
    steps = np.linspace(0, 1, 24)[:, None]
    first, second = a + (b - a) * steps, c + (d - c) * steps
    return bool(np.linalg.norm(first[:, None] - second[None], axis=2).min() < 8)


def polygon(rng: np.random.Generator, image: Image) -> Points:
    """One filled polygon of three to six corners."""
    height, width = image.shape
    size = min(height, width)
    centre = rng.uniform(0.2, 0.8, 2) * [width, height]
    shape = _ring(rng, int(rng.integers(3, 7)), centre, rng.uniform(0.2, 0.5) * size)
    _fill(image, shape, _contrast(rng, image))
    return _sharp(shape)


def polygons(rng: np.random.Generator, image: Image) -> Points:
    """Several polygons that do not touch."""
    height, width = image.shape
    size = min(height, width)
    taken: list[tuple[Points, float]] = []
    corners = []
    for _ in range(int(rng.integers(2, 12))):
        radius = rng.uniform(0.07, 0.25) * size
        centre = rng.uniform(0, 1, 2) * [width, height]
        if any(np.linalg.norm(centre - other) < radius + reach + 3 for other, reach in taken):
            continue
        taken.append((centre, radius))
        shape = _ring(rng, int(rng.integers(3, 6)), centre, radius)
        _fill(image, shape, _contrast(rng, image))
        corners.append(_sharp(shape))
    return np.concatenate(corners) if corners else np.zeros((0, 2))


def ellipses(rng: np.random.Generator, image: Image) -> Points:
    """Filled ellipses that do not touch: edges without corners."""
    height, width = image.shape
    size = min(height, width)
    taken: list[tuple[Points, float]] = []
    for _ in range(int(rng.integers(2, 12))):
        half_axes = rng.uniform(0.05, 0.25, 2) * size
        centre, radius = rng.uniform(0, 1, 2) * [width, height], half_axes.max()
        if any(np.linalg.norm(centre - other) < radius + reach + 3 for other, reach in taken):
            continue
        taken.append((centre, radius))
        (x, y), axes = _fixed(centre).tolist(), _fixed(half_axes).tolist()
        angle, grey = float(rng.uniform(0, 180)), _contrast(rng, image)
        cv2.ellipse(image, (x, y), axes, angle, 0, 360, grey, -1, cv2.LINE_AA, _SHIFT)
    return np.zeros((0, 2))


def star(rng: np.random.Generator, image: Image) -> Points:
    """Lines from a common centre; the centre and the tips are corners."""
    height, width = image.shape
    size = min(height, width)
    centre = rng.uniform(0.25, 0.75, 2) * [width, height]
    tips = _ring(rng, int(rng.integers(3, 7)), centre, rng.uniform(0.25, 0.5) * size)
    thickness = int(rng.integers(1, 4))
    grey = _contrast(rng, image)
    for tip in tips:
        _line(image, centre, tip, grey, thickness)
    return np.vstack((centre, tips))


def _projected_grid(rng: np.random.Generator, image: Image, rows: int, columns: int, jitter: float) -> Points:
    """Corners of a rows x columns grid under a random affinity and perspective: (rows + 1, columns + 1, 2)."""
    height, width = image.shape
    u, v = np.meshgrid(np.linspace(-1, 1, columns + 1), np.linspace(-1, 1, rows + 1))
    if jitter:
        u[:, 1:-1] += rng.uniform(-jitter, jitter, columns - 1) / columns
    angle = rng.uniform(-np.pi, np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn = turn @ np.array([[1, rng.uniform(-0.4, 0.4)], [0, rng.uniform(0.6, 1.0)]])
    plane = np.stack((u, v), axis=-1) @ turn.T * rng.uniform(0.35, 0.75) * min(height, width)
    tilt = rng.uniform(-0.35, 0.35, 2) / min(height, width)
    plane = plane / (1 + plane @ tilt)[..., None]
    return plane + rng.uniform(0.35, 0.65, 2) * [width, height]


def checkerboard(rng: np.random.Generator, image: Image) -> Points:
    """A board of squares in perspective; every crossing is a corner."""
    rows, columns = rng.integers(3, 8, 2)
    grid = _projected_grid(rng, image, int(rows), int(columns), 0.0)
    dark, light = sorted((_contrast(rng, image), _contrast(rng, image)))
    if light - dark < 30:
        dark, light = max(dark - 40, 0), min(light + 40, 255)
    for i in range(rows):
        for j in range(columns):
            base = light if (i + j) % 2 else dark
            cell = np.array([grid[i, j], grid[i, j + 1], grid[i + 1, j + 1], grid[i + 1, j]])
            _fill(image, cell, int(np.clip(base + rng.uniform(-10, 10), 0, 255)))
    return grid.reshape(-1, 2)


def stripes(rng: np.random.Generator, image: Image) -> Points:
    """Parallel bars of changing grey; the corners are the bars' ends."""
    columns = int(rng.integers(3, 9))
    grid = _projected_grid(rng, image, 1, columns, 0.5)
    grey = _contrast(rng, image)
    for j in range(columns):
        _fill(image, np.array([grid[0, j], grid[0, j + 1], grid[1, j + 1], grid[1, j]]), grey)
        change = int(rng.integers(35, 110)) * (1 if rng.random() < 0.5 else -1)
        grey = grey + change if 0 <= grey + change <= 255 else grey - change
        grey = int(np.clip(grey, 0, 255))
    return grid.reshape(-1, 2)


def cube(rng: np.random.Generator, image: Image) -> Points:
    """A box of which three faces are seen; its seven visible corners are labelled."""
    height, width = image.shape
    size = min(height, width)
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
    greys = _three_greys(rng, image)
    for (a, b), grey in zip(((right, left), (right, up), (left, up)), greys, strict=True):
        _fill(image, np.array([near, near + a, near + a + b, near + b]), grey)
    return near + np.array([0 * up, right, left, up, right + left, right + up, left + up])


def _three_greys(rng: np.random.Generator, image: Image) -> list[int]:
    base, step = _contrast(rng, image, 40), int(rng.integers(25, 60))
    greys = [base, base + step, base + 2 * step] if base < 128 else [base, base - step, base - 2 * step]
    return [int(np.clip(grey, 0, 255)) for grey in rng.permutation(greys)]


def gaussian_noise(rng: np.random.Generator, image: Image) -> Points:
    """Noise and nothing else: no corner anywhere."""
    noise = rng.normal(rng.uniform(60, 195), rng.uniform(5, 60), image.shape)
    image[:] = np.clip(noise, 0, 255).astype(np.uint8)
    return np.zeros((0, 2))


CLASSES: dict[str, Callable[[np.random.Generator, Image], Points]] = {
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
    image = background(rng, size)
    corners = CLASSES[name](rng, image)
    inside = ((corners >= 0) & (corners <= [size[1] - 1, size[0] - 1])).all(axis=1)
    return image, corners[inside]


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
