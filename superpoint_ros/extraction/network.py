"""The SuperPoint network (DeTone et al., 2018, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import torch
from torch import Tensor, nn

CELL = 8
"""Side of a cell in pixels: three 2 x 2 poolings."""

ENCODER = ("1a", "1b", "2a", "2b", "3a", "3b", "4a", "4b")
HEADS = ("Pa", "Pb", "Da", "Db")

POOLED = ("1b", "2b", "3b")
"""Encoder layers followed by 2 x 2 max pooling."""

Norm = Literal["none", "before_relu", "after_relu"]


@dataclass(frozen=True)
class Architecture:
    """The sizes of a SuperPoint network; the defaults are the paper's.

    `norm` is the position of batch normalisation: none (the paper's form), between convolution and ReLU
    (training in this package, folded away on saving), or after the ReLU (rpautrat's port). `ordered` tells that the
    components of descriptors are ordered by their energy in each of four blocks (see `shortening`).
    """

    encoder: tuple[int, ...] = (64, 64, 64, 64, 128, 128, 128, 128)
    detector: int = 256
    descriptor: int = 256
    descriptor_size: int = 256
    norm: Norm = "none"
    ordered: bool = False


class Layer(nn.Module):
    """A convolution with optional batch normalisation and ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, norm: Norm, relu: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3) if norm != "none" else None
        self.relu = nn.ReLU(inplace=True) if relu else nn.Identity()
        self.norm_last = norm == "after_relu"

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.norm is None:
            return self.relu(x)
        return self.norm(self.relu(x)) if self.norm_last else self.relu(self.norm(x))


class SuperPointNet(nn.Module):
    """A shared encoder with a detector head and a descriptor head.

    Input is (B, 1, H, W) grey in 0..1 with H and W multiples of 8.
    """

    def __init__(self, architecture: Architecture | None = None) -> None:
        super().__init__()
        self.architecture = a = architecture or Architecture()
        inputs = 1
        for name, outputs in zip(ENCODER, a.encoder, strict=True):
            self.add_module(f"conv{name}", Layer(inputs, outputs, 3, a.norm, relu=True))
            inputs = outputs
        # Normalised logits learn only slowly that most cells contain no keypoint; rpautrat's port has them.
        last: Norm = "none" if a.norm == "before_relu" else a.norm
        self.convPa = Layer(inputs, a.detector, 3, a.norm, relu=True)
        self.convPb = Layer(a.detector, CELL * CELL + 1, 1, last, relu=False)
        self.convDa = Layer(inputs, a.descriptor, 3, a.norm, relu=True)
        self.convDb = Layer(a.descriptor, a.descriptor_size, 1, last, relu=False)
        self.pool = nn.MaxPool2d(2)

    def encode(self, image: Tensor, layers: Sequence[str] = ENCODER) -> Tensor:
        """Encode (B, 1, H, W) images as (B, C, H/8, W/8) features, or carry out some of the encoder's layers."""
        x = image
        for name in layers:
            x = self.get_submodule(f"conv{name}")(x)
            if name in POOLED:
                x = self.pool(x)
        return x

    def detect(self, encoded: Tensor) -> Tensor:
        """Map encoded features to (B, 65, H/8, W/8) logits; the last bin means "no keypoint in this cell"."""
        return self.convPb(self.convPa(encoded))

    def describe(self, encoded: Tensor) -> Tensor:
        """Map encoded features to (B, D, H/8, W/8) descriptors, not normalised (section 3.3)."""
        return self.convDb(self.convDa(encoded))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Compute logits (B, 65, H/8, W/8) and descriptors (B, D, H/8, W/8) of (B, 1, H, W) images."""
        encoded = self.encode(image)
        return self.detect(encoded), self.describe(encoded)


def receptive_margin() -> int:
    """Compute how far a cell's receptive field extends beyond the cell, in pixels."""
    reach, stride = 0, 1
    for name in ENCODER:
        reach += stride  # a kernel of 3 x 3
        stride *= 2 if name in POOLED else 1
    return reach + stride  # the heads' first layers; their last have kernels of 1 x 1


def fold_batch_norm(network: SuperPointNet) -> SuperPointNet:
    """Return a copy in the paper's form, with batch normalisation folded into the convolutions.

    Raises:
        ValueError: if the normalisation follows the ReLU, where zero padding makes folding inexact.
    """
    a = network.architecture
    if a.norm == "after_relu":
        raise ValueError("batch normalisation after the ReLU cannot be folded exactly, only normalisation before it")
    plain = SuperPointNet(replace(a, norm="none"))
    with torch.no_grad():
        for name in ENCODER + HEADS:
            source = cast(Layer, network.get_submodule(f"conv{name}"))
            target = cast(Layer, plain.get_submodule(f"conv{name}"))
            weight, bias = source.conv.weight.double(), cast(Tensor, source.conv.bias).double()
            if source.norm is not None:
                bn = source.norm
                mean, variance = cast(Tensor, bn.running_mean).double(), cast(Tensor, bn.running_var).double()
                scale = bn.weight.double() / torch.sqrt(variance + bn.eps)
                weight = weight * scale[:, None, None, None]
                bias = (bias - mean) * scale + bn.bias.double()
            target.conv.weight.copy_(weight)
            cast(Tensor, target.conv.bias).copy_(bias)
    return plain.eval()
