"""The description of a Synthetic Shape, before it is rendered."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.two_view.geometry import project

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Layer:
    """Tiles that are painted at once, without gaps where they meet.

    Attributes:
        tiles: convex polygons, (N, 2) corners each.
        greys: grey level of each tile, in 0..1.
    """

    tiles: tuple[Points, ...]
    greys: tuple[float, ...]


@dataclass(frozen=True)
class Scene:
    """An image to render.

    Attributes:
        background: (R, C) grey levels in 0..1 between which the background changes smoothly.
        layers: painted in order, one over the other.
        corners: (N, 2) labels in pixels.
        noise: standard deviation of Gaussian noise, in 0..1.
    """

    background: NDArray[np.float64]
    layers: tuple[Layer, ...]
    corners: Points
    noise: float = 0.0

    def warp(self, to_view: NDArray[np.float64]) -> Scene:
        """Return the scene warped by a homography; corners stay exact."""
        layers = tuple(
            replace(layer, tiles=tuple(project(to_view, tile) for tile in layer.tiles)) for layer in self.layers
        )
        return replace(self, layers=layers, corners=project(to_view, self.corners))


class Palette:
    """Grey levels that stand out from the background.

    Args:
        background: mean grey level of the background.
    """

    def __init__(self, rng: np.random.Generator, background: float) -> None:
        self._rng, self._background = rng, background

    def contrast(self, least: float = 0.1) -> float:
        """Draw a random grey level that differs from the background's mean by at least `least`."""
        while abs((grey := float(self._rng.uniform(0, 1))) - self._background) < least:
            pass
        return grey

    def ensure_contrast(self, grey: float, least: float = 0.08) -> float:
        """Return a grey level, shifted if it is too close to the background's."""
        away = grey - self._background
        if abs(away) >= least:
            return float(np.clip(grey, 0, 1))
        return self._background + (least if self._background < 0.5 else -least)


def fill_polygon(polygon: Points, grey: float) -> Layer:
    """Fill a polygon that is star-shaped about its mean with triangles."""
    centre, after = polygon.mean(axis=0), np.roll(polygon, -1, axis=0)
    tiles = tuple(np.stack((centre, a, b)) for a, b in zip(polygon, after, strict=True))
    return Layer(tiles, (grey,) * len(tiles))


def segment(a: Points, b: Points, thickness: float) -> Points:
    """Return a line of the given thickness in pixels as a rectangle that ends at the two points."""
    along = (b - a) / np.linalg.norm(b - a)
    aside = np.array([-along[1], along[0]]) * thickness / 2
    return np.stack((a + aside, b + aside, b - aside, a - aside))
