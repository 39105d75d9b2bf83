"""Warp images to views, in batches on the training device (paper, section 5 and figure 6)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def project(homographies: Tensor, points: Tensor) -> Tensor:
    """Map (B, N, 2) pixels through (B, 3, 3) homographies; points at or beyond infinity land far outside any image."""
    xyw = F.pad(points, (0, 1), value=1.0) @ homographies.transpose(1, 2)
    depth = xyw[..., 2:]
    away = torch.full_like(depth, -1e6)
    return torch.where(depth > 1e-6, xyw[..., :2] / depth.clamp_min(1e-6), away)


def rotation(homographies: Tensor, size: tuple[int, int]) -> Tensor:
    """Compute by what angle (B, 3, 3) homographies rotate the middle of a view of (height, width) `size`: (B,) radians,
    positive from x to y, which is clockwise on the screen."""
    middle = torch.tensor([size[1] - 1, size[0] - 1], device=homographies.device) / 2
    step = torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.0, 0.5]], device=homographies.device)
    at = project(homographies, (middle + step).expand(len(homographies), -1, -1))
    right, down = (at[:, 1] - at[:, 0]), (at[:, 2] - at[:, 0])
    # The rotation nearest to the local map (its polar part).
    return torch.atan2(right[:, 1] - down[:, 0], right[:, 0] + down[:, 1])


def inside(points: Tensor, size: tuple[int, int]) -> Tensor:
    """Return which (..., 2) pixels lie inside an image of (height, width) `size`."""
    x, y = points[..., 0], points[..., 1]
    return (x >= 0) & (y >= 0) & (x <= size[1] - 1) & (y <= size[0] - 1)


def warp(images: Tensor, to_image: Tensor, size: tuple[int, int], oversample: int = 1) -> Tensor:
    """Warp images to views through homographies.

    Args:
        images: (B, C, H, W) float.
        to_image: (B, 3, 3), from pixels of the view to pixels of the image.
        size: (height, width) of a view.
        oversample: samples per pixel and axis, averaged; use more than one where views shrink the image.

    Returns:
        (B, C, height, width) float; 0 outside the image.
    """
    height, width = size
    x, y = (_samples(side, oversample, images) for side in (width, height))
    # Rows and columns apart and in place: a pass over all samples costs as much as sampling does.
    u, v, depth = (
        (row[:, 0, None] * x)[:, None, :] + (row[:, 1, None] * y + row[:, 2, None])[:, :, None]
        for row in to_image.unbind(dim=1)
    )
    seen = depth > 1e-6
    away = torch.full((), -1e6, device=images.device)
    # From pixels to what grid_sample counts, -1 to 1 from edge to edge: in float32 exact to a thousandth of a pixel.
    normal = [
        torch.where(seen, part.div_(depth).add_(0.5).div_(side).mul_(2).sub_(1), away)
        for part, side in zip((u, v), images.shape[:1:-1], strict=True)
    ]
    views = F.grid_sample(
        images, torch.stack(normal, dim=-1), mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return F.avg_pool2d(views, oversample) if oversample > 1 else views


def _samples(side: int, oversample: int, like: Tensor) -> Tensor:
    steps = torch.arange(side * oversample, device=like.device, dtype=torch.float32)
    return (steps + 0.5) / oversample - 0.5
