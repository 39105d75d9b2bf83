"""Photometric augmentation of grey pictures: what lenses, sensors and codecs do to them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


def augment(rng: np.random.Generator, image: Image, strength: float = 1.0) -> Image:
    """A (H, W) uint8 picture with random light, blur, noise and compression; `strength` 0 changes nothing."""
    if rng.random() < 0.7 * strength:
        image = _light(rng, image)
    if rng.random() < 0.15 * strength:
        image = _shade(rng, image)
    choice = rng.random()
    if choice < 0.15 * strength:
        image = _motion_blur(rng, image)
    elif choice < 0.4 * strength:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.6))
    if rng.random() < 0.5 * strength:
        image = _noise(rng, image)
    if rng.random() < 0.15 * strength:
        image = _jpeg(rng, image)
    return image


def _light(rng: np.random.Generator, image: Image) -> Image:
    gamma, gain, offset = np.exp(rng.normal(0, 0.35)), rng.uniform(0.5, 1.3), rng.uniform(-30, 40)
    table = 255 * (np.arange(256) / 255) ** gamma * gain + offset
    return cv2.LUT(image, np.clip(table, 0, 255).astype(np.uint8))


def _shade(rng: np.random.Generator, image: Image) -> Image:
    """A soft dark or bright patch, as shadows and lamps throw."""
    height, width = image.shape
    small = rng.uniform(0.4, 1.3, (3, 3)).astype(np.float32)
    shade = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(image * shade, 0, 255).astype(np.uint8)


def _motion_blur(rng: np.random.Generator, image: Image) -> Image:
    length = int(rng.integers(3, 9))
    kernel = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1
    turn = cv2.getRotationMatrix2D(((length - 1) / 2, (length - 1) / 2), rng.uniform(0, 180), 1)
    kernel = cv2.warpAffine(kernel, turn, (length, length))
    return cv2.filter2D(image, -1, kernel / max(kernel.sum(), 1e-6))


def _noise(rng: np.random.Generator, image: Image) -> Image:
    noise = rng.standard_normal(image.shape, dtype=np.float32) * rng.uniform(1, 14)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def _jpeg(rng: np.random.Generator, image: Image) -> Image:
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 85))])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)
