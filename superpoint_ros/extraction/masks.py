"""Masks: parts of an image in which no keypoints are wanted."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from superpoint_ros.features import Features, Mask


def masked_heat(heat: Tensor, masks: Sequence[Mask | None], size: tuple[int, int]) -> Tensor:
    """Set (B, H', W') heat maps to 0 where the masks, scaled to (height, width) `size`, are False.

    Masked peaks then neither count towards the maximum number of keypoints nor suppress their neighbours.
    """
    if all(mask is None for mask in masks):
        return heat
    heat = heat.clone()
    for one, mask in zip(heat, masks, strict=True):
        if mask is not None:
            one[: size[0], : size[1]] *= torch.from_numpy(scaled(mask, size).astype(np.float32)).to(one)
    return heat


def stacked(masks: Sequence[Mask | None], size: tuple[int, int]) -> Tensor | None:
    """Stack masks scaled to (height, width) `size` as (B, H, W) float32 on the CPU; None if there are none."""
    if all(mask is None for mask in masks):
        return None
    ones = np.ones(size, bool)
    shapes = [scaled(ones if mask is None else mask, size).astype(np.float32) for mask in masks]
    return torch.from_numpy(np.stack(shapes))


def padded_mask(mask: Mask, size: tuple[int, int], image: Tensor) -> Tensor:
    """Scale a mask to (height, width) `size` and pad it to a (..., H, W) image, as float32 on the CPU."""
    padded = torch.ones(image.shape[-2:])
    padded[: size[0], : size[1]] = torch.from_numpy(scaled(mask, size).astype(np.float32))
    return padded


def unmasked(points: NDArray[np.floating], mask: Mask | None) -> NDArray[np.bool_]:
    """Tell which (N, 2) pixels are not masked; pixels outside the image are."""
    if mask is None:
        return np.ones(len(points), bool)
    known = np.isfinite(points).all(axis=1)
    column, row = np.round(np.where(known[:, None], points, -1)).astype(np.int64).T
    inside = (column >= 0) & (row >= 0) & (column < mask.shape[1]) & (row < mask.shape[0])
    return inside & mask[np.where(inside, row, 0), np.where(inside, column, 0)]


def select_unmasked(features: Features, mask: Mask | None, count: int) -> Features:
    """Keep the best `count` keypoints that are not masked."""
    if mask is None and len(features) <= count:
        return features
    return features.select(np.flatnonzero(unmasked(features.keypoints, mask))[:count])


def scaled(mask: Mask, size: tuple[int, int]) -> Mask:
    """Scale a mask to (height, width) `size`."""
    if mask.shape == size:
        return mask
    return np.asarray(cv2.resize(mask.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST), bool)
