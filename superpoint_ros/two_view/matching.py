"""Match descriptors: mutual nearest neighbours by cosine similarity."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from superpoint_ros.features import Features, Matches
from superpoint_ros.two_view.similarity import similarities
from superpoint_ros.two_view.steering import check_steerable, steered_back

_PROBE = 256
"""Number of keypoints whose matches tell the rotation."""

_POWER = 3
"""Similarities count with this power, so that the many by chance do not."""

BY_CHANCE = 0.5
"""Cosine similarity that the nearest of a few hundred unrelated descriptors may reach."""

ROTATIONS = ("upright", "any")
"""Rotations of the second image relative to the first, see `match`."""


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
    if first.descriptors.shape[1] != second.descriptors.shape[1]:
        sizes = f"{first.descriptors.shape[1]} and {second.descriptors.shape[1]}"
        raise ValueError(f"descriptors have {sizes} components, allowed is the same number in both images")
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
    # NumPy is four times slower along columns.
    forward, backward = cosines.argmax(axis=1), cv2.transpose(cosines).argmax(axis=1)
    index = np.arange(len(first))
    runner_up = np.partition(cosines, -2, axis=1)[:, -2] if ratio_wanted else None
    mutual = np.where(backward[forward] == index, forward, -1)
    return passing(mutual, cosines[index, forward], runner_up, min_similarity, ratio)


def check_rotation(rotation: str) -> None:
    """Raise a `ValueError` if a rotation is not one of `ROTATIONS`."""
    if rotation not in ROTATIONS:
        raise ValueError(f"rotation '{rotation}' is unknown, allowed is one of {', '.join(ROTATIONS)}")


def likely_rotation(first: Features, second: Features) -> int:
    """Find by how many eighths of a turn the second image is rotated, 0 to 7: where a few keypoints match best.

    Descriptors must be steerable; see `match` for errors.
    """
    probe = first.select(np.arange(min(len(first), _PROBE)))  # the best

    def support(eighths: int) -> float:
        return float((match(probe, steer(second, eighths), min_similarity=-1.0).similarity ** _POWER).sum())

    found = {eighths: support(eighths) for eighths in (0, 2, 4, 6)}
    quarter = max(found, key=lambda eighths: found[eighths])  # upright in a tie
    found |= {eighths: support(eighths) for eighths in ((quarter + 1) % 8, (quarter - 1) % 8)}
    return max(found, key=lambda eighths: found[eighths])


def steer(features: Features, eighths: int) -> Features:
    """Steer descriptors back by this many eighths of a turn, see `steering`; the keypoints are unchanged.

    Raises:
        ValueError: if the descriptor size is not divisible by four.
    """
    if eighths % 8 == 0:
        return features
    check_steerable(features.descriptors.shape[1], "rotation 'any'")
    device = features.device_descriptors
    table = torch.from_numpy(features.descriptors) if device is None else device
    steered = steered_back(table[None], torch.tensor([eighths % 8], device=table.device))[0]
    return replace(
        features,
        descriptors=steered.cpu().numpy(),
        device_descriptors=None if device is None else steered,
        link=None,
    )


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
