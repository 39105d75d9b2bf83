"""Training of the descriptor head alone, which leaves encoder and detector as they are.

What the encoder makes of a pair stays the same during such a training, so it is kept, and used for several steps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from superpoint_ros.extraction.network import SuperPointNet
from superpoint_ros.training.motion import PAIR_KEYS, motion_of
from superpoint_ros.training.objectives import Batch, JointLoss, Losses, PairsObjective, seeded
from superpoint_ros.training.photometric import Photometric
from superpoint_ros.training.replay import Memory, Replay


class DescriptorOnly(nn.Module):
    """A network with all but its descriptor head frozen, batch statistics included: its detections stay the same.

    In training it returns the logits of the images, the descriptors of these and of earlier pairs, and their places.
    """

    def __init__(self, network: SuperPointNet, replay: Replay) -> None:
        super().__init__()
        self.network, self._replay, self._encoded = network, replay, Memory(replay.capacity)
        network.requires_grad_(False)
        for layer in (network.convDa, network.convDb):
            layer.requires_grad_(True)

    def train(self, mode: bool = True) -> DescriptorOnly:
        super().train(mode)
        self.network.eval()
        for layer in (self.network.convDa, self.network.convDb):
            layer.train(mode)
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            encoded = self.network.encode(images)
            logits = self.network.detect(encoded)
        if not self.training:
            return logits, self.network.describe(encoded)
        pairs = encoded.unflatten(0, (-1, 2)).half()  # of bfloat16 and of float32 alike
        places = self._replay.places(len(pairs))
        used = self._encoded.exchange({"encoded": pairs}, places)["encoded"].flatten(0, 1).to(encoded.dtype)
        return logits, self.network.describe(used.contiguous(memory_format=torch.channels_last)), places


class DescriptorObjective(PairsObjective):
    """The descriptor head alone on warped pairs, each of which is used for several steps.

    Args:
        replay: number of earlier pairs that each step learns from beside its own.
        capacity: number of pairs to keep; each takes the memory of its encoder outputs in float16.
        seed: of the choice of earlier pairs.
    """

    def __init__(
        self,
        network: SuperPointNet,
        size: tuple[int, int],
        photometric: Photometric | None = None,
        loss: JointLoss | None = None,
        replay: int = 0,
        capacity: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(network, size, photometric, loss)
        self.module = DescriptorOnly(network, Replay(replay, capacity, seed))
        self._memory = Memory(capacity)

    def losses(self, outputs: Any, truth: Batch) -> Losses:
        logits, descriptors, places = outputs
        points, valid = self._keypoints(logits.float(), truth)
        own = {name: value for name, value in truth.items() if name in PAIR_KEYS}
        pairs = self._memory.exchange({**own, "points": points, "valid": valid}, places)
        generator = seeded(truth, logits.device, 1)
        loss = self._description(descriptors.float(), pairs["points"], pairs["valid"], motion_of(pairs), generator)
        return {"loss": loss, "descriptor": loss.detach()}
