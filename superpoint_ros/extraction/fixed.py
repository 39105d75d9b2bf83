"""Feature extraction as one module with fixed shapes, for export and CUDA graphs."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from superpoint_ros.extraction.decoding import Decoding, decode_fixed, heatmap
from superpoint_ros.extraction.network import CELL, SuperPointNet


class FixedExtractor(nn.Module):
    """Map (B, 1, H, W) grey uint8 to keypoints, scores, descriptors and count, without data-dependent shapes.

    Args:
        network: it is copied.
        settings: K is `max_keypoints` or, if smaller, the number of pixels.
        size: (height, width) of the images; anything beyond is padding without keypoints. Images whose sides are not
            multiples of 8 are padded here by replication.
        dtype: of the convolutions; heat map and coordinates are always float32.
    """

    def __init__(
        self, network: SuperPointNet, settings: Decoding, size: tuple[int, int], dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        network = copy.deepcopy(network).eval().requires_grad_(False).to(dtype=dtype)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.settings, self.size, self.dtype = settings, size, dtype

    def forward(self, images: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Extract features, of which only the first `count` entries of each image are used.

        Args:
            mask: (B, height, width) float32, 0 for pixels without keypoints and 1 for the others.

        Returns:
            keypoints (B, K, 2) float32 as (x, y), scores (B, K) float32 descending, descriptors (B, K, D) float32 of
            unit length, and count (B,) int64.
        """
        height, width = self.size
        right, bottom = -images.shape[3] % CELL, -images.shape[2] % CELL
        x = images.to(self.dtype) / 255
        if right or bottom:
            x = F.pad(x, (0, right, 0, bottom), mode="replicate")
        logits, maps = self.network(x.contiguous(memory_format=torch.channels_last))
        heat = heatmap(logits)[:, :height, :width].contiguous()
        if mask is not None:
            heat = heat * mask
        keypoints, scores, descriptors = decode_fixed(heat, maps, images, self.settings)
        return keypoints, scores, descriptors, (scores > 0).sum(dim=1)
