"""SuperPoint in plain PyTorch and float32, as it is commonly run: the baseline of the benchmark.

It uses the default memory layout, a dense heat map, suppression by square max-pooling, and decodes one image at a
time. With the same weights it finds the same keypoints as this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from superpoint_ros.benchmark.scene import Image
from superpoint_ros.extraction.decoding import Decoding
from superpoint_ros.extraction.network import CELL, ENCODER, HEADS, Layer, SuperPointNet, fold_batch_norm
from superpoint_ros.features import Features


class PlainNetwork(nn.Module):
    """The paper's network: (B, 1, H, W) grey in 0..1 -> logits (B, 65, H/8, W/8), descriptors (B, D, H/8, W/8)."""

    def __init__(self, network: SuperPointNet) -> None:
        super().__init__()
        source = fold_batch_norm(network)
        for name in ENCODER + HEADS:
            theirs = cast(Layer, source.get_submodule(f"conv{name}")).conv
            ours = nn.Conv2d(theirs.in_channels, theirs.out_channels, theirs.kernel_size[0], padding=theirs.padding[0])
            ours.load_state_dict(theirs.state_dict())
            self.add_module(name, ours)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for name in ENCODER:
            x = F.relu(self.get_submodule(name)(x))
            if name in ("1b", "2b", "3b"):
                x = F.max_pool2d(x, 2, 2)
        heads = (self.get_submodule(f"{head}b")(F.relu(self.get_submodule(f"{head}a")(x))) for head in "PD")
        logits, descriptors = heads
        return logits, F.normalize(descriptors, dim=1)


class PlainSuperPoint:
    """Feature extraction with `PlainNetwork`.

    Raises:
        ValueError: if the network has batch normalisation after its ReLUs.
    """

    def __init__(self, network: SuperPointNet, settings: Decoding, device: torch.device) -> None:
        self._network = PlainNetwork(network).eval().requires_grad_(False).to(device)
        self._settings, self._device = settings, device

    @torch.inference_mode()
    def extract(self, images: Sequence[Image]) -> list[Features]:
        """Extract features of (H, W, 3) BGR images of one size, cropped to multiples of 8."""
        height, width = (side // CELL * CELL for side in images[0].shape[:2])
        grey = np.stack([cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[:height, :width] for image in images])
        logits, descriptors = self._network(torch.from_numpy(grey)[:, None].to(self._device).float() / 255)
        heat = _to_heatmap(logits)
        scores = _suppress(heat, self._settings.nms_radius)
        size = images[0].shape[0], images[0].shape[1]
        return [self._select(*pair, size) for pair in zip(scores, descriptors, strict=True)]

    def _select(self, scores: Tensor, descriptors: Tensor, size: tuple[int, int]) -> Features:
        s = self._settings
        if b := s.border:
            scores[:b], scores[-b:], scores[:, :b], scores[:, -b:] = 0, 0, 0, 0
        rows, columns = torch.where(scores > s.detection_threshold)
        best, order = scores[rows, columns].topk(min(s.max_keypoints, len(rows)))
        points = torch.stack((columns[order], rows[order]), dim=1).float()
        cells = torch.tensor(descriptors.shape[:0:-1], device=points.device) * CELL
        grid = (points + 0.5) / cells * 2 - 1
        sampled = F.grid_sample(descriptors[None], grid[None, None], mode="bilinear", align_corners=False)
        found = F.normalize(sampled[0, :, 0], dim=0).T
        on_device = found if found.device.type != "cpu" else None
        return Features(points.cpu().numpy(), best.cpu().numpy(), found.cpu().numpy(), size, on_device)


def _to_heatmap(logits: Tensor) -> Tensor:
    """Convert (B, 65, h, w) logits to (B, 8 h, 8 w) probabilities."""
    batch, _, rows, columns = logits.shape
    cells = logits.softmax(1)[:, :-1].permute(0, 2, 3, 1).reshape(batch, rows, columns, CELL, CELL)
    return cells.permute(0, 1, 3, 2, 4).reshape(batch, rows * CELL, columns * CELL)


def _suppress(heat: Tensor, radius: int) -> Tensor:
    """Keep local maxima, and in two further rounds those outside the windows of maxima; set everything else to 0."""

    def window_max(x: Tensor) -> Tensor:
        return F.max_pool2d(x, 2 * radius + 1, stride=1, padding=radius)

    maxima = heat == window_max(heat)
    for _ in range(2):
        taken = window_max(maxima.float()) > 0
        rest = heat.masked_fill(taken, 0)
        maxima = maxima | ((rest == window_max(rest)) & ~taken)
    return heat.masked_fill(~maxima, 0)
