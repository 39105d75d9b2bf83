"""Convert grey levels of 8, 16 or 32 bits to 8 bits: linearly, stretched to the levels in use, or equalised."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from superpoint_ros.extraction.checks import ImageError

_DARKEST, _BRIGHTEST = 0.5, 99.5
"""Percentiles of the grey levels that become black and white."""

_SAMPLED = 50_000
"""Number of pixels, in rows and columns of equal distance, from which the percentiles are computed."""

_RATE = 0.1
"""Share of a frame in the smoothed percentiles, so that features do not flicker."""

_JUMP = 0.5
"""Change of the range, as a share of it, from which it is taken from the frame at once: a shutter or another scene."""

_CLIP, _TILES = 2.0, (8, 8)


class Intensity:
    """Converts the images of one camera in order of time.

    Args:
        mode: `linear` maps the whole range of the type; `auto` stretches 16-bit and float images between percentiles
            that change smoothly from frame to frame; `clahe` does so and then equalises the contrast locally.
    """

    def __init__(self, mode: str = "linear") -> None:
        self.mode = mode
        self._range: NDArray[np.float64] | None = None
        self._clahe = cv2.createCLAHE(_CLIP, _TILES) if mode == "clahe" else None

    def check_encoding(self, encoding: str) -> None:
        """Raise an `ImageError` for an encoding of depth images, unless the mode asks for them."""
        if self.mode == "linear" and encoding == "16UC1":
            raise ImageError(
                "image encoding '16UC1' is that of depth images in millimetres, allowed is an intensity image: remap "
                "'image' to the camera's colour or infrared topic, or set the parameter intensity to auto for a "
                "thermal camera"
            )

    def __call__(self, pixels: NDArray[Any]) -> NDArray[np.uint8]:
        """Convert (H, W) uint8, uint16 or float32 in native byte order.

        Raises:
            ImageError: if float32 pixels are not from 0 to 1 in mode `linear`, or none is finite.
        """
        if pixels.dtype == np.uint8:
            grey = np.ascontiguousarray(pixels)
        else:
            grey = _linear(pixels) if self.mode == "linear" else self._stretched(pixels)
        return grey if self._clahe is None else np.asarray(self._clahe.apply(grey), np.uint8)

    def _stretched(self, pixels: NDArray[Any]) -> NDArray[np.uint8]:
        if pixels.dtype == np.float32:
            finite = np.isfinite(pixels)
            if not finite.any():
                raise ImageError("the 32FC1 image contains no finite value, allowed is one at least")
            if not finite.all():
                pixels = np.where(finite, pixels, pixels[finite].min())
        step = max(1, int(np.sqrt(pixels.size / _SAMPLED)))
        found = np.percentile(pixels[::step, ::step], (_DARKEST, _BRIGHTEST)).astype(np.float64)
        if self._range is None or np.abs(found - self._range).max() > _JUMP * np.ptp(self._range):
            self._range = found
        else:
            self._range = self._range + _RATE * (found - self._range)
        low, high = self._range
        scale = 255 / max(high - low, 1e-6)
        return np.clip(np.rint((pixels.astype(np.float32) - low) * scale), 0, 255).astype(np.uint8)


def _linear(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint16:
        return np.ascontiguousarray(cv2.convertScaleAbs(pixels, alpha=255 / 65535))
    low, high = float(pixels.min()), float(pixels.max())
    if not np.isfinite(low + high):
        raise ImageError("the 32FC1 image contains values that are not finite, allowed is 0 to 1")
    if low < 0 or high > 1:
        raise ImageError(
            f"the 32FC1 image contains values from {low:g} to {high:g}, allowed is 0 to 1: remap 'image' to the "
            f"camera's colour or infrared topic if this is a depth image, or set the parameter intensity to auto"
        )
    return cv2.convertScaleAbs(pixels, alpha=255)
