"""Training of the upper layers alone: the descriptor head, or both heads and the last layers of the encoder.

What the frozen layers make of a pair stays the same during such a training, so it is kept, and used for several steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from superpoint_ros.extraction.network import ENCODER, SuperPointNet
from superpoint_ros.training.motion import PAIR_KEYS, motion_of
from superpoint_ros.training.objectives import Batch, JointLoss, JointObjective, Losses, PairsObjective, seeded
from superpoint_ros.training.photometric import Photometric
from superpoint_ros.training.replay import Memory, Replay

_DETECTOR = ("Pa", "Pb")
_VIEW_KEYS = ("points", "valid", "images")


class UpperLayers(nn.Module):
    """A network of which some layers are frozen, batch statistics included: the encoder's first, or all but the
    descriptor head.

    In training it returns the logits and descriptors of the images and of earlier pairs, and the places of these pairs
    (see `Replay`). If the detector is frozen, the logits are those of the images alone.

    Args:
        frozen: names of the layers, as in `network.ENCODER` and `network.HEADS`.
    """

    def __init__(self, network: SuperPointNet, frozen: Sequence[str], replay: Replay) -> None:
        super().__init__()
        self.network, self._replay, self._kept = network, replay, Memory(replay.capacity)
        self._frozen = [network.get_submodule(f"conv{name}") for name in frozen]
        self._lower = [name for name in ENCODER if name in frozen]
        self._upper = [name for name in ENCODER if name not in frozen]
        self._detects = not set(_DETECTOR) <= set(frozen)
        for layer in self._frozen:
            layer.requires_grad_(False)

    def train(self, mode: bool = True) -> UpperLayers:
        super().train(mode)
        for layer in self._frozen:
            layer.eval()
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        if not self.training:
            return self.network(images)
        with torch.no_grad():
            encoded = self.network.encode(images, self._lower)
        pairs = encoded.unflatten(0, (-1, 2)).half()  # of bfloat16 and of float32 alike
        places = self._replay.places(len(pairs))
        used = self._kept.exchange({"encoded": pairs}, places)["encoded"].flatten(0, 1).to(encoded.dtype)
        used = self.network.encode(used.contiguous(memory_format=torch.channels_last), self._upper)
        logits = self.network.detect(used if self._detects else encoded)
        return logits, self.network.describe(used), places


class UpperObjective(JointObjective):
    """Detector and descriptor on warped pairs, each of which is used for several steps, with frozen lower layers.

    Args:
        frozen: number of encoder layers that are frozen, from the first one.
        replay: number of earlier pairs that each step learns from beside its own.
        capacity: number of pairs to keep; each takes the memory of the frozen layers' outputs in float16, and of its
            images.
        seed: of the choice of earlier pairs.
    """

    def __init__(
        self,
        network: SuperPointNet,
        size: tuple[int, int],
        photometric: Photometric | None = None,
        loss: JointLoss | None = None,
        heads: Literal["both", "detector"] = "both",
        frozen: int = 0,
        replay: int = 0,
        capacity: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(network, size, photometric, loss, heads)
        self.module = UpperLayers(network, ENCODER[:frozen], Replay(replay, capacity, seed))
        self._memory = Memory(capacity)

    def losses(self, outputs: Any, truth: Batch) -> Losses:
        logits, descriptors, places = outputs
        own = {name: value for name, value in truth.items() if name in PAIR_KEYS}
        own |= {name: truth[name].unflatten(0, (-1, 2)) for name in _VIEW_KEYS}
        own["images"] = (own["images"].clamp(0, 1) * 255).round().to(torch.uint8)
        used = self._memory.exchange(own, places)
        views = {name: used[name].flatten(0, 1) for name in _VIEW_KEYS}
        views["images"] = views["images"].float() / 255
        return super().losses((logits, descriptors), {**truth, **used, **views})


class DescriptorObjective(PairsObjective):
    """The descriptor head alone on warped pairs, each of which is used for several steps: detections stay the same.

    Args:
        replay, capacity, seed: as of `UpperObjective`.
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
        self.module = UpperLayers(network, ENCODER + _DETECTOR, Replay(replay, capacity, seed))
        self._memory = Memory(capacity)

    def losses(self, outputs: Any, truth: Batch) -> Losses:
        logits, descriptors, places = outputs
        points, valid = self._keypoints(logits.float(), truth)
        own = {name: value for name, value in truth.items() if name in PAIR_KEYS}
        pairs = self._memory.exchange({**own, "points": points, "valid": valid}, places)
        generator = seeded(truth, logits.device, 1)
        loss = self._description(descriptors.float(), pairs["points"], pairs["valid"], motion_of(pairs), generator)
        return {"loss": loss, "descriptor": loss.detach()}
