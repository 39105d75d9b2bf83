"""Measure the activation ranges of a network, which 8-bit arithmetic needs in advance."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from superpoint_ros.extraction.network import CELL, ENCODER, Layer, SuperPointNet

Ranges = dict[str, tuple[float, float]]
"""Minimum and maximum input of each convolution by name, such as "1b"."""

QUANTISED = (*ENCODER[1:], "Pa", "Da")
"""Convolutions worth quantising. The first one and the last of each head take little time but would cost accuracy."""

_TAIL = 1e-4
_SPARSE = 7  # every seventh value is enough


@torch.inference_mode()
def calibrate(network: SuperPointNet, images: Iterable[NDArray[np.uint8]]) -> Ranges:
    """Measure activation ranges on (H, W) grey images of at least 16 x 16; twenty typical ones are enough.

    The range of an image excludes the extreme 0.01 % of values at either end, and ranges are averaged over images:
    finer steps for most values outweigh clipping a few.

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
        for image in images:
            height, width = (side // CELL * CELL for side in image.shape)
            network(torch.from_numpy(image[:height, :width].copy())[None, None].float() / 255)
    finally:
        for hook in hooks:
            hook.remove()
    if not seen[QUANTISED[0]]:
        raise ValueError("there is no image to calibrate with, at least one is needed")
    return {name: (float(np.mean([low for low, _ in both])), float(np.mean([high for _, high in both])))
            for name, both in seen.items()}  # fmt: skip
