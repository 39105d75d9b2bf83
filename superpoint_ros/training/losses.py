"""Losses of the detector and of the descriptors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from superpoint_ros.network import CELL


def detector_targets(points: Tensor, valid: Tensor, size: tuple[int, int]) -> Tensor:
    """Keypoint labels as a distribution over each cell's 64 pixels and "none" (paper, section 3.4).

    A label between pixels is shared by its four neighbours, so that the network learns where in the pixel it lies.

    Args:
        points: (B, N, 2) float (x, y) pixels.
        valid: (B, N) bool, which of them are labels.
        size: (height, width) of the picture, multiples of 8.

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
            inside = valid & (x >= 0) & (x < width) & (y >= 0) & (y < height)
            index = torch.where(inside, y * width + x, torch.zeros_like(x))
            mass.scatter_add_(1, index, torch.where(inside, share, torch.zeros_like(share)))
    bins = F.pixel_unshuffle(mass.view(batch, 1, height, width), CELL)
    total = bins.sum(dim=1, keepdim=True)
    bins = bins / total.clamp_min(1.0)
    return torch.cat((bins, (1 - total).clamp_min(0.0)), dim=1)


def detector_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy over the 65 bins, mean over cells (paper, equations 1 to 3, with soft targets)."""
    return -(targets * F.log_softmax(logits.float(), dim=1)).sum(dim=1).mean()


def dual_softmax_loss(
    first: Tensor, second: Tensor, positions: Tensor, valid: Tensor, temperature: float = 0.05, exclusion: float = 10.0
) -> Tensor:
    """Each point shall be the other's best match in both directions (dual softmax, as in LoFTR and DISK).

    Args:
        first, second: (B, P, D) unit descriptors of corresponding points in two pictures.
        positions: (B, P, 2) pixels of the points in the second picture.
        valid: (B, P) bool, which correspondences count.
        temperature: divides the cosine similarity.
        exclusion: points closer than this to the true one, in pixels, are no negatives.
    """
    similarity = torch.einsum("bpd,bqd->bpq", first, second) / temperature
    near = torch.cdist(positions, positions) < exclusion
    eye = torch.eye(similarity.shape[-1], dtype=torch.bool, device=similarity.device)
    usable = valid[:, :, None] & valid[:, None, :] & (~near | eye)
    similarity = torch.where(usable | eye, similarity, torch.full_like(similarity, -1e4))
    rows = torch.diagonal(F.log_softmax(similarity, dim=2), dim1=1, dim2=2)
    columns = torch.diagonal(F.log_softmax(similarity, dim=1), dim1=1, dim2=2)
    weight = valid.float()
    return -((rows + columns) / 2 * weight).sum() / weight.sum().clamp_min(1.0)
