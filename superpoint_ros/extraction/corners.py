"""Refine keypoints on image gradients.

The heat map detects a corner, but the image locates it better: it is where the lines through the pixels of a small
window, each perpendicular to its gradient, intersect (Foerstner and Guelch, 1987). A single least-squares step is
taken, with a prior that keeps keypoints in place along edges and in low texture.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

WINDOW = 3
"""Radius of the gradient window, in pixels."""

MAX_STEP = 1.5
"""Maximum length of the step, in pixels."""

# Radius of the 5 x 5 Sobel operator; gradients are in grey levels per pixel.
_TAPS = 2
# The prior: as a fraction of the gradient energy, and in squared grey levels.
_RIDGE = 0.05
_NOISE = 5.0


def corner_step(images: Tensor, keypoints: Tensor) -> Tensor:
    """Refine (B, K, 2) float32 keypoints by one step on (B, 1, H, W) uint8 images, with fixed tensor shapes.

    Borders are replicated.
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
    u, v = away[..., 0, None, :], away[..., 1, :, None]
    weight = _taper(v) * _taper(u)
    xx, xy, yy = weight * gx * gx, weight * gx * gy, weight * gy * gy
    sums = (one.flatten(-2).sum(-1) for one in (xx, xy, yy, xx * u + xy * v, xy * u + yy * v))
    return keypoints + torch.stack(_solve(*sums), dim=-1)


def _sobel(device: torch.device) -> Tensor:
    """Compute the (2, 1, 5, 5) Sobel kernels in x and y on the device: a CUDA graph cannot copy from the host."""
    tap = torch.arange(-_TAPS, _TAPS + 1, device=device, dtype=torch.float32)
    smooth = (12 - 3 * tap.abs() - tap * tap) / 32  # 1 4 6 4 1, its sum 1
    slope = tap * (7 - 3 * tap.abs()) / 16  # -1 -2 0 2 1, 1 on a slope of 1
    return torch.stack((smooth[:, None] * slope, slope[:, None] * smooth)).unsqueeze(1)


def corner_step_cpu(image: NDArray[np.uint8], keypoints: NDArray[np.float32]) -> NDArray[np.float32]:
    """Refine keypoints as `corner_step` does, in one image: (H, W), (N, 2) -> (N, 2) float32."""
    if not len(keypoints):
        return keypoints
    height, width = image.shape
    nearest = np.rint(keypoints)
    offset = np.arange(-WINDOW - _TAPS, WINDOW + _TAPS + 1)[:, None]
    x, y = nearest.astype(np.int64).T[:, None] + offset
    # Keypoints are the last axis to make NumPy's inner loops long.
    patches = image.reshape(-1).take((y.clip(0, height - 1) * width)[:, None] + x.clip(0, width - 1))
    gx, gy = _gradients(patches.astype(np.int16))
    u, v = (offset[_TAPS:-_TAPS] - (keypoints - nearest).T[:, None]).astype(np.float32)
    return keypoints + np.stack(_solve(*_moments(gx, gy, u, v)), axis=-1)


def _gradients(patches: NDArray[np.int16]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compute (7, 7, N) gradients in x and y of (11, 11, N) patches, scaled by 128: integers below 2^15."""
    transposed = patches.swapaxes(0, 1)
    gx = _difference(_smooth(patches).swapaxes(0, 1)).swapaxes(0, 1)
    gy = _difference(_smooth(transposed).swapaxes(0, 1))
    return gx.astype(np.float32), gy.astype(np.float32)


def _smooth(rows: NDArray[np.int16]) -> NDArray[np.int16]:
    return 6 * rows[2:-2] + 4 * (rows[1:-3] + rows[3:-1]) + (rows[:-4] + rows[4:])


def _difference(rows: NDArray[np.int16]) -> NDArray[np.int16]:
    return 2 * (rows[3:-1] - rows[1:-3]) + (rows[4:] - rows[:-4])


def _moments(gx: NDArray[np.float32], gy: NDArray[np.float32], u: Any, v: Any) -> tuple[NDArray[np.float32], ...]:
    """Compute the sums that `_solve` takes, each (N,), from gradients (7, 7, N) and pixel offsets u, v (7, N)."""
    fade_u, fade_v = _taper(u), _taper(v)
    xx, xy, yy = gx * gx, gx * gy, gy * gy
    # The weights are separable, so sum along rows first.
    a, b, c = (np.einsum("jin,in->jn", one, fade_u) for one in (xx, xy, yy))
    p, q = (np.einsum("jin,in->jn", one, fade_u * u) for one in (xx, xy))
    p, q = p + b * v, q + c * v
    return tuple((fade_v * one).sum(axis=0) / np.float32(128**2) for one in (a, b, c, p, q))


def _taper(away: Any) -> Any:
    """Weight rows or columns of the window by their distance from the keypoint."""
    return (1 - (away / (WINDOW + 1)) ** 2) ** 2


def _solve(a: Any, b: Any, c: Any, p: Any, q: Any) -> tuple[Any, Any]:
    """Solve the normal equations a x + b y = p and b x + c y = q, with the prior, for the step (dx, dy).

    Takes arrays or tensors.
    """
    prior = _RIDGE * (a + c) + _NOISE
    a, c = a + prior, c + prior
    determinant = a * c - b * b
    dx, dy = (c * p - b * q) / determinant, (a * q - b * p) / determinant
    shorten = MAX_STEP / (dx * dx + dy * dy).clip(MAX_STEP**2) ** 0.5
    return dx * shorten, dy * shorten
