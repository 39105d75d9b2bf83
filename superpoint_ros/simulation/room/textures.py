"""Textures of the room's surfaces: scikit-image's photographs, illuminated by one lamp."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from superpoint_ros.simulation.room.scene import Surface

Image = NDArray[np.uint8]

ALIGNMENT = 32
"""Sides of textures are multiples of this, so that each mip map level halves them exactly."""
_DENSITY = {"table": 400, "parcel": 400, "crate": 360, "screen": 360, "pillar": 320, "edge": 200, "ceiling": 160}
_LAMP = np.array([4.2, 2.8, 2.7])

_WALLPAPER: dict[str, tuple[str, float, float]] = {
    # photograph, length of its longer side in metres, brightness
    "east": ("gravel", 2.6, 0.75),
    "west": ("brick", 1.7, 1.0),
    "north": ("brick", 2.3, 1.15),
    "south": ("grass", 3.1, 1.1),
    "floor": ("gravel", 1.9, 1.0),
    "ceiling": ("moon", 5.0, 1.2),
    "edge": ("brick", 0.9, 0.8),
    "pillar": ("camera", 1.1, 1.0),
    "table": ("coffee", 1.0, 1.0),
    "parcel": ("text", 0.5, 1.0),
    "crate": ("coins", 0.9, 1.0),
    "screen": ("chelsea", 1.4, 1.0),
}
"""Each is repeated by mirroring."""
_HUNG: dict[str, list[tuple[str, float, float, float]]] = {
    # photograph, left, top and width in metres
    "east": [
        ("astronaut", 0.7, 0.4, 1.7),
        ("rocket", 3.0, 0.7, 1.5),
        ("page", 4.8, 0.5, 0.9),
        ("clock", 4.9, 1.3, 0.7),
    ],
    "west": [("hubble_deep_field", 0.6, 0.4, 2.0), ("coffee", 3.2, 0.9, 1.5), ("retina", 4.9, 0.6, 0.9)],
    "north": [("camera", 0.5, 0.6, 1.4), ("coins", 2.2, 0.5, 1.2), ("rocket", 5.3, 0.5, 1.9)],
    "south": [
        ("coffee", 0.4, 0.5, 1.8),
        ("astronaut", 2.7, 0.7, 1.3),
        ("text", 4.3, 0.7, 1.4),
        ("chelsea", 6.0, 0.4, 1.6),
    ],
    "floor": [("hubble_deep_field", 2.8, 2.0, 2.4), ("astronaut", 0.8, 0.9, 1.3), ("coffee", 5.6, 0.6, 1.7)],
    "table": [("page", 0.1, 0.2, 0.5), ("clock", 0.55, 1.35, 0.35)],
}


def texture_of(surface: Surface) -> Image:
    """Create the illuminated (H, W, 3) BGR uint8 texture of a surface. Sides are multiples of ALIGNMENT."""
    height, width = (
        max(1, round(metres * _DENSITY.get(surface.texture, 256) / ALIGNMENT)) * ALIGNMENT for metres in surface.size
    )
    name, metres, brightness = _WALLPAPER[surface.texture]
    texels = width / surface.size[1]
    tile = _scaled(photograph(name), metres * texels)
    paper = np.concatenate((tile, tile[:, ::-1]), axis=1)
    paper = np.concatenate((paper, paper[::-1]), axis=0)
    repeats = (-(-height // paper.shape[0]), -(-width // paper.shape[1]), 1)
    texture = np.tile(paper, repeats)[:height, :width].copy()
    for hung, left, top, wide in _HUNG.get(surface.texture, []):
        picture = _scaled(photograph(hung), wide * texels)
        frame = max(2, round(0.03 * texels))
        picture = cv2.copyMakeBorder(picture, frame, frame, frame, frame, cv2.BORDER_CONSTANT, value=(30, 40, 50))
        row, column = round(top * texels), round(left * texels)
        area = texture[row : row + picture.shape[0], column : column + picture.shape[1]]
        area[:] = picture[: area.shape[0], : area.shape[1]]
    return np.clip(texture * (brightness * _light(surface, height, width)), 0, 255).round().astype(np.uint8)


@cache
def photograph(name: str) -> Image:
    """Load a photograph as read-only (H, W, 3) BGR uint8."""
    from skimage import data

    image = getattr(data, name)()
    image = np.ascontiguousarray(image[..., 2::-1] if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2))
    image.flags.writeable = False
    return image


def _scaled(image: Image, longer_side: float) -> Image:
    factor = longer_side / max(image.shape[:2])
    size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC))


def _light(surface: Surface, height: int, width: int) -> NDArray[np.float32]:
    """Compute (H, W, 1) illumination: ambient light, and the lamp's by angle and distance."""
    rows, columns = np.mgrid[0:1:17j, 0:1:17j]
    to_lamp = _LAMP - surface.points(np.column_stack((columns.ravel(), rows.ravel())))
    distance = np.linalg.norm(to_lamp, axis=1)
    normal = np.cross(surface.down, surface.along)
    cosine = np.maximum(to_lamp @ (normal / np.linalg.norm(normal)) / distance, 0.0)
    light = (0.55 + 0.9 * cosine / (1 + 0.12 * distance**2)).reshape(rows.shape).astype(np.float32)
    return np.asarray(cv2.resize(light, (width, height), interpolation=cv2.INTER_LINEAR)[..., None])
