"""The ranges of a network's activations on images, which 8-bit arithmetic needs to know beforehand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from superpoint_ros.extraction.network import CELL, ENCODER, Layer, SuperPointNet

Ranges = dict[str, tuple[float, float]]
"""Least and greatest input of the convolution of each name, such as "1b"."""

QUANTISED = (*ENCODER[1:], "Pa", "Da")
"""The convolutions worth computing in 8 bits. The first and the heads' last take no time and cost accuracy."""

_TAIL = 1e-4
_SPARSE = 7  # every seventh value tells as much as all


@torch.inference_mode()
def calibrate(network: SuperPointNet, pictures: Iterable[NDArray[np.uint8]]) -> Ranges:
    """The ranges on grey images (H, W), at least 16 x 16; twenty of what the camera will see are enough.

    The outermost ten thousandth of an image's values on either side is left out, and images are averaged: steps that
    fit the many are worth more than the few that are cut.

    Raises:
        ValueError: if there is no image.
    """
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in QUANTISED}

    def watch(name: str) -> Any:
        def note(module: Any, inputs: tuple[Tensor, ...]) -> None:
            values = inputs[0].flatten()[::_SPARSE].sort().values
            last = len(values) - 1
            seen[name].append((values[round(last * _TAIL)].item(), values[round(last * (1 - _TAIL))].item()))

        return note

    layers = {name: cast(Layer, network.get_submodule(f"conv{name}")) for name in QUANTISED}
    hooks = [layer.conv.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
    try:
        for picture in pictures:
            height, width = (side // CELL * CELL for side in picture.shape)
            network(torch.from_numpy(picture[:height, :width].copy())[None, None].float() / 255)
    finally:
        for hook in hooks:
            hook.remove()
    if not seen[QUANTISED[0]]:
        raise ValueError("there is no image to calibrate with, needed is at least one")
    return {name: (float(np.mean([low for low, _ in both])), float(np.mean([high for _, high in both])))
            for name, both in seen.items()}  # fmt: skip
