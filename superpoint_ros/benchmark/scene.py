"""The images of the benchmark: a reproducible synthetic scene, or the user's own images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from superpoint_ros.io.images import list_images, read_colour, resize_image

Image = NDArray[np.uint8]
Size = tuple[int, int]

_SHAPES_PER_MEGAPIXEL = 1800


def frames(size: Size, number: int, images: str | Path | None = None) -> list[Image]:
    """Return `number` (H, W, 3) BGR images of `size` (width, height) that overlap like the frames of a camera.

    Args:
        images: a folder of consecutive images, each scaled to cover the size and cropped; or an image file, which is
            moved slightly from frame to frame; None for the synthetic scene, moved likewise.

    Raises:
        ValueError: if there is no readable image.
    """
    files: list[Path] = []
    if images is not None:
        path = Path(images)
        files = list_images(path) if path.is_dir() else [path]
    if len(files) > 1:
        return [_fit(read_colour(files[index % len(files)]), size) for index in range(number)]
    still = _fit(read_colour(files[0]), size) if files else synthetic_scene(size)
    return [_move(still, index) for index in range(number)]


def synthetic_scene(size: Size, seed: int = 0) -> Image:
    """Draw overlapping polygons, circles and lines on a smooth background, with noise.

    The density of corners does not depend on the size; 640 x 480 pixels have about a thousand keypoints.
    """
    random = np.random.default_rng(seed)
    width, height = size
    ground = random.integers(40, 215, (6, 8, 3), dtype=np.uint8)
    image = np.asarray(cv2.resize(ground, size, interpolation=cv2.INTER_CUBIC), np.uint8)
    for _ in range(max(20, width * height * _SHAPES_PER_MEGAPIXEL // 1_000_000)):
        colour = random.integers(0, 256, 3).tolist()
        centre, reach = random.uniform((0, 0), size), random.uniform(6, 45)
        kind = random.integers(10)
        if kind < 7:
            angles = np.sort(random.uniform(0, 2 * np.pi, random.integers(3, 7)))
            corners = centre + reach * np.column_stack((np.cos(angles), np.sin(angles)))
            cv2.fillPoly(image, [corners.astype(np.int32)], colour, cv2.LINE_AA)
        elif kind < 8:
            cv2.circle(image, centre.astype(int).tolist(), int(reach / 2), colour, -1, cv2.LINE_AA)
        else:
            end = centre + random.uniform(-60, 60, 2)
            cv2.line(image, centre.astype(int).tolist(), end.astype(int).tolist(), colour, 2, cv2.LINE_AA)
    noise = random.normal(0, 4, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def _move(image: Image, index: int) -> Image:
    """Rotate, zoom and shift an image slightly, by amounts that oscillate with the index."""
    height, width = image.shape[:2]
    turn, zoom = 1.5 * np.sin(0.9 * index), 1 + 0.02 * np.sin(1.3 * index)
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), turn, zoom)
    matrix[:, 2] += 0.01 * width * np.array([np.sin(0.7 * index), np.sin(1.1 * index)])
    moved = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(moved, np.uint8)


def _fit(image: Image, size: Size) -> Image:
    """Scale an image to cover the size, and centre-crop it."""
    width, height = size
    factor = max(width / image.shape[1], height / image.shape[0])
    scaled = tuple(max(minimum, round(side * factor)) for side, minimum in zip(image.shape[1::-1], size, strict=True))
    large = resize_image(image, (scaled[1], scaled[0]))
    left, top = (scaled[0] - width) // 2, (scaled[1] - height) // 2
    return np.ascontiguousarray(large[top : top + height, left : left + width])
