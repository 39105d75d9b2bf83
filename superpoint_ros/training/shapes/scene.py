"""What a Synthetic Shape is made of, before it is rendered."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.two_view.geometry import project

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Layer:
    """Tiles painted at once: where they meet nothing shows through between them.

    Attributes:
        tiles: convex polygons, (N, 2) corners each.
        greys: of each tile, in 0..1.
    """

    tiles: tuple[Points, ...]
    greys: tuple[float, ...]


@dataclass(frozen=True)
class Scene:
    """An image to be rendered.

    Attributes:
        background: (R, C) grey levels in 0..1 between which the background changes smoothly.
        layers: painted one over the other.
        corners: (N, 2) labels in pixels.
        noise: standard deviation of Gaussian noise, in 0..1.
    """

    background: NDArray[np.float64]
    layers: tuple[Layer, ...]
    corners: Points
    noise: float = 0.0

    def seen_through(self, to_view: NDArray[np.float64]) -> Scene:
        """The scene as a homography shows it; corners stay exact."""
        layers = tuple(
            replace(layer, tiles=tuple(project(to_view, tile) for tile in layer.tiles)) for layer in self.layers
        )
        return replace(self, layers=layers, corners=project(to_view, self.corners))


class Palette:
    """Grey levels that can be told from the background.

    Args:
        background: its mean grey level.
    """

    def __init__(self, rng: np.random.Generator, background: float) -> None:
        self._rng, self._background = rng, background

    def contrast(self, least: float = 0.1) -> float:
        """A random grey level that differs from the background's mean."""
        while abs((grey := float(self._rng.uniform(0, 1))) - self._background) < least:
            pass
        return grey

    def apart(self, grey: float, least: float = 0.08) -> float:
        """A grey level, moved where it could not be told from the background."""
        away = grey - self._background
        if abs(away) >= least:
            return float(np.clip(grey, 0, 1))
        return self._background + (least if self._background < 0.5 else -least)


def filled(polygon: Points, grey: float) -> Layer:
    """A polygon whose corners can all be seen from their mean, as triangles."""
    centre, after = polygon.mean(axis=0), np.roll(polygon, -1, axis=0)
    tiles = tuple(np.stack((centre, a, b)) for a, b in zip(polygon, after, strict=True))
    return Layer(tiles, (grey,) * len(tiles))


def segment(a: Points, b: Points, thickness: float) -> Points:
    """A line of a thickness in pixels, as a rectangle that ends at the two points."""
    along = (b - a) / np.linalg.norm(b - a)
    aside = np.array([-along[1], along[0]]) * thickness / 2
    return np.stack((a + aside, b + aside, b - aside, a - aside))
