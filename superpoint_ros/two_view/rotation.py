"""The rotation between two images, from steerable descriptors: tell it, and steer descriptors back by it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from superpoint_ros.features import Features
from superpoint_ros.two_view.similarity import mutual_nearest_rows, similarities
from superpoint_ros.two_view.steering import BLOCKS, check_steerable, steered_back

ROTATIONS = ("upright", "any")
"""Rotations of the second image relative to the first, see `matching.match`."""

_PROBE = 256
"""Number of keypoints whose matches tell the rotation."""

_POWER = 3
"""Similarities count with this power, so that the many by chance do not."""


def check_rotation(rotation: str) -> None:
    """Raise a `ValueError` if a rotation is not one of `ROTATIONS`."""
    if rotation not in ROTATIONS:
        raise ValueError(f"rotation '{rotation}' is unknown, allowed is one of {', '.join(ROTATIONS)}")


def likely_rotation(first: Features, second: Features) -> int:
    """Find by how many eighths of a turn the second image is rotated, 0 to 7: where a few keypoints match best.

    One product of the probed keypoints, steered by the four quarter turns, serves all eight: between two quarter turns
    descriptors are the mean of both, so similarities are, too, but for the length of the mean.

    Raises:
        ValueError: if the descriptors differ in size, or their size is not divisible by four.
    """
    check_steerable(first.descriptors.shape[1], "rotation 'any'")
    check_same_size(first, second)
    if not len(first) or not len(second):
        return 0
    a, b = _tables(first, second)
    quarter = b.shape[1] // BLOCKS
    roll: Any = torch.roll if isinstance(b, Tensor) else np.roll
    probes = [roll(a, quarters * quarter, 1) for quarters in range(BLOCKS)]
    table: Any = torch.cat(probes) @ b.T if isinstance(b, Tensor) else similarities(np.concatenate(probes), b)
    between = (2 + 2 * (b * roll(b, quarter, 1)).sum(1)).clip(0) ** 0.5 + 1e-6
    cosines = {2 * quarters: table[quarters * len(a) : (quarters + 1) * len(a)] for quarters in range(BLOCKS)}
    found = {eighths: _support(one) for eighths, one in cosines.items()}
    best = max(found, key=lambda eighths: found[eighths])  # upright in a tie
    for one, other in pairwise((best - 2, best, best + 2)):
        mean = (cosines[one % 8] + cosines[other % 8]) / between
        found[(one + 1) % 8] = _support(mean)
    return max(found, key=lambda eighths: found[eighths])


def _tables(first: Features, second: Features) -> Any:
    """The descriptors of the best keypoints of the first image and all of the second, on the device if both are."""
    a, b = first.device_descriptors, second.device_descriptors
    if a is None or b is None or a.device != b.device:
        a, b = first.descriptors, second.descriptors
    return a[:_PROBE], b


def _support(cosines: Any) -> float:
    """Sum the powers of the similarities (N, M) of mutual nearest neighbours."""
    if isinstance(cosines, Tensor):
        best, forward = cosines.max(dim=1)
        backward = cosines.argmax(dim=0)
        mutual = backward[forward] == torch.arange(len(cosines), device=cosines.device)
        return float((best[mutual].clamp(-1, 1) ** _POWER).sum())
    columns, kept = mutual_nearest_rows(cosines)
    return float((cosines[kept, columns[kept]].clip(-1, 1) ** _POWER).sum())


def check_same_size(first: Features, second: Features) -> None:
    """Raise a `ValueError` if the descriptors of two images differ in size."""
    one, other = first.descriptors.shape[1], second.descriptors.shape[1]
    if one != other:
        raise ValueError(f"descriptors have {one} and {other} components, allowed is the same number in both images")


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
