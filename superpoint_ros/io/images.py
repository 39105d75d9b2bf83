"""Find, read and resize image files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from superpoint_ros.io.files import atomic_write
from superpoint_ros.io.headers import encoded_size, is_truncated_jpeg

MAX_PIXELS = 150_000_000
"""Most pixels of an image unless stated otherwise."""

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


def evenly_spaced(paths: Sequence[Path], most: int) -> list[Path]:
    """Select at most `most` paths, evenly spaced, the first and the last among them if there are two or more."""
    return [paths[i] for i in np.linspace(0, len(paths) - 1, min(most, len(paths))).round().astype(int)]


def size_fault(size: tuple[int, ...], max_pixels: int) -> str:
    """Say what is wrong with the size (height, width) of an image, to follow its name; empty if nothing is."""
    height, width = size
    if height * width <= max_pixels:
        return ""
    return f"is {width}x{height} pixels, allowed are {max_pixels} in all (max_pixels)"


def read_colour(path: str | Path, max_pixels: int = MAX_PIXELS, upright: bool = True) -> NDArray[np.uint8]:
    """Read an image file as (H, W, 3) BGR uint8.

    Args:
        max_pixels: maximum number of pixels.
        upright: turn it as its Exif orientation says.

    Raises:
        ValueError: if the file is missing, not an image, truncated, or has more than `max_pixels`; the last is found
            before memory is allocated.
    """
    return _read(path, cv2.IMREAD_COLOR if upright else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION, max_pixels)


def read_grey(path: str | Path, longer_side: int = 0, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read an image file as (H, W) uint8, scaled to a longer side of `longer_side` pixels (0: original size).

    Raises:
        ValueError: see `read_colour`.
    """
    return scale_to_longer_side(_read(path, cv2.IMREAD_GRAYSCALE, max_pixels), longer_side)


def decode_image(data: NDArray[np.uint8], flags: int) -> NDArray[Any] | None:
    """Decode an encoded image as OpenCV's `flags` say; None if it is no image or a truncated one.

    Raises:
        MemoryError: if the image does not fit in memory.
    """
    if not data.size or is_truncated_jpeg(data.data):
        return None
    try:
        image = cv2.imdecode(data, flags)
    except cv2.error as error:  # the header claims more pixels than OpenCV accepts
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError(str(error)) from error
        return None
    return None if image is None else np.asarray(image)


def write_image(path: str | Path, image: NDArray[np.uint8]) -> None:
    """Write an (H, W) grey or (H, W, 3) BGR image in the format of the path's suffix, atomically.

    Raises:
        OSError: if it cannot be written; a previous file is kept.
    """
    encoded, data = cv2.imencode(Path(path).suffix, image)
    if not encoded:
        raise OSError(f"image '{path}' cannot be encoded")
    with atomic_write(path) as partial:
        partial.write_bytes(data.tobytes())


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


def _read(path: str | Path, flags: int, max_pixels: int) -> NDArray[np.uint8]:
    if not Path(path).is_file():
        raise ValueError(f"image '{path}' does not exist")
    try:
        with open(path, "rb") as file:
            size = encoded_size(file)
        if size and (fault := size_fault(size, max_pixels)):
            raise ValueError(f"image '{path}' {fault}")
        image = decode_image(np.fromfile(path, np.uint8), flags)
    except OSError as error:
        raise ValueError(f"file '{path}' cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise ValueError(f"image '{path}' does not fit in memory") from error
    if image is None:
        raise ValueError(f"file '{path}' cannot be read as an image")
    return np.asarray(image, np.uint8)
