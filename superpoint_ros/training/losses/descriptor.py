"""Losses of the descriptors on warped pairs."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from superpoint_ros.extraction.network import CELL
from superpoint_ros.training.views import inside, project

LEAST_TEMPERATURE = 0.025
"""Of the dual softmax: below, the odds of opposite descriptors, exp(-2 / temperature), vanish in float32."""


def dual_softmax(
    first: Tensor, second: Tensor, positions: Tensor, valid: Tensor, temperature: float = 0.05, exclusion: float = 4.0
) -> Tensor:
    """Compute the dual softmax loss of corresponding points (as in LoFTR and DISK).

    Each point competes with the other points of its image and with those of the batch's other images.

    Args:
        first, second: (B, P, D) unit descriptors of corresponding points in two images.
        positions: (B, P, 2) pixels of the points in the second image.
        valid: (B, P) bool, which correspondences are used.
        temperature: divides the cosine similarity; at least `LEAST_TEMPERATURE`.
        exclusion: points closer to the true one than this, in pixels, are not negatives.
    """
    near = torch.cdist(positions, positions) < exclusion
    near.diagonal(dim1=1, dim2=2).fill_(False)
    used = valid.flatten().float()
    first, second = first.flatten(0, 1), second.flatten(0, 1)
    own = ((first * second).sum(dim=1) - 1) / temperature
    rows, columns = _OtherOdds.apply(first, second, near, used, temperature)
    both = own.exp()
    loss = ((rows + both).log() + (columns + both).log()) / 2 - own
    return (loss * used).sum() / used.sum().clamp_min(1.0)


class _OtherOdds(torch.autograd.Function):
    """Sums over rows and columns of exp((similarity - 1) / temperature), but for each point's own partner.

    Similarities are at most 1, so one exponential without subtracting the maximum serves rows and columns. By hand,
    because every pass over the table, larger than the caches, costs as much as the matrix product.
    """

    @staticmethod
    def forward(
        context: Any, first: Tensor, second: Tensor, near: Tensor, used: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        odds = torch.mm(first, second.T).sub_(1).div_(temperature).exp_()
        odds.mul_(used)
        odds.mul_(used[:, None])
        odds.fill_diagonal_(0)
        images, points = near.shape[:2]
        odds.view(images, points, images, points).diagonal(dim1=0, dim2=2).mul_(~near.permute(1, 2, 0))
        context.save_for_backward(first, second, odds)
        context.temperature = temperature
        return odds.sum(dim=1), odds.sum(dim=0)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        first, second, odds = context.saved_tensors
        rows, columns = gradients
        slope = (rows[:, None] + columns).mul_(odds).div_(context.temperature)
        return slope @ second, slope.T @ first, None, None, None


def hinge(
    first: Tensor,
    second: Tensor,
    first_to_second: Tensor,
    positive_margin: float = 1.0,
    negative_margin: float = 0.2,
    positive_weight: float = 250.0,
) -> Tensor:
    """Compute the paper's hinge loss between all pairs of cells (equations 4 to 6).

    Cells correspond if their centres lie within 8 pixels of each other after warping. Cells of the first view that
    fall outside the second one are masked out.

    Args:
        first, second: (B, D, H/8, W/8) descriptor maps.
        first_to_second: (B, 3, 3) homographies from pixels of the first views to those of the second.
        positive_weight: lambda_d, which balances the few corresponding pairs against the others.
    """
    rows, columns = first.shape[-2:]
    x = torch.arange(columns, device=first.device) * CELL + (CELL - 1) / 2
    y = torch.arange(rows, device=first.device) * CELL + (CELL - 1) / 2
    centres = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).view(1, -1, 2).expand(len(first), -1, -1)
    warped = project(first_to_second, centres)
    # The matrix product form of distances is too inexact: neighbouring cells lie exactly 8 pixels apart.
    distance = torch.cdist(warped, centres, compute_mode="donot_use_mm_for_euclid_dist")
    corresponds = (distance <= CELL).float()
    valid = inside(warped, (rows * CELL, columns * CELL)).float().unsqueeze(-1)
    unit = [F.normalize(maps.float().flatten(2), dim=1) for maps in (first, second)]
    similarity = torch.einsum("bdp,bdq->bpq", *unit)
    positive = positive_weight * corresponds * (positive_margin - similarity).clamp_min(0)
    negative = (1 - corresponds) * (similarity - negative_margin).clamp_min(0)
    return ((positive + negative) * valid).sum() / (valid.sum() * rows * columns).clamp_min(1.0)
