"""Keypoints drawn to the point that the image's gradients around them agree on.

The heat map knows which corner a keypoint is, the image knows best where it is: the lines through the pixels of a
small window, each across its gradient, meet there (Foerstner and Guelch, 1987). A single step is taken, with a prior
that holds keypoints in place along edges and where there is hardly a gradient.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

WINDOW = 3
"""Half the side of the window of gradients, in pixels."""

FARTHEST = 1.5
"""Longest step, in pixels."""

# Gradients are those of a 5 x 5 Sobel operator, in grey levels per pixel.
_TAPS = 2
# The prior, as shares of the gradients' energy and in squared grey levels.
_RIDGE = 0.05
_NOISE = 5.0


def approach(images: Tensor, keypoints: Tensor) -> Tensor:
    """One step of (B, K, 2) float32 keypoints on (B, 1, H, W) uint8 images; every step has a fixed size.

    Beyond the images their last row and column go on.
    """
    batch, count = keypoints.shape[:2]
    height, width = images.shape[2:]
    nearest = torch.round(keypoints).to(torch.int64)
    offset = torch.arange(-WINDOW - _TAPS, WINDOW + _TAPS + 1, device=images.device)
    x = (nearest[..., 0, None, None] + offset).clamp(0, width - 1)
    y = (nearest[..., 1, None, None] + offset[:, None]).clamp(0, height - 1)
    side = len(offset)
    patches = images.reshape(batch, -1).gather(1, (y * width + x).view(batch, -1)).float().view(-1, 1, side, side)
    gradients = F.conv2d(patches, _sobel(images.device)).view(batch, count, 2, 2 * WINDOW + 1, 2 * WINDOW + 1)
    away = offset[_TAPS:-_TAPS] - (keypoints - nearest)[..., None]
    gx, gy = gradients.unbind(dim=2)
    return keypoints + torch.stack(_step(gx, gy, away[..., 0, :], away[..., 1, :]), dim=-1)


def _sobel(device: torch.device) -> Tensor:
    """(2, 1, 5, 5): slope in x and in y. Computed on the device, because a CUDA graph takes nothing from the host."""
    tap = torch.arange(-_TAPS, _TAPS + 1, device=device, dtype=torch.float32)
    smooth = (12 - 3 * tap.abs() - tap * tap) / 32  # 1 4 6 4 1, its sum 1
    slope = tap * (7 - 3 * tap.abs()) / 16  # -1 -2 0 2 1, 1 on a slope of 1
    return torch.stack((smooth[:, None] * slope, slope[:, None] * smooth)).unsqueeze(1)


def approach_on_processor(image: NDArray[np.uint8], keypoints: NDArray[np.float32]) -> NDArray[np.float32]:
    """As `approach`, of one image: (H, W), (N, 2) -> (N, 2) float32."""
    if not len(keypoints):
        return keypoints
    height, width = image.shape
    nearest = np.rint(keypoints)
    whole = nearest.astype(np.int64)
    offset = np.arange(-WINDOW - _TAPS, WINDOW + _TAPS + 1)
    x = (whole[:, 0, None] + offset).clip(0, width - 1)
    y = (whole[:, 1] + offset[:, None]).clip(0, height - 1)
    # Side by side, the windows are one wide image for OpenCV; what runs into the neighbour is cut off.
    strip = image.reshape(-1).take(y[:, :, None] * width + x).reshape(len(offset), -1)
    scale = 1.0 / 128
    gx, gy = (_cut(cv2.Sobel(strip, cv2.CV_32F, dx, 1 - dx, ksize=2 * _TAPS + 1, scale=scale)) for dx in (1, 0))
    away = offset[_TAPS:-_TAPS].astype(np.float32) - (keypoints - nearest)[..., None]
    return keypoints + np.stack(_step(gx, gy, away[..., 0, :], away[..., 1, :]), axis=-1)


def _cut(gradients: NDArray[Any]) -> NDArray[np.float32]:
    """(11, N * 11) -> (N, 7, 7)."""
    inside = slice(_TAPS, -_TAPS)
    windows = gradients.reshape(len(gradients), -1, len(gradients))[inside, :, inside]
    return np.ascontiguousarray(windows.transpose(1, 0, 2))


def _step(gx: Any, gy: Any, u: Any, v: Any) -> tuple[Any, Any]:
    """The step in x and in y, of arrays or tensors: gradients (..., 7, 7), and places u (..., 7) of the window's
    columns and v (..., 7) of its rows relative to the keypoint."""
    reach = WINDOW + 1
    fade_u, fade_v = ((1 - (one / reach) ** 2) ** 2 for one in (u, v))
    weight = fade_v[..., :, None] * fade_u[..., None, :]
    xx, xy, yy = weight * gx * gx, weight * gx * gy, weight * gy * gy
    u, v = u[..., None, :], v[..., :, None]
    a, b, c = (_total(one) for one in (xx, xy, yy))
    p, q = _total(xx * u + xy * v), _total(xy * u + yy * v)
    prior = _RIDGE * (a + c) + _NOISE
    a, c = a + prior, c + prior
    determinant = a * c - b * b
    dx, dy = (c * p - b * q) / determinant, (a * q - b * p) / determinant
    shorten = FARTHEST / (dx * dx + dy * dy).clip(FARTHEST**2) ** 0.5
    return dx * shorten, dy * shorten


def _total(windows: Any) -> Any:
    return windows.reshape(*windows.shape[:-2], -1).sum(-1)
