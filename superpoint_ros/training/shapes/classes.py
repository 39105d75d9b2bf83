"""The classes of Synthetic Shapes. Each returns layers and the (N, 2) corners that are labelled."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from superpoint_ros.training.homographies import HomographyRange, random_homography
from superpoint_ros.training.shapes.scene import Layer, Palette, Points, Scene, filled, segment

Size = tuple[int, int]
Drawn = tuple[list[Layer], Points]
_NONE = np.zeros((0, 2))


def _ring(rng: np.random.Generator, count: int, centre: Points, radius: float) -> Points:
    """Corners of a random star-shaped polygon around a centre, in order."""
    gaps = rng.uniform(0.6, 1.4, count)
    angles = np.cumsum(gaps / gaps.sum()) * 2 * np.pi + rng.uniform(0, 2 * np.pi)
    radii = radius * rng.uniform(0.5, 1.0, count)
    return centre + np.column_stack((np.cos(angles), np.sin(angles))) * radii[:, None]


def _convex(polygon: Points) -> Points:
    """The convex hull's corners, in order."""
    return np.asarray(cv2.convexHull(polygon.astype(np.float32))[:, 0], np.float64)


def _sharp(polygon: Points, limit: float = 155.0) -> Points:
    """The corners of a polygon whose angle is under `limit` degrees: flatter ones cannot be seen."""
    before, after = np.roll(polygon, 1, axis=0) - polygon, np.roll(polygon, -1, axis=0) - polygon
    cosine = (before * after).sum(axis=1) / (np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1) + 1e-9)
    return polygon[np.degrees(np.arccos(np.clip(cosine, -1, 1))) < limit]


def lines(rng: np.random.Generator, size: Size, palette: Palette) -> Drawn:
    """Separate line segments; their ends are the corners."""
    layers: list[Layer] = []
    ends: list[tuple[Points, Points]] = []
    for _ in range(int(rng.integers(1, 8))):
        a, b = rng.uniform(0, size[::-1], (2, 2))
        if np.linalg.norm(a - b) < 15 or any(_near(a, b, c, d) for c, d in ends):
            continue
        ends.append((a, b))
        layers.append(Layer((segment(a, b, rng.uniform(1, 3.5)),), (palette.contrast(),)))
    return layers, np.array(ends).reshape(-1, 2)


def _near(a: Points, b: Points, c: Points, d: Points) -> bool:
    steps = np.linspace(0, 1, 24)[:, None]
    first, second = a + (b - a) * steps, c + (d - c) * steps
    return bool(np.linalg.norm(first[:, None] - second[None], axis=2).min() < 8)


def polygon(rng: np.random.Generator, size: Size, palette: Palette) -> Drawn:
    """One filled polygon of three to six corners."""
    centre = rng.uniform(0.2, 0.8, 2) * size[::-1]
    shape = _convex(_ring(rng, int(rng.integers(3, 7)), centre, rng.uniform(0.2, 0.5) * min(size)))
    return [filled(shape, palette.contrast())], _sharp(shape)


def polygons(rng: np.random.Generator, size: Size, palette: Palette) -> Drawn:
    """Several polygons that do not touch."""
    layers, corners = [], [_NONE]
    for centre, radius in _apart(rng, size, 0.07):
        shape = _convex(_ring(rng, int(rng.integers(3, 6)), centre, radius))
        layers.append(filled(shape, palette.contrast()))
        corners.append(_sharp(shape))
    return layers, np.concatenate(corners)


def ellipses(rng: np.random.Generator, size: Size, palette: Palette) -> Drawn:
    """Filled ellipses that do not touch: edges without corners."""
    layers = []
    turns = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    for centre, radius in _apart(rng, size, 0.05):
        axes = np.array([radius, radius * rng.uniform(0.3, 1.0)])
        circle = np.column_stack((np.cos(turns), np.sin(turns))) * axes
        angle = rng.uniform(0, np.pi)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        layers.append(Layer((centre + circle @ turn.T,), (palette.contrast(),)))
    return layers, _NONE


def _apart(rng: np.random.Generator, size: Size, least: float) -> list[tuple[Points, float]]:
    """Centres and radii of circles that do not touch."""
    taken: list[tuple[Points, float]] = []
    for _ in range(int(rng.integers(2, 12))):
        radius, centre = float(rng.uniform(least, 0.25) * min(size)), rng.uniform(0, 1, 2) * size[::-1]
        if all(np.linalg.norm(centre - other) > radius + reach + 3 for other, reach in taken):
            taken.append((centre, radius))
    return taken


def star(rng: np.random.Generator, size: Size, palette: Palette) -> Drawn:
    """Lines from a common centre; the centre and the tips are corners."""
    centre = rng.uniform(0.25, 0.75, 2) * size[::-1]
    tips = _ring(rng, int(rng.integers(3, 7)), centre, rng.uniform(0.25, 0.5) * min(size))
    thickness, grey = rng.uniform(1, 3.5), palette.contrast()
    layer = Layer(tuple(segment(centre, tip, thickness) for tip in tips), (grey,) * len(tips))
    return [layer], np.vstack((centre, tips))


def _projected_grid(rng: np.random.Generator, size: Size, rows: int, columns: int, jitter: float) -> Points:
    """Corners of a rows x columns grid under a random affinity and perspective: (rows + 1, columns + 1, 2)."""
    u, v = np.meshgrid(np.linspace(-1, 1, columns + 1), np.linspace(-1, 1, rows + 1))
    if jitter:
        u[:, 1:-1] += rng.uniform(-jitter, jitter, columns - 1) / columns
    angle = rng.uniform(-np.pi, np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn = turn @ np.array([[1, rng.uniform(-0.4, 0.4)], [0, rng.uniform(0.6, 1.0)]])
    plane = np.stack((u, v), axis=-1) @ turn.T * rng.uniform(0.35, 0.75) * min(size)
    tilt = rng.uniform(-0.35, 0.35, 2) / min(size)
    plane = plane / (1 + plane @ tilt)[..., None]
    return np.asarray(plane + rng.uniform(0.35, 0.65, 2) * size[::-1])


def _cell(grid: Points, i: int, j: int) -> Points:
    return np.array([grid[i, j], grid[i, j + 1], grid[i + 1, j + 1], grid[i + 1, j]])


def checkerboard(rng: np.random.Generator, size: Size, palette: Palette) -> Drawn:
    """A board of squares in perspective; every crossing is a corner."""
    rows, columns = (int(n) for n in rng.integers(3, 8, 2))
    grid = _projected_grid(rng, size, rows, columns, 0.0)
    dark, light = sorted((palette.contrast(), palette.contrast()))
    if light - dark < 0.12:
        dark, light = max(dark - 0.16, 0.0), min(light + 0.16, 1.0)
    places = [(i, j) for i in range(rows) for j in range(columns)]
    greys = [float(np.clip((light if (i + j) % 2 else dark) + rng.uniform(-0.04, 0.04), 0, 1)) for i, j in places]
    return [Layer(tuple(_cell(grid, i, j) for i, j in places), tuple(greys))], grid.reshape(-1, 2)


def stripes(rng: np.random.Generator, size: Size, palette: Palette) -> Drawn:
    """Parallel bars of changing grey; the corners are the bars' ends."""
    columns = int(rng.integers(3, 9))
    grid = _projected_grid(rng, size, 1, columns, 0.5)
    greys = [palette.contrast()]
    for _ in range(columns - 1):
        change = rng.uniform(0.14, 0.43) * (1 if rng.random() < 0.5 else -1)
        grey = greys[-1] + change if 0 <= greys[-1] + change <= 1 else greys[-1] - change
        greys.append(palette.apart(grey))
    return [Layer(tuple(_cell(grid, 0, j) for j in range(columns)), tuple(greys))], grid.reshape(-1, 2)


def cube(rng: np.random.Generator, size: Size, palette: Palette) -> Drawn:
    """A box of which three faces are seen; its seven visible corners are labelled."""
    angles = rng.uniform(0.35, 1.2, 2)
    edges = np.array(
        [
            [np.cos(angles[0]), np.sin(angles[0]) * 0.6],
            [-np.cos(angles[1]), np.sin(angles[1]) * 0.6],
            [rng.uniform(-0.15, 0.15), -1.0],
        ]
    )
    edges = edges * rng.uniform(0.2, 0.45, (3, 1)) * min(size)
    turn = rng.uniform(-np.pi, np.pi)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    right, left, up = edges @ rotation.T
    near = rng.uniform(0.35, 0.65, 2) * size[::-1]
    base, step = palette.contrast(0.16), rng.uniform(0.1, 0.23)
    levels = base + np.arange(3) * (step if base < 0.5 else -step)
    faces = tuple(np.array([near, near + a, near + a + b, near + b]) for a, b in
                  ((right, left), (right, up), (left, up)))  # fmt: skip
    layer = Layer(faces, tuple(palette.apart(float(grey)) for grey in rng.permutation(levels)))
    return [layer], near + np.array([0 * up, right, left, up, right + left, right + up, left + up])


def gaussian_noise(rng: np.random.Generator, size: Size, palette: Palette) -> Drawn:
    """Noise and nothing else: no corner anywhere."""
    return [], _NONE


CLASSES: dict[str, Callable[[np.random.Generator, Size, Palette], Drawn]] = {
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


def draw(rng: np.random.Generator, size: Size, name: str | None = None, ranges: HomographyRange | None = None) -> Scene:
    """A scene of (height, width) `size` of one class (random where not named), through a homography where given."""
    name = name or list(CLASSES)[int(rng.integers(len(CLASSES)))]
    rows = int(rng.integers(2, 8))
    level, contrast = rng.uniform(0.12, 0.88), rng.uniform(0, 0.27)
    background = np.clip(level + (rng.uniform(0, 1, (rows, rows + 1)) - 0.5) * contrast, 0, 1)
    layers, corners = CLASSES[name](rng, size, Palette(rng, float(background.mean())))
    noise = float(rng.uniform(0.02, 0.24)) if name == "gaussian_noise" else 0.0
    scene = Scene(background, tuple(layers), corners, noise)
    if ranges is None:
        return scene
    return scene.seen_through(np.asarray(np.linalg.inv(random_homography(rng, size, size, ranges))))
