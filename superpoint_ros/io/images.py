"""Find, read and resize image files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

SUFFIXES = {".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".bmp", ".tif", ".tiff", ".webp"}


def list_images(folder: str | Path) -> list[Path]:
    """List all image files below a folder, sorted by path.

    Raises:
        ValueError: if there are none.
    """
    found = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise ValueError(f"folder '{folder}' contains no image ({', '.join(sorted(SUFFIXES))})")
    return found


def read_colour(path: str | Path) -> NDArray[np.uint8]:
    """Read an image file as (H, W, 3) BGR uint8.

    Raises:
        ValueError: if the file is missing or not an image.
    """
    return _read(path, cv2.IMREAD_COLOR)


def read_grey(path: str | Path, longer_side: int = 0) -> NDArray[np.uint8]:
    """Read an image file as (H, W) uint8, scaled to a longer side of `longer_side` pixels (0: original size).

    Raises:
        ValueError: if the file is missing or not an image.
    """
    return scale_to_longer_side(_read(path, cv2.IMREAD_GRAYSCALE), longer_side)


def scale_to_longer_side(image: NDArray[np.uint8], longer_side: int) -> NDArray[np.uint8]:
    """Scale an (H, W) uint8 image to a longer side of `longer_side` pixels (0: original size)."""
    if not longer_side or max(image.shape) == longer_side:
        return image
    factor = longer_side / max(image.shape)
    return resize_image(image, (max(round(image.shape[0] * factor), 1), max(round(image.shape[1] * factor), 1)))


def resize_image(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize an (H, W) or (H, W, 3) uint8 image to (height, width); return it unchanged if it has that size."""
    if image.shape[:2] == size:
        return image
    # Area averaging keeps fine texture from aliasing into false corners when an image shrinks. Passing the size, not
    # a factor, makes the coordinate scale exactly the ratio of the sizes.
    interpolation = cv2.INTER_AREA if max(size) < max(image.shape[:2]) else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size[::-1], interpolation=interpolation), np.uint8)


def to_grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert an (H, W) grey or (H, W, 3) BGR uint8 image to grey."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8) if image.ndim == 3 else image


def _read(path: str | Path, flags: int) -> NDArray[np.uint8]:
    if not Path(path).is_file():
        raise ValueError(f"image '{path}' does not exist")
    try:
        image = cv2.imread(str(path), flags)
    except cv2.error:  # the header claims more pixels than OpenCV accepts
        image = None
    if image is None:
        raise ValueError(f"file '{path}' cannot be read as an image")
    return np.asarray(image, np.uint8)
