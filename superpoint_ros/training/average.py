"""Exponential moving average of a network's weights while it is trained."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Average:
    """A network that follows the trained one slowly; it is evaluated and saved in its place.

    Parameters and the running statistics of batch normalisation alike are means over about 1 / (1 - decay) steps, over
    fewer in the beginning, so that it does not hold on to the start (as in TensorFlow's ExponentialMovingAverage).

    Attributes:
        module: the averaged network.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).requires_grad_(False).eval()
        self._decay = decay

    @torch.no_grad()
    def follow(self, module: nn.Module, step: int) -> None:
        """Take in the weights of the trained network after optimiser step number `step`, from 0."""
        share = 1 - min(self._decay, (1 + step) / (10 + step))
        for mean, now in zip(self.module.state_dict().values(), module.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(now, share)
            else:
                mean.copy_(now)
