"""Check images before feature extraction."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.extraction.pyramid import MIN_SIDE
from superpoint_ros.features import Mask
from superpoint_ros.io.images import size_fault, to_grey

_OUT_OF_MEMORY = re.compile(
    r"bad_alloc|alloc_failed|(out of|not enough|insufficient) memory|allocate (memory|\d+ bytes)", re.IGNORECASE
)
"""As C++, PyTorch, cuDNN and cuBLAS, ONNX Runtime, OpenVINO and OpenCV word it."""


class ImageError(ValueError):
    """An image cannot be used; the message is one sentence for the user."""


def check_image(image: NDArray[np.uint8], max_pixels: int) -> None:
    """Raise an `ImageError` if an image has the wrong type, shape or size."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise ImageError(f"the image is {kind}, allowed is a uint8 array")
    if not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise ImageError(f"the image has shape {image.shape}, allowed is (H, W) or (H, W, 3)")
    if min(image.shape[:2]) < MIN_SIDE:
        height, width = image.shape[:2]
        raise ImageError(f"the image is {width}x{height} pixels, allowed is at least {MIN_SIDE}x{MIN_SIDE}")
    check_size(image.shape[:2], max_pixels)


def check_size(size: tuple[int, ...], max_pixels: int) -> None:
    """Raise an `ImageError` if an image of (height, width) has more than `max_pixels`."""
    if fault := size_fault(size, max_pixels):
        raise ImageError(f"the image {fault}")


def checked_masks(masks: Sequence[Mask | None] | None, images: Sequence[NDArray[np.uint8]]) -> Sequence[Mask | None]:
    """Return the mask of each image, None where there is none.

    Raises:
        ImageError: if a mask is not an array of bool of its image's size.
        ValueError: if the number of masks is not that of the images.
    """
    if masks is None:
        return [None] * len(images)
    if len(masks) != len(images):
        raise ValueError(f"the number of masks is {len(masks)}, allowed is that of the images, {len(images)}")
    for mask, image in zip(masks, images, strict=True):
        if mask is not None and (mask.dtype != np.bool_ or mask.shape != image.shape[:2]):
            size = image.shape[:2]
            raise ImageError(f"the mask is {mask.dtype} of shape {mask.shape}, allowed is bool of shape {size}")
    return masks


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether an error of Python or of a runtime says that there is too little memory."""
    return isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)) is not None


def checked_grey(image: NDArray[np.uint8], max_pixels: int) -> NDArray[np.uint8]:
    """Check an image and convert it to grey."""
    check_image(image, max_pixels)
    return to_grey(image)
