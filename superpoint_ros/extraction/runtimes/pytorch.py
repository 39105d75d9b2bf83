"""Run the network in PyTorch, channels-last, in the chosen precision."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from superpoint_ros.extraction.decoding import heatmap
from superpoint_ros.extraction.network import SuperPointNet
from superpoint_ros.extraction.runtimes import PRECISIONS, choose_precision


class PyTorchRuntime:
    """A `Runtime` on any device of PyTorch."""

    name = "pytorch"

    def __init__(self, network: SuperPointNet, device: torch.device, precision: str = "auto") -> None:
        self.device = device
        self.precision = choose_precision(precision, device)
        self._dtype = PRECISIONS[self.precision]
        network = copy.deepcopy(network).eval().requires_grad_(False)
        network = network.to(device, self._dtype)
        self._network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        batch = images.to(self.device, non_blocking=True).to(self._dtype).div_(255)
        logits, descriptors = self._network(batch.contiguous(memory_format=torch.channels_last))
        return heatmap(logits), descriptors
