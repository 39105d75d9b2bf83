"""Detector losses: cross-entropy against labels, and agreement between two views."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from superpoint_ros.extraction import corners, decoding
from superpoint_ros.extraction.network import CELL
from superpoint_ros.training.motion import Motion
from superpoint_ros.training.views import inside


def targets(points: Tensor, valid: Tensor, size: tuple[int, int]) -> Tensor:
    """Convert keypoint labels to a distribution over each cell's 64 pixels and "none" (paper, section 3.4).

    A label is split bilinearly among its four neighbouring pixels, so that the network learns subpixel positions.

    Args:
        points: (B, N, 2) float (x, y) pixels.
        valid: (B, N) bool, which of them are labels.
        size: (height, width) of the image, multiples of 8.

    Returns:
        (B, 65, H/8, W/8), summing to 1 over the bins.
    """
    batch, (height, width) = points.shape[0], size
    mass = torch.zeros(batch, height * width, device=points.device)
    base = points.floor()
    for dx in (0, 1):
        for dy in (0, 1):
            corner = base + torch.tensor([dx, dy], device=points.device)
            share = (1 - (points - corner).abs()).clamp_min(0).prod(dim=-1)
            x, y = corner[..., 0].long(), corner[..., 1].long()
            seen = valid & (x >= 0) & (x < width) & (y >= 0) & (y < height)
            index = torch.where(seen, y * width + x, torch.zeros_like(x))
            mass.scatter_add_(1, index, torch.where(seen, share, torch.zeros_like(share)))
    bins = F.pixel_unshuffle(mass.view(batch, 1, height, width), CELL)
    total = bins.sum(dim=1, keepdim=True)
    bins = bins / total.clamp_min(1.0)
    return torch.cat((bins, (1 - total).clamp_min(0.0)), dim=1)


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Compute the cross-entropy over the 65 bins, averaged over cells (paper, equations 1 to 3, with soft targets)."""
    return -(target * F.log_softmax(logits.float(), dim=1)).sum(dim=1).mean()


def agreement(
    heat: Tensor, images: Tensor, motion: Motion, count: int = 100, reach: float = 3.0, close: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute how well two views agree on their decoded keypoints.

    Mutual nearest keypoints within `reach` pixels are pulled together, through the refinement on heat map and image,
    which lowers the localisation error. The probability of a keypoint is raised if the other view has one within
    `close` pixels and lowered otherwise, relative to the mean (a policy gradient as in DISK, Tyszkiewicz et al., 2020,
    with repetition as the reward).

    Args:
        heat: (B, 2, H, W) float32 keypoint probabilities of the two views.
        images: (B, 2, H, W) float in 0..1, the two views.
        motion: between the two views.
        count: maximum number of keypoints per view.

    Returns:
        localisation: mean distance in pixels between paired keypoints, 0 without any.
        repetition: loss that rewards repeated keypoints.
        share: fraction of the keypoints in the common view that are repeated; not differentiable.
    """
    size = (heat.shape[-2], heat.shape[-1])
    settings = decoding.Decoding(count, detection_threshold=0.005, border=4)
    chosen, refined = [], []
    for view, image in zip(heat.unbind(dim=1), _grey_levels(images).split(1, dim=1), strict=True):
        positions, scores = decoding.select_peaks(view.detach(), settings)
        chosen.append((positions, scores > 0))
        refined.append(corners.corner_step(image, decoding.refine(view, positions)))
    localisation, repetition, shares = [], [], []
    for source, target, move in ((0, 1, motion.forward), (1, 0, motion.backward)):
        moved, visible = move(refined[source])
        usable, present = chosen[source][1] & visible & inside(moved.detach(), size), chosen[target][1]
        distance = torch.cdist(moved.detach(), refined[target].detach())
        pairable = usable[:, :, None] & present[:, None, :]
        distance = torch.where(pairable, distance, torch.full_like(distance, 1e6))
        nearest, partner = distance.min(dim=2)
        mutual = distance.argmin(dim=1).gather(1, partner) == torch.arange(count, device=heat.device)
        paired = mutual & (nearest < reach)
        other = refined[target].gather(1, partner.unsqueeze(-1).expand(-1, -1, 2))
        gap = torch.sqrt(((moved - other) ** 2).sum(dim=-1) + 1e-4)
        localisation.append((gap * paired).sum() / paired.sum().clamp_min(1))
        repeated = (paired & (nearest < close)).float()
        total = usable.sum().clamp_min(1)
        share = (repeated * usable).sum() / total
        x, y = chosen[source][0].unbind(dim=-1)
        probability = heat[:, source].flatten(1).gather(1, y * size[1] + x)
        logarithm = torch.log(probability.clamp_min(1e-4))
        repetition.append(-((repeated - share) * usable * logarithm).sum() / total)
        shares.append(share)
    first, second, third = (torch.stack(values).mean() for values in (localisation, repetition, shares))
    return first, second, third


def _grey_levels(images: Tensor) -> Tensor:
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)
