"""Shorter descriptors: the leading components of each block of descriptors whose components are ordered.

Half or a quarter of the components tell points apart nearly as well, and take half or a quarter of the messages and of
the time to match. Components are ordered by `superpoint_ros.training.steering`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from superpoint_ros.extraction.network import Layer, SuperPointNet
from superpoint_ros.two_view.steering import BLOCKS


def shorten(network: SuperPointNet, size: int) -> SuperPointNet:
    """Return a network whose descriptors have `size` components, and which shares all other layers; 0 for all.

    Raises:
        ValueError: if the size is neither 0 nor that of the network, and is not a smaller multiple of four or the
            components are not ordered.
    """
    a = network.architecture
    whole = a.descriptor_size
    if size in (0, whole):
        return network
    if not a.ordered:
        raise ValueError(
            f"descriptor_size is {size}, allowed with these weights is 0 or {whole}: the components of their "
            "descriptors are not ordered (superpoint-ros train steer orders them)"
        )
    if not 0 < size < whole or size % BLOCKS:
        raise ValueError(
            f"descriptor_size is {size}, allowed with these weights is 0 or a multiple of {BLOCKS} up to {whole}"
        )
    result = SuperPointNet(replace(a, descriptor_size=size))
    for name, module in network.named_children():
        if name != "convDb":
            setattr(result, name, module)
    source, target = (cast(Layer, one.convDb).conv for one in (network, result))
    leading = torch.arange(size // BLOCKS).repeat(BLOCKS) + torch.arange(BLOCKS).repeat_interleave(size // BLOCKS) * (
        whole // BLOCKS
    )
    with torch.no_grad():
        target.weight.copy_(source.weight[leading])
        cast(Tensor, target.bias).copy_(cast(Tensor, source.bias)[leading])
    return result.train(network.training)
