"""Decode heat maps and descriptor maps into keypoints, scores and descriptors, in batches of fixed shapes.

Output shapes depend on input shapes only, never on the data: a score of 0 marks unused entries instead of a varying
count. So everything can be exported or captured in a CUDA graph. On CPUs, where reading less memory is what counts,
`decoding_cpu` takes over.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from superpoint_ros.compute.blas import one_thread
from superpoint_ros.extraction import corners, decoding_cpu
from superpoint_ros.extraction.decoding_cpu import Buffers, Margins
from superpoint_ros.extraction.network import CELL

ROUNDS = 3
"""Rounds of non-maximum suppression, see `suppress`."""

REACH = 2
"""Radius of the window of `refine`, in pixels."""


@dataclass(frozen=True)
class Decoding:
    """Settings for selecting keypoints from the heat map.

    Attributes:
        max_keypoints: maximum number of keypoints per image.
        nms_radius: no two keypoints lie within this Chebyshev distance of each other, in pixels.
        detection_threshold: keypoints have a probability above this.
        border: width of the image border without keypoints, in pixels.
        subpixel: refine positions to fractions of a pixel, on the heat map and then on the image.
    """

    max_keypoints: int = 1000
    nms_radius: int = 4
    detection_threshold: float = 0.005
    border: int = 4
    subpixel: bool = True


def heatmap(logits: Tensor) -> Tensor:
    """Turn (B, 65, H/8, W/8) logits into (B, H, W) float32 keypoint probabilities (paper, section 3.2)."""
    probability = torch.softmax(logits.float(), dim=1)[:, :-1]
    return F.pixel_shuffle(probability, CELL).squeeze(1)


def _window_max(x: Tensor, radius: int) -> Tensor:
    """Compute the maximum of (B, H, W) float32 over a square window around each pixel."""
    size = 2 * radius + 1
    # Two 1D passes cost a fraction of one 2D pass.
    rows = F.max_pool2d(x.unsqueeze(1), (1, size), stride=1, padding=(0, radius))
    return F.max_pool2d(rows, (size, 1), stride=1, padding=(radius, 0)).squeeze(1)


def _local_maxima(scores: Tensor, radius: int) -> Tensor:
    """Mark positive scores that are the maximum of their window; the first in row-major order wins a tie."""
    peak = (scores > 0) & (scores == _window_max(scores, radius))
    height, width = scores.shape[-2:]
    # Counting down from the end of the image keeps 0 free for "no peak" (exact in float32 up to 16 megapixels).
    rank = torch.arange(height * width, 0, -1, device=scores.device, dtype=torch.float32).view(height, width)
    rank = torch.where(peak, rank, torch.zeros_like(rank))
    return peak & (rank == _window_max(rank, radius))


def suppress(scores: Tensor, radius: int, rounds: int = ROUNDS) -> Tensor:
    """Apply non-maximum suppression to (B, H, W) scores: all but local maxima become 0.

    As in greedy suppression, each round keeps the local maxima that are not within `radius` of one kept before; chains
    of more than `rounds` overlapping windows, which are rare, lose their weakest members.
    """
    if radius == 0:
        return scores
    kept = _local_maxima(scores, radius)
    for _ in range(rounds - 1):
        covered = _window_max(kept.float(), radius) > 0
        kept = kept | _local_maxima(torch.where(covered, torch.zeros_like(scores), scores), radius)
    return torch.where(kept, scores, torch.zeros_like(scores))


def select_peaks(heat: Tensor, settings: Decoding) -> tuple[Tensor, Tensor]:
    """Select the best K local maxima of (B, H, W) heat maps.

    Returns:
        positions (B, K, 2) int64 as (x, y), and scores (B, K) float32 descending; a score of 0 marks an unused entry.
        K is `max_keypoints`, or the number of pixels where that is less.
    """
    if _use_cpu_decoder(heat):
        return _select_cpu(heat, settings)
    return _select_fixed(heat, settings)


def _select_fixed(heat: Tensor, settings: Decoding, margins: Margins | None = None) -> tuple[Tensor, Tensor]:
    batch, height, width = heat.shape
    scores = torch.where(heat > settings.detection_threshold, heat, torch.zeros_like(heat))
    scores = suppress(scores, settings.nms_radius)
    top, left, bottom, right = margins = margins or (settings.border,) * 4
    if any(margins):
        inside = torch.zeros_like(scores)
        inside[:, top : height - bottom, left : width - right].fill_(1)
        scores = scores * inside
    best, index = torch.topk(scores.view(batch, -1), min(settings.max_keypoints, height * width), dim=1)
    return torch.stack((index % width, index // width), dim=-1), best


def _use_cpu_decoder(x: Tensor) -> bool:
    """Tell whether to use the CPU decoder: not on a GPU, and not while the function is traced."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling() and not torch.jit.is_tracing()


def _select_cpu(heat: Tensor, settings: Decoding) -> tuple[Tensor, Tensor]:
    batch, height, width = heat.shape
    limit = min(settings.max_keypoints, height * width)
    positions, scores = torch.zeros(batch, limit, 2, dtype=torch.int64), torch.zeros(batch, limit)
    for image, place, score in zip(heat.contiguous().numpy(), positions.numpy(), scores.numpy(), strict=True):
        found = _peaks_cpu(image, settings)
        place[: len(found[0])], score[: len(found[1])] = found
    return positions, scores


def _peaks_cpu(
    heat: decoding_cpu.Map, settings: Decoding, buffers: Buffers | None = None, margins: Margins | None = None
) -> tuple[decoding_cpu.Indices, decoding_cpu.Map]:
    s, border = settings, margins or settings.border
    return decoding_cpu.select_peaks(
        heat, s.max_keypoints, s.nms_radius, s.detection_threshold, border, ROUNDS, buffers
    )


def refine(heat: Tensor, positions: Tensor, radius: int = REACH) -> Tensor:
    """Move each position to the heat map's centre of mass in a window: (B, H, W), (B, K, 2) -> (B, K, 2) float32.

    The window is clipped at the image border; the result stays within a pixel of the position. Peaks much wider than
    the window (standard deviation above a pixel) are pulled towards the position.
    """
    batch, height, width = heat.shape
    offset = torch.arange(-radius, radius + 1, device=heat.device)
    x = positions[..., 0, None, None] + offset[None, :]
    y = positions[..., 1, None, None] + offset[:, None]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    flat = (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).view(batch, -1)
    window = heat.view(batch, -1).gather(1, flat).view(inside.shape)
    window = torch.where(inside, window, torch.zeros_like(window))
    mass = window.sum(dim=(-2, -1)).clamp_min(1e-12)
    step = offset.float()
    dx = (window.sum(dim=-2) * step).sum(dim=-1) / mass
    dy = (window.sum(dim=-1) * step).sum(dim=-1) / mass
    return positions.float() + torch.stack((dx, dy), dim=-1).clamp(-1, 1)


def sample(descriptors: Tensor, keypoints: Tensor) -> Tensor:
    """Sample unit descriptors at keypoints: (B, D, H/8, W/8), (B, K, 2) in padded-image pixels -> (B, K, D) float32.

    Interpolates bilinearly between cell centres, which are at 8 i + 3.5 if pixel centres are integers.
    """
    rows, columns = descriptors.shape[-2:]
    x, y = keypoints[..., 0] + 0.5, keypoints[..., 1] + 0.5
    grid = torch.stack((x / (columns * CELL) * 2 - 1, y / (rows * CELL) * 2 - 1), dim=-1).unsqueeze(1)
    unit = F.normalize(descriptors.float(), dim=1)
    sampled = F.grid_sample(unit, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return F.normalize(sampled.squeeze(2), dim=1).transpose(1, 2)


def decode(
    logits: Tensor, descriptors: Tensor, images: Tensor, size: tuple[int, int], settings: Decoding
) -> tuple[Tensor, Tensor, Tensor]:
    """Decode network output into keypoints (B, K, 2), scores (B, K) descending, descriptors (B, K, D), all float32.

    Args:
        logits: (B, 65, H/8, W/8).
        descriptors: (B, D, H/8, W/8).
        images: (B, 1, H, W) uint8 input of the network, on the same device.
        size: (height, width) of the images before padding; nothing is found in the padding.

    Entries with score 0 are unused; their other values are undefined.
    """
    return decode_maps(heatmap(logits), descriptors, images, size, settings)


def decode_maps(
    heat: Tensor,
    descriptors: Tensor,
    images: Tensor,
    size: tuple[int, int],
    settings: Decoding,
    buffers: Buffers | None = None,
    margins: Margins | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Decode as `decode` does, but from the (B, H, W) float32 heat map; on a CPU, reuse `buffers`.

    `margins` (top, left, bottom, right), in which there are no keypoints, replace the border of the settings.
    """
    height, width = size
    heat = heat[:, :height, :width].contiguous()
    if _use_cpu_decoder(heat):
        return _decode_cpu(heat, descriptors, images, settings, buffers, margins)
    return decode_fixed(heat, descriptors, images, settings, margins)


def decode_fixed(
    heat: Tensor, descriptors: Tensor, images: Tensor, settings: Decoding, margins: Margins | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Decode as `decode_maps` does, with fixed tensor shapes on any device. `heat` has no padding."""
    positions, scores = _select_fixed(heat, settings, margins)
    keypoints = corners.corner_step(images, refine(heat, positions)) if settings.subpixel else positions.float()
    return keypoints, scores, sample(descriptors, keypoints)


@one_thread()
def _decode_cpu(
    heat: Tensor,
    descriptors: Tensor,
    images: Tensor,
    settings: Decoding,
    buffers: Buffers | None,
    margins: Margins | None,
) -> tuple[Tensor, Tensor, Tensor]:
    shape = len(heat), min(settings.max_keypoints, heat[0].numel())
    keypoints, scores = np.zeros((*shape, 2), np.float32), np.zeros(shape, np.float32)
    sampled = np.zeros((*shape, descriptors.shape[1]), np.float32)
    frames = zip(heat.numpy(), descriptors.float().numpy(), images.numpy(), strict=True)
    for index, (map_, cells, image) in enumerate(frames):
        places, found = _peaks_cpu(map_, settings, buffers, margins)
        points = places.astype(np.float32)
        if settings.subpixel:
            points = corners.corner_step_cpu(image[0], decoding_cpu.refine(map_, places, REACH))
        used = slice(len(found))
        keypoints[index, used], scores[index, used] = points, found
        decoding_cpu.sample(cells, points, CELL, sampled[index, used])
    return torch.from_numpy(keypoints), torch.from_numpy(scores), torch.from_numpy(sampled)
