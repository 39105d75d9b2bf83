"""The classes of Synthetic Shapes: each function draws layers and returns them with the (N, 2) labelled corners."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from superpoint_ros.training.homographies import HomographyRange, random_homography
from superpoint_ros.training.shapes.scene import Layer, Palette, Points, Scene, fill_polygon, segment

Size = tuple[int, int]
Drawing = tuple[list[Layer], Points]
_NO_CORNERS = np.zeros((0, 2))


def _star_polygon(rng: np.random.Generator, count: int, centre: Points, radius: float) -> Points:
    """Draw the corners of a random star-shaped polygon around a centre, in order."""
    gaps = rng.uniform(0.6, 1.4, count)
    angles = np.cumsum(gaps / gaps.sum()) * 2 * np.pi + rng.uniform(0, 2 * np.pi)
    radii = radius * rng.uniform(0.5, 1.0, count)
    return centre + np.column_stack((np.cos(angles), np.sin(angles))) * radii[:, None]


def _convex_hull(polygon: Points) -> Points:
    """Return the corners of the convex hull, in order."""
    return np.asarray(cv2.convexHull(polygon.astype(np.float32))[:, 0], np.float64)


def _sharp_corners(polygon: Points, limit: float = 155.0) -> Points:
    """Return the corners of a polygon with an angle below `limit` degrees; flatter ones are invisible."""
    before, after = np.roll(polygon, 1, axis=0) - polygon, np.roll(polygon, -1, axis=0) - polygon
    cosine = (before * after).sum(axis=1) / (np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1) + 1e-9)
    return polygon[np.degrees(np.arccos(np.clip(cosine, -1, 1))) < limit]


def lines(rng: np.random.Generator, size: Size, palette: Palette) -> Drawing:
    """Draw separate line segments; their ends are the corners."""
    layers: list[Layer] = []
    ends: list[tuple[Points, Points]] = []
    for _ in range(int(rng.integers(1, 8))):
        a, b = rng.uniform(0, size[::-1], (2, 2))
        if np.linalg.norm(a - b) < 15 or any(_segments_near(a, b, c, d) for c, d in ends):
            continue
        ends.append((a, b))
        layers.append(Layer((segment(a, b, rng.uniform(1, 3.5)),), (palette.contrast(),)))
    return layers, np.array(ends).reshape(-1, 2)


def _segments_near(a: Points, b: Points, c: Points, d: Points) -> bool:
    steps = np.linspace(0, 1, 24)[:, None]
    first, second = a + (b - a) * steps, c + (d - c) * steps
    return bool(np.linalg.norm(first[:, None] - second[None], axis=2).min() < 8)


def polygon(rng: np.random.Generator, size: Size, palette: Palette) -> Drawing:
    """Draw one fill_polygon polygon with three to six corners."""
    centre = rng.uniform(0.2, 0.8, 2) * size[::-1]
    shape = _convex_hull(_star_polygon(rng, int(rng.integers(3, 7)), centre, rng.uniform(0.2, 0.5) * min(size)))
    return [fill_polygon(shape, palette.contrast())], _sharp_corners(shape)


def polygons(rng: np.random.Generator, size: Size, palette: Palette) -> Drawing:
    """Draw several polygons that do not touch."""
    layers, corners = [], [_NO_CORNERS]
    for centre, radius in _disjoint_circles(rng, size, 0.07):
        shape = _convex_hull(_star_polygon(rng, int(rng.integers(3, 6)), centre, radius))
        layers.append(fill_polygon(shape, palette.contrast()))
        corners.append(_sharp_corners(shape))
    return layers, np.concatenate(corners)


def ellipses(rng: np.random.Generator, size: Size, palette: Palette) -> Drawing:
    """Draw fill_polygon ellipses that do not touch: edges without corners."""
    layers = []
    turns = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    for centre, radius in _disjoint_circles(rng, size, 0.05):
        axes = np.array([radius, radius * rng.uniform(0.3, 1.0)])
        circle = np.column_stack((np.cos(turns), np.sin(turns))) * axes
        angle = rng.uniform(0, np.pi)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        layers.append(Layer((centre + circle @ turn.T,), (palette.contrast(),)))
    return layers, _NO_CORNERS


def _disjoint_circles(rng: np.random.Generator, size: Size, least: float) -> list[tuple[Points, float]]:
    """Draw centres and radii of circles that do not touch."""
    taken: list[tuple[Points, float]] = []
    for _ in range(int(rng.integers(2, 12))):
        radius, centre = float(rng.uniform(least, 0.25) * min(size)), rng.uniform(0, 1, 2) * size[::-1]
        if all(np.linalg.norm(centre - other) > radius + reach + 3 for other, reach in taken):
            taken.append((centre, radius))
    return taken


def star(rng: np.random.Generator, size: Size, palette: Palette) -> Drawing:
    """Draw lines from a common centre; the centre and the tips are corners."""
    centre = rng.uniform(0.25, 0.75, 2) * size[::-1]
    tips = _star_polygon(rng, int(rng.integers(3, 7)), centre, rng.uniform(0.25, 0.5) * min(size))
    thickness, grey = rng.uniform(1, 3.5), palette.contrast()
    layer = Layer(tuple(segment(centre, tip, thickness) for tip in tips), (grey,) * len(tips))
    return [layer], np.vstack((centre, tips))


def _projected_grid(rng: np.random.Generator, size: Size, rows: int, columns: int, jitter: float) -> Points:
    """Draw a rows x columns grid under a random affinity and perspective: (rows + 1, columns + 1, 2) corners."""
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


def checkerboard(rng: np.random.Generator, size: Size, palette: Palette) -> Drawing:
    """Draw a checkerboard in perspective; every crossing is a corner."""
    rows, columns = (int(n) for n in rng.integers(3, 8, 2))
    grid = _projected_grid(rng, size, rows, columns, 0.0)
    dark, light = sorted((palette.contrast(), palette.contrast()))
    if light - dark < 0.12:
        dark, light = max(dark - 0.16, 0.0), min(light + 0.16, 1.0)
    places = [(i, j) for i in range(rows) for j in range(columns)]
    greys = [float(np.clip((light if (i + j) % 2 else dark) + rng.uniform(-0.04, 0.04), 0, 1)) for i, j in places]
    return [Layer(tuple(_cell(grid, i, j) for i, j in places), tuple(greys))], grid.reshape(-1, 2)


def stripes(rng: np.random.Generator, size: Size, palette: Palette) -> Drawing:
    """Draw parallel bars of varying grey; the ends of the bars are the corners."""
    columns = int(rng.integers(3, 9))
    grid = _projected_grid(rng, size, 1, columns, 0.5)
    greys = [palette.contrast()]
    for _ in range(columns - 1):
        change = rng.uniform(0.14, 0.43) * (1 if rng.random() < 0.5 else -1)
        grey = greys[-1] + change if 0 <= greys[-1] + change <= 1 else greys[-1] - change
        greys.append(palette.ensure_contrast(grey))
    return [Layer(tuple(_cell(grid, 0, j) for j in range(columns)), tuple(greys))], grid.reshape(-1, 2)


def cube(rng: np.random.Generator, size: Size, palette: Palette) -> Drawing:
    """Draw a box with three visible faces; its seven visible corners are labelled."""
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
    layer = Layer(faces, tuple(palette.ensure_contrast(float(grey)) for grey in rng.permutation(levels)))
    return [layer], near + np.array([0 * up, right, left, up, right + left, right + up, left + up])


def gaussian_noise(rng: np.random.Generator, size: Size, palette: Palette) -> Drawing:
    """Draw noise only: no corners."""
    return [], _NO_CORNERS


CLASSES: dict[str, Callable[[np.random.Generator, Size, Palette], Drawing]] = {
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


def random_scene(
    rng: np.random.Generator, size: Size, name: str | None = None, ranges: HomographyRange | None = None
) -> Scene:
    """Draw a scene of (height, width) `size` of one class (default: a random one), warped if `ranges` is given."""
    name = name or list(CLASSES)[int(rng.integers(len(CLASSES)))]
    rows = int(rng.integers(2, 8))
    level, contrast = rng.uniform(0.12, 0.88), rng.uniform(0, 0.27)
    background = np.clip(level + (rng.uniform(0, 1, (rows, rows + 1)) - 0.5) * contrast, 0, 1)
    layers, corners = CLASSES[name](rng, size, Palette(rng, float(background.mean())))
    noise = float(rng.uniform(0.02, 0.24)) if name == "gaussian_noise" else 0.0
    scene = Scene(background, tuple(layers), corners, noise)
    if ranges is None:
        return scene
    return scene.warp(np.asarray(np.linalg.inv(random_homography(rng, size, size, ranges))))
