"""What a training stage minimises: a module from a batch to its losses."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from superpoint_ros import decoding
from superpoint_ros.network import SuperPointNet
from superpoint_ros.training.losses import detector_loss, detector_targets, dual_softmax_loss


def _normalised(images: Tensor) -> Tensor:
    return (images.float() / 255).contiguous(memory_format=torch.channels_last)


class DetectorObjective(nn.Module):
    """MagicPoint: the detector head alone, on labelled pictures (paper, section 4)."""

    def __init__(self, network: SuperPointNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        image = batch["image"]
        logits = self.network.detect(self.network.encode(_normalised(image)))
        size = (image.shape[-2], image.shape[-1])
        return {"loss": detector_loss(logits, detector_targets(batch["points"], batch["valid"], size))}


class JointObjective(nn.Module):
    """Detector and descriptor on warped pairs (paper, section 3.4, with a dual softmax for the hinge loss)."""

    def __init__(self, network: SuperPointNet, descriptor_weight: float = 0.5) -> None:
        super().__init__()
        self.network = network
        self.descriptor_weight = descriptor_weight

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        images = batch["images"]
        pairs, size = len(images), (images.shape[-2], images.shape[-1])
        logits, descriptors = self.network(_normalised(images.flatten(0, 1)))
        targets = detector_targets(batch["points"].flatten(0, 1), batch["valid"].flatten(0, 1), size)
        detector = detector_loss(logits, targets)
        sampled = decoding.sample(descriptors, batch["matches"].flatten(0, 1)).unflatten(0, (pairs, 2))
        descriptor = dual_softmax_loss(sampled[:, 0], sampled[:, 1], batch["matches"][:, 1], batch["matched"])
        loss = detector + self.descriptor_weight * descriptor
        return {"loss": loss, "detector": detector.detach(), "descriptor": descriptor.detach()}
