"""Finding and reading picture files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

ENDINGS = {".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".bmp", ".tif", ".tiff", ".webp"}


def pictures(folder: str | Path) -> list[Path]:
    """Every picture below a folder, in order of its name.

    Raises:
        ValueError: if there is none.
    """
    found = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in ENDINGS)
    if not found:
        raise ValueError(f"folder '{folder}' holds no picture ({', '.join(sorted(ENDINGS))})")
    return found


def read_colour(path: str | Path) -> NDArray[np.uint8]:
    """A picture as (H, W, 3) BGR uint8.

    Raises:
        ValueError: if the file is missing or no picture.
    """
    return _read(path, cv2.IMREAD_COLOR)


def read_grey(path: str | Path, longer_side: int = 0) -> NDArray[np.uint8]:
    """A picture as (H, W) uint8, its longer side brought to `longer_side` pixels (0: as it is).

    Raises:
        ValueError: if the file is missing or no picture.
    """
    return resized(_read(path, cv2.IMREAD_GRAYSCALE), longer_side)


def resized(image: NDArray[np.uint8], longer_side: int) -> NDArray[np.uint8]:
    """An (H, W) uint8 image with its longer side brought to `longer_side` pixels (0: as it is)."""
    if not longer_side or max(image.shape) == longer_side:
        return image
    factor = longer_side / max(image.shape)
    return at_size(image, (max(round(image.shape[0] * factor), 1), max(round(image.shape[1] * factor), 1)))


def at_size(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """An (H, W) or (H, W, 3) uint8 image at a size (height, width); itself where it has that size."""
    if image.shape[:2] == size:
        return image
    # Averaging keeps fine texture from turning into false corners when an image shrinks. Given by size, not by factor,
    # pixels go exactly where the ratio of the sizes says.
    how = cv2.INTER_AREA if max(size) < max(image.shape[:2]) else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size[::-1], interpolation=how), np.uint8)


def as_grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An (H, W) grey or (H, W, 3) BGR uint8 image in grey."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8) if image.ndim == 3 else image


def _read(path: str | Path, flags: int) -> NDArray[np.uint8]:
    if not Path(path).is_file():
        raise ValueError(f"picture '{path}' does not exist")
    try:
        image = cv2.imread(str(path), flags)
    except cv2.error:  # a header that claims more pixels than OpenCV takes
        image = None
    if image is None:
        raise ValueError(f"file '{path}' cannot be read as a picture")
    return np.asarray(image, np.uint8)
