"""The network's layers as NumPy arrays, for runtimes that build their own graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from superpoint_ros.extraction.network import ENCODER, Layer, SuperPointNet, fold_batch_norm

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Convolution:
    """A convolution with the operations after it, in this order: bias, ReLU, scale and shift, 2 x 2 max pooling.

    Attributes:
        name: as in the paper's code, such as "1a".
        weight: (O, I, k, k), zero padding of k // 2.
        bias: (O,).
        scale, shift: (O,), or None if there is no batch normalisation after the ReLU.
    """

    name: str
    weight: Array
    bias: Array
    relu: bool
    scale: Array | None
    shift: Array | None
    pool: bool


@dataclass(frozen=True)
class Layers:
    """The encoder and the two heads. The input is grey in 0..255: the first layer includes the division by 255."""

    encoder: tuple[Convolution, ...]
    detector: tuple[Convolution, ...]
    descriptor: tuple[Convolution, ...]


@torch.no_grad()
def layers(network: SuperPointNet) -> Layers:
    """Extract the layers of a network."""
    if network.architecture.norm == "before_relu":
        network = fold_batch_norm(network)
    encoder = [_convolution(network, name, pool=name in ("1b", "2b", "3b")) for name in ENCODER]
    # bfloat16 represents the integers 0..255 exactly, but would round them after a division by 255.
    first = encoder[0]
    encoder[0] = Convolution(**{**vars(first), "weight": first.weight / np.float32(255)})
    heads = [
        tuple(_convolution(network, name, relu=name[1] == "a") for name in names)
        for names in (("Pa", "Pb"), ("Da", "Db"))
    ]
    return Layers(tuple(encoder), *heads)


def _convolution(network: SuperPointNet, name: str, relu: bool = True, pool: bool = False) -> Convolution:
    layer = cast(Layer, network.get_submodule(f"conv{name}"))
    scale = shift = None
    if layer.norm is not None:
        mean, variance = cast(Tensor, layer.norm.running_mean), cast(Tensor, layer.norm.running_var)
        factor = layer.norm.weight.double() / torch.sqrt(variance.double() + layer.norm.eps)
        scale, shift = _to_array(factor), _to_array(layer.norm.bias.double() - mean.double() * factor)
    return Convolution(
        name, _to_array(layer.conv.weight), _to_array(cast(Tensor, layer.conv.bias)), relu, scale, shift, pool
    )


def _to_array(tensor: Tensor) -> Array:
    return np.ascontiguousarray(tensor.detach().cpu().float().numpy())
