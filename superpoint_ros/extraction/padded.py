"""Pad the features of a batch of images to tensors with a mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from superpoint_ros.features import Features


@dataclass(frozen=True, eq=False)
class PaddedFeatures:
    """Features of B images, padded to the largest number K of keypoints in any of them.

    Padding follows the keypoints, is 0, and is marked by the mask. All tensors are on the network's device.

    Attributes:
        keypoints: (B, K, 2) float32, x right, y down, in pixels of the image; the centre of the top-left pixel is
            (0, 0).
        scores: (B, K) float32 detection probabilities, descending.
        descriptors: (B, K, D) float32 of unit length.
        mask: (B, K) bool, true where there is a keypoint.
        image_sizes: (B, 2) int64, (height, width) in pixels.
    """

    keypoints: Tensor
    scores: Tensor
    descriptors: Tensor
    mask: Tensor
    image_sizes: Tensor

    def __len__(self) -> int:
        """Return B, the number of images."""
        return len(self.mask)


def pad(features: Sequence[Features], descriptor_size: int, device: torch.device) -> PaddedFeatures:
    """Pad features with different numbers of keypoints to tensors of one shape on `device`; accepts an empty batch."""
    count = max(map(len, features), default=0)
    shape = (len(features), count)
    padded = PaddedFeatures(
        torch.zeros((*shape, 2), device=device),
        torch.zeros(shape, device=device),
        torch.zeros((*shape, descriptor_size), device=device),
        torch.zeros(shape, dtype=torch.bool, device=device),
        torch.tensor([each.image_size for each in features], dtype=torch.int64, device=device).reshape(-1, 2),
    )
    for index, each in enumerate(features):
        taken = slice(len(each))
        # Descriptors still on the device need no transfer.
        found = each.device_descriptors if each.device_descriptors is not None else torch.from_numpy(each.descriptors)
        padded.keypoints[index, taken] = torch.from_numpy(each.keypoints).to(device)
        padded.scores[index, taken] = torch.from_numpy(each.scores).to(device)
        padded.descriptors[index, taken] = found.to(device)
        padded.mask[index, taken] = True
    return padded
