"""The refinement of matches in tensor form, for GPUs: fixed shapes, and no copy from the host or synchronisation.

`refine_fixed` computes the results of `refinement.refine_points` with operations that a CUDA graph can record. Where
the NumPy form drops converged points, this one computes all of them and masks the updates.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from superpoint_ros.two_view.refinement import (
    CORRELATED,
    FLOOR,
    ITERATIONS,
    LEAST_CORRELATION,
    LONGEST_STEP,
    RADIUS,
    SETTLED,
    SMALL_STEP,
    SPACING,
)


def refine_fixed(
    image: Tensor,
    layers: Tensor,
    contrast: Tensor,
    inverse: Tensor,
    usable: Tensor,
    start: Tensor,
    warps: Tensor,
    farthest: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Find N patches of one image in another, all tensors on one device.

    Args:
        image: (H, W) float32, the second image, `smooth`.
        layers, contrast, inverse, usable: (N, 3, P), (N,), (N, 3) float32 and (N,) bool, as in `Templates`. Rows of
            padding are not usable.
        start, warps: (N, 2) and (N, 2, 2) float32, as in `refine_points`.
        farthest: () float32, maximum distance of a result from its start, in pixels.

    Returns:
        points (N, 2), covariance (N, 3), found (N,) bool and correlation (N,), as in `Refined`.
    """
    usable = usable & start.isfinite().all(dim=1) & warps.isfinite().flatten(1).all(dim=1)
    moved = torch.where(usable[:, None], start, torch.zeros_like(start))
    warps = torch.where(usable[:, None, None], warps, torch.eye(2, device=warps.device))
    begin, away = moved, _warped_offsets(warps)
    length, residual = torch.full_like(contrast, torch.inf), torch.zeros_like(contrast)
    correlation, distance = torch.zeros_like(contrast), torch.zeros_like(contrast)
    active = usable
    for _ in range(ITERATIONS):
        step, alike, rest = _compare(layers, contrast, inverse, _sample(image, moved[:, None] + away))
        step = (warps * step[:, None]).sum(dim=2)
        far = torch.hypot(step[:, 0], step[:, 1])
        step = step * (LONGEST_STEP / far.clamp_min(1e-6)).clamp_max(1)[:, None]
        moved = torch.where(active[:, None], moved - step, moved)
        length, correlation = torch.where(active, far, length), torch.where(active, alike, correlation)
        residual = torch.where(active, rest, residual)
        distance = torch.hypot(*(moved - begin).unbind(dim=1))
        # A patch that has moved too far does not come back.
        active = active & (length > SMALL_STEP) & (distance <= farthest)
    found = (length < SETTLED) & (correlation > LEAST_CORRELATION) & (distance <= farthest)
    found = found & _inside(image, moved, RADIUS * warps.abs().sum(dim=2))
    nothing = torch.full_like(contrast, torch.inf)
    nothing = torch.stack((nothing, torch.zeros_like(contrast), nothing), dim=1)
    covariance = torch.where(found[:, None], _covariance(inverse, warps, residual / layers.shape[2]), nothing)
    return torch.where(found[:, None], moved, start), covariance, found, correlation


def _warped_offsets(warps: Tensor) -> Tensor:
    """Offsets (N, P, 2) of the samples from their points, in pixels of the second image."""
    side = torch.arange(-RADIUS, RADIUS + 1, SPACING, device=warps.device, dtype=warps.dtype)
    y, x = (axis.flatten() for axis in torch.meshgrid(side, side, indexing="ij"))
    return warps[:, None, :, 0] * x[:, None] + warps[:, None, :, 1] * y[:, None]


def _sample(image: Tensor, places: Tensor) -> Tensor:
    """Sample an (H, W) image at (N, P, 2) pixels: (N, P) grey levels, with the border replicated."""
    height, width = image.shape
    x, y = places.unbind(dim=2)
    # `grid_sample` places -1 and 1 at the outer edges of the outermost pixels.
    grid = torch.stack((x * (2 / width) + (1 / width - 1), y * (2 / height) + (1 / height - 1)), dim=2)
    levels = F.grid_sample(image[None, None], grid[None], mode="bilinear", padding_mode="border", align_corners=False)
    return levels[0, 0]


def _compare(layers: Tensor, contrast: Tensor, inverse: Tensor, grey: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The Gauss-Newton step (N, 2) in the first image, the correlation (N,) and the mean squared residual (N,) of the
    templates and the grey levels (N, P) of the second image."""
    grey = grey - grey.mean(dim=1, keepdim=True)
    own = (grey * grey).mean(dim=1) + 1e-3
    # Not as a matrix product, which PyTorch may be set to compute in TF32.
    both, pull_x, pull_y = (layers * grey[:, None]).sum(dim=2).unbind(dim=1)
    gain = both / own
    xx, xy, yy = inverse.unbind(dim=1)
    step = torch.stack((gain * (xx * pull_x + xy * pull_y), gain * (xy * pull_x + yy * pull_y)), dim=1)
    return step, both / (own * contrast.clamp_min(1e-3)).sqrt(), (contrast - gain * both).clamp_min(0)


def _inside(image: Tensor, points: Tensor, reach: Tensor) -> Tensor:
    """Whether everything within reach (N, 2) of (N, 2) points, in x and in y, lies in the image."""
    height, width = image.shape
    low, high = points - reach, points + reach
    return (low >= 0).all(dim=1) & (high[:, 0] <= width - 1) & (high[:, 1] <= height - 1)


def _covariance(inverse: Tensor, warps: Tensor, residual: Tensor) -> Tensor:
    """Covariance (N, 3) in the second image; `residual` (N,) is the mean squared one over the number of samples."""
    xx, xy, yy = (inverse * (CORRELATED * residual)[:, None]).unbind(dim=1)
    (a, b), (c, d) = (row.unbind(dim=1) for row in warps.unbind(dim=1))
    return torch.stack(
        (
            a * a * xx + 2 * a * b * xy + b * b * yy + FLOOR**2,
            a * c * xx + (a * d + b * c) * xy + b * d * yy,
            c * c * xx + 2 * c * d * xy + d * d * yy + FLOOR**2,
        ),
        dim=1,
    )
