"""Photometric augmentation in batches on the training device: lighting, lens blur, sensor noise and compression."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

_KERNEL = 13
# Luminance quantisation of the JPEG standard (ITU-T T.81, table K.1).
_JPEG_STEPS = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip


@dataclass(frozen=True)
class Photometric:
    """Probability of each augmentation; all 0 leaves images unchanged.

    Attributes:
        light: gamma, gain and offset.
        dark: low light, with photon noise.
        shade: soft dark or bright patches, as from shadows and lamps.
        blur: defocus.
        motion: linear motion blur.
        noise: Gaussian sensor noise.
        jpeg: JPEG compression with a quality of 20 to 85.
    """

    light: float = 0.7
    dark: float = 0.08
    shade: float = 0.15
    blur: float = 0.25
    motion: float = 0.15
    noise: float = 0.5
    jpeg: float = 0.15

    __pydantic_config__: ClassVar = {"extra": "forbid"}


class _Random:
    """Random numbers for each image of a batch, from one generator."""

    def __init__(self, images: Tensor, generator: torch.Generator) -> None:
        self.shape, self.device, self.generator = (len(images), 1, 1, 1), images.device, generator

    def uniform(self, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(self.shape, device=self.device, generator=self.generator)

    def normal(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, device=self.device, generator=self.generator)

    def bernoulli(self, probability: float) -> Tensor:
        return torch.rand(self.shape, device=self.device, generator=self.generator) < probability


def augment(images: Tensor, generator: torch.Generator, settings: Photometric | None = None) -> Tensor:
    """Augment (B, 1, H, W) float grey images in 0..1, each in its own way; results are multiples of 1/255."""
    rates = settings or Photometric()
    random = _Random(images, generator)
    changed = torch.where(random.bernoulli(rates.light), _light(images, random), images)
    changed = torch.where(random.bernoulli(rates.shade), _shade(changed, random), changed)
    changed = _blur(changed, random, rates)
    changed = torch.where(random.bernoulli(rates.dark), _dark(changed, random), changed)
    sensor = changed + random.normal(changed) * random.uniform(1, 14) / 255
    changed = torch.where(random.bernoulli(rates.noise), sensor, changed)
    changed = (changed.clamp(0, 1) * 255).round() / 255
    chosen, quality = random.bernoulli(rates.jpeg), random.uniform(20, 85)
    if images.device.type != "cpu":  # which would have to be waited for
        return torch.where(chosen, _jpeg(changed, quality), changed)
    used = chosen.flatten()
    changed[used] = _jpeg(changed[used], quality[used])
    return changed


def augment_image(image: NDArray[np.uint8], seed: int, settings: Photometric | None = None) -> NDArray[np.uint8]:
    """Augment one (H, W) uint8 image as `augment` does."""
    tensor = torch.tensor(image)[None, None].float() / 255
    changed = augment(tensor, torch.Generator().manual_seed(seed), settings)
    return np.asarray((changed[0, 0] * 255).round().byte().numpy())


def _light(images: Tensor, random: _Random) -> Tensor:
    gamma = torch.exp(0.35 * random.normal(images[:, :, :1, :1]))
    lit = images.clamp(0, 1) ** gamma * random.uniform(0.5, 1.3) + random.uniform(-0.12, 0.16)
    return lit.clamp(0, 1)


def _shade(images: Tensor, random: _Random) -> Tensor:
    coarse = torch.rand(len(images), 1, 3, 3, device=images.device, generator=random.generator) * 0.9 + 0.4
    shade = F.interpolate(coarse, images.shape[-2:], mode="bicubic", align_corners=True)
    return (images * shade).clamp(0, 1)


def _blur(images: Tensor, random: _Random, rates: Photometric) -> Tensor:
    """Convolve each image with its own kernel: defocus, motion blur, or identity."""
    choice = random.uniform(0, 1)
    focus, motion = choice < rates.blur, choice > 1 - rates.motion
    offset = torch.arange(_KERNEL, device=images.device, dtype=torch.float32) - _KERNEL // 2
    y, x = torch.meshgrid(offset, offset, indexing="ij")
    still = ((x == 0) & (y == 0)).float()
    gaussian = torch.exp(-(x**2 + y**2) / (2 * random.uniform(0.4, 1.6) ** 2))
    angle, half = random.uniform(0, math.pi), random.uniform(1.0, 5.5)
    along, aside = x * torch.cos(angle) + y * torch.sin(angle), y * torch.cos(angle) - x * torch.sin(angle)
    line = (1 - aside.abs()).clamp(0, 1) * (half + 0.5 - along.abs()).clamp(0, 1)
    kernels = torch.where(focus, gaussian, torch.where(motion, line, still))
    kernels = kernels / kernels.sum(dim=(-2, -1), keepdim=True)
    margin = _KERNEL // 2
    padded = F.pad(images, (margin, margin, margin, margin), mode="replicate").transpose(0, 1)
    return F.conv2d(padded, kernels, groups=len(images)).transpose(0, 1)


def _dark(images: Tensor, random: _Random) -> Tensor:
    dim = images * random.uniform(0.05, 0.35)
    photons = random.uniform(300, 3000)
    return dim + torch.sqrt(dim.clamp_min(0) / photons) * random.normal(images) + random.normal(images) * 0.008


def _jpeg(images: Tensor, quality: Tensor) -> Tensor:
    """The loss of JPEG compression of grey images without the coding that loses nothing; quality is (B, 1, 1, 1)."""
    height, width = images.shape[-2:]
    padded = F.pad(images, (0, -width % 8, 0, -height % 8), mode="replicate") * 255 - 128
    index = torch.arange(8, device=images.device, dtype=torch.float32)
    cosine = torch.cos((2 * index + 1) * index[:, None] * math.pi / 16) / 2
    cosine[0] /= math.sqrt(2)
    blocks = padded.unfold(2, 8, 8).unfold(3, 8, 8)
    # libjpeg's mapping of quality to quantisation steps.
    quality = quality[..., None, None]
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50)
    steps = (torch.tensor(_JPEG_STEPS, device=images.device) * scale).round().clamp(1, 255)
    kept = torch.round(cosine @ blocks @ cosine.T / steps) * steps
    restored = (cosine.T @ kept @ cosine).permute(0, 1, 2, 4, 3, 5).reshape(padded.shape)
    return ((restored[..., :height, :width] + 128).round().clamp(0, 255)) / 255
