"""Match descriptors: mutual nearest neighbours by cosine similarity."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from superpoint_ros.features import Features, Matches
from superpoint_ros.two_view.rotation import check_rotation, check_same_size, likely_rotation, steer
from superpoint_ros.two_view.similarity import mutual_nearest_rows, similarities

BY_CHANCE = 0.5
"""Cosine similarity that the nearest of a few hundred unrelated descriptors may reach."""


def match(
    first: Features, second: Features, *, min_similarity: float = 0.5, ratio: float = 1.0, rotation: str = "upright"
) -> Matches:
    """Match keypoints that are each other's nearest neighbour, on the device of the descriptors.

    Args:
        first, second: features with descriptors of equal size.
        min_similarity: minimum cosine similarity, -1 to 1.
        ratio: maximum ratio of the distances to the nearest and the second nearest descriptor (Lowe, 2004); 1 disables
            the test.
        rotation: upright, or any: compare the second image at the likeliest of eight rotations. It is for weights with
            steerable descriptors, whose four blocks shift by one with a quarter turn of the image (`train` with
            loss.steerable).

    Raises:
        ValueError: if the descriptors differ in size, the rotation is unknown, or the size is not divisible by four.
    """
    check_rotation(rotation)
    if rotation == "any":
        second = steer(second, likely_rotation(first, second))
    check_same_size(first, second)
    if not len(first) or not len(second):
        return Matches.empty()
    ratio_wanted = ratio < 1 and len(second) > 1
    if first.link is not None and second.link is not None and second.link.before is first.link.own:
        link, used = second.link, slice(len(first))
        runner_up = link.second[used] if ratio_wanted else None
        return passing(link.forward[used], link.best[used], runner_up, min_similarity, ratio)
    a, b = first.device_descriptors, second.device_descriptors
    if a is not None and b is not None and a.device == b.device:
        with torch.inference_mode():
            indices, similarity = mutual_nearest(a, b, min_similarity, ratio)
            return Matches(indices.cpu().numpy(), similarity.cpu().numpy())
    # Not in PyTorch, whose threads would keep spinning on cores that the next step needs.
    cosines = similarities(first.descriptors, second.descriptors)
    forward, mutual = mutual_nearest_rows(cosines)
    best = cosines[np.arange(len(first)), forward]
    runner_up = np.partition(cosines, -2, axis=1)[:, -2] if ratio_wanted else None
    return passing(np.where(mutual, forward, -1), best, runner_up, min_similarity, ratio)


def passing(
    forward: NDArray[np.int64],
    best: NDArray[np.float32],
    runner_up: NDArray[np.float32] | None,
    min_similarity: float,
    ratio: float,
) -> Matches:
    """Keep the mutual nearest neighbours `forward` (-1 for none) that pass both tests."""
    keep = (forward >= 0) & (best >= min_similarity)
    if runner_up is not None:
        # Distance of unit vectors: d^2 = 2 - 2 cos.
        keep &= np.maximum(1 - best, 0) <= ratio**2 * np.maximum(1 - runner_up, 0)
    index = np.flatnonzero(keep)
    return Matches(np.stack((index, forward[index]), axis=1), np.clip(best[index], -1, 1))


def mutual_nearest(
    a: Tensor, b: Tensor, min_similarity: float, ratio: float, allowed: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Match (N, D) and (M, D) unit descriptors on a device: indices (K, 2) int64 and cosine similarity (K,).

    `allowed` (N, M) bool restricts the pairs.
    """
    similarity = a @ b.T
    if allowed is not None:
        similarity = similarity.masked_fill(~allowed, -2.0)
    best, forward = similarity.max(dim=1)
    backward = similarity.argmax(dim=0)
    index = torch.arange(len(a), device=a.device)
    keep = (backward[forward] == index) & (best >= min_similarity)
    if ratio < 1 and len(b) > 1:
        second = similarity.topk(2, dim=1).values[:, 1]
        # Distance of unit vectors: d^2 = 2 - 2 cos.
        keep &= (1 - best).clamp_min(0) <= ratio**2 * (1 - second).clamp_min(0)
    index = index[keep]
    return torch.stack((index, forward[keep]), dim=1), best[keep].clamp(-1, 1)


def mutual_nearest_fixed(a: Tensor, count_a: Tensor, b: Tensor, count_b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Find mutual nearest neighbours with fixed shapes, for CUDA graphs.

    Args:
        a, b: (B, N, D) and (B, M, D) unit descriptors.
        count_a, count_b: (B,) int64, number of used entries, which come first.

    Returns:
        forward (B, N) int64, the index into `b` or -1, and the cosine similarity (B, N) of the nearest and of the
        second nearest; -2 if there is none.
    """
    nothing = torch.full((), -2.0, device=a.device)
    rows = torch.arange(a.shape[1], device=a.device)
    columns = torch.arange(b.shape[1], device=a.device)
    used = (rows < count_a[:, None])[:, :, None] & (columns < count_b[:, None])[:, None, :]
    similarity = torch.where(used, a @ b.transpose(1, 2), nothing)
    top = similarity.topk(min(2, b.shape[1]), dim=2)
    best, forward = top.values[..., 0], top.indices[..., 0]
    backward = similarity.argmax(dim=1).gather(1, forward)
    mutual = (backward == rows) & (best > nothing)
    return torch.where(mutual, forward, -torch.ones_like(forward)), best, top.values[..., -1]
