"""Steerable descriptors: a quarter turn of the image shifts their four blocks by one (`train` with loss.steerable)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCKS = 4
"""Number of blocks of a descriptor, one for each direction."""


def check_steerable(descriptor_size: int, purpose: str) -> None:
    """Raise a `ValueError` if descriptors of this size have no four equal blocks, which `purpose` needs."""
    if descriptor_size % BLOCKS:
        raise ValueError(
            f"descriptors have {descriptor_size} components, allowed for {purpose} is a multiple of {BLOCKS}"
        )


def steered_back(descriptors: Tensor, eighths: Tensor) -> Tensor:
    """Steer the descriptors of rotated images back to upright; between two quarter turns they are the mean of both.

    Args:
        descriptors: (B, P, D), D a multiple of four.
        eighths: (B,) int64, rotation of each image in eighths of a turn, clockwise on the screen.

    Returns:
        (B, P, D) of unit length.
    """
    size = descriptors.shape[-1]
    place = torch.arange(size, device=descriptors.device)
    first, second = (
        descriptors.gather(2, ((place + quarters[:, None] * (size // BLOCKS)) % size)[:, None].expand_as(descriptors))
        for quarters in (eighths // 2, (eighths + 1) // 2)
    )
    return F.normalize(first + second, dim=2)
