"""What each training stage minimises. Views are rendered here, in batches on the training device.

Only the network runs in low precision; images, coordinates and losses are float32 throughout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from superpoint_ros.extraction import decoding
from superpoint_ros.extraction.network import SuperPointNet
from superpoint_ros.training import occlusion, views
from superpoint_ros.training.losses import descriptor as descriptor_losses
from superpoint_ros.training.losses import detector as detector_losses
from superpoint_ros.training.motion import Motion, correspondences, motion_of
from superpoint_ros.training.photometric import Photometric, augment
from superpoint_ros.training.shapes import render
from superpoint_ros.two_view.steering import check_steerable, steered_back

Batch = Mapping[str, Any]
Losses = dict[str, Tensor]
_OVERSAMPLE = 2
_MAX_CORNERS = 96


@dataclass(frozen=True)
class JointLoss:
    """Choice and weights of the losses of joint training.

    Attributes:
        detector_weight: weight of the cross-entropy against the labels.
        descriptor: dual_softmax over sampled correspondences, or hinge, the paper's loss.
        descriptor_weight: weight of the descriptor loss (the paper's lambda).
        positive_margin, negative_margin, positive_weight: parameters of the hinge loss (equation 6 and lambda_d).
        temperature: temperature of the dual softmax, at least 0.025.
        correspondences: points sampled per pair.
        at_keypoints: maximum share of these, 0 to 1, at labels and detections; the rest are anywhere in the view.
        detections: number of keypoints detected in the first view that are taken beside its labels.
        localisation: weight of the distance between keypoints detected in both views.
        repetition: weight of the reward for repeated keypoints.
        ramp: steps over which the weights of these two ramp up.
        steerable: learn descriptors of which a quarter turn of the image is a permutation: those of the second views
            are steered back (see `two_view.steering`) by the quarter turns that come nearest to the rotation
            between the views. It needs the dual softmax, and a descriptor size that is a multiple of four.
        eighths: share (0 to 1) of the pairs that are steered back by the nearest eighth instead, which is between two
            blocks.
    """

    detector_weight: float = 1.0
    descriptor: Literal["dual_softmax", "hinge"] = "dual_softmax"
    descriptor_weight: float = 0.5
    positive_margin: float = 1.0
    negative_margin: float = 0.2
    positive_weight: float = 250.0
    temperature: float = 0.05
    correspondences: int = 256
    at_keypoints: float = 0.5
    detections: int = 0
    localisation: float = 0.15
    repetition: float = 0.1
    ramp: int = 500
    steerable: bool = False
    eighths: float = 0.0

    __pydantic_config__: ClassVar = {"extra": "forbid"}


class Objective(Protocol):
    """The objective of a training stage.

    Attributes:
        module: the trained module, from images (B, 1, H, W) in 0..1 to the outputs that `losses` takes.
    """

    module: nn.Module

    def prepare(self, batch: Batch) -> tuple[Tensor, Batch]:
        """Turn a batch of the dataset into images on its device, and their ground truth."""

    def losses(self, outputs: Any, truth: Batch) -> Losses:
        """Compute the losses, of which "loss" is minimised."""


class DetectorOnly(nn.Module):
    """A network with its descriptor head frozen and skipped."""

    def __init__(self, network: SuperPointNet) -> None:
        super().__init__()
        self.network = network
        _freeze_descriptor(network)

    def forward(self, images: Tensor) -> Tensor:
        return self.network.detect(self.network.encode(images))


def _freeze_descriptor(network: SuperPointNet) -> None:
    for layer in (network.convDa, network.convDb):
        layer.requires_grad_(False)


class _DetectionObjective:
    """MagicPoint: the detector head alone, by cross-entropy against labelled points."""

    def __init__(self, network: SuperPointNet, size: tuple[int, int], photometric: Photometric | None = None) -> None:
        self.module: nn.Module = DetectorOnly(network)
        self.size, self.photometric = size, photometric or Photometric()

    def losses(self, outputs: Any, truth: Batch) -> Losses:
        target = detector_losses.targets(truth["points"], truth["valid"], self.size)
        return {"loss": detector_losses.cross_entropy(outputs, target)}


class ShapesObjective(_DetectionObjective):
    """MagicPoint on Synthetic Shapes: a batch holds scenes and a seed."""

    @torch.no_grad()
    def prepare(self, batch: Batch) -> tuple[Tensor, Batch]:
        device = batch["seed"].device
        generator = seeded(batch, device)
        images = render.render(batch["scenes"], self.size, generator)
        points, used = render.labels(batch["scenes"], _MAX_CORNERS, device)
        valid = used & views.inside(points, self.size)
        return augment(images, generator, self.photometric), {**batch, "points": points, "valid": valid}


class ViewsObjective:
    """What is trained on labelled views of images.

    A batch holds sources (B, 1, S, S) uint8, labels (B, P, 2), labelled (B, P), to_source (B, V, 3, 3) and a seed.
    """

    size: tuple[int, int]
    photometric: Photometric

    @torch.no_grad()
    def prepare(self, batch: Batch) -> tuple[Tensor, Batch]:
        images, points, valid = self._views(batch)
        images = augment(images, seeded(batch, images.device), self.photometric)
        return images, {**batch, "images": images, "points": points, "valid": valid}

    def _views(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Render all views (B V, 1, H, W), with their labels (B V, P, 2), and which of these are used (B V, P)."""
        maps = batch["to_source"].flatten(0, 1)
        count = batch["to_source"].shape[1]
        sources = (batch["sources"].float() / 255).repeat_interleave(count, dim=0)
        points = views.project(torch.linalg.inv(maps).float(), batch["labels"].repeat_interleave(count, dim=0))
        valid = batch["labelled"].repeat_interleave(count, dim=0) & views.inside(points, self.size)
        return views.warp(sources, maps.float(), self.size, _OVERSAMPLE), points, valid


class DetectorObjective(ViewsObjective, _DetectionObjective):
    """MagicPoint: the detector head alone, on labelled views (paper, section 4)."""


class PairsObjective(ViewsObjective):
    """What is trained on warped pairs: V is 2, and a part of another image may be in front.

    Raises:
        ValueError: in one sentence, if the settings of the loss do not fit each other or the network.
    """

    def __init__(
        self,
        network: SuperPointNet,
        size: tuple[int, int],
        photometric: Photometric | None = None,
        loss: JointLoss | None = None,
    ) -> None:
        self.module: nn.Module = network
        self.size, self.photometric, self.weights = size, photometric or Photometric(), loss or JointLoss()
        _check(self.weights, network.architecture.descriptor_size)

    def _views(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        images, points, valid = super()._views(batch)
        front = motion_of(batch).foreground
        if front is None:
            return images, points, valid
        images, points, valid = (each.unflatten(0, (-1, 2)) for each in (images, points, valid))
        return occlusion.compose(images, points, valid, batch, front, _OVERSAMPLE)

    @torch.no_grad()
    def _keypoints(self, logits: Tensor, truth: Batch) -> tuple[Tensor, Tensor]:
        """Collect the labels of the first views, and what the network detects there: (B, P, 2), and which are used."""
        points, valid = (truth[name].unflatten(0, (-1, 2))[:, 0] for name in ("points", "valid"))
        if not self.weights.detections:
            return points, valid
        heat = decoding.heatmap(logits.unflatten(0, (-1, 2))[:, 0])
        places, scores = decoding.select_peaks(heat, decoding.Decoding(self.weights.detections))
        return torch.cat((points, places.float()), dim=1), torch.cat((valid, scores > 0), dim=1)

    def _description(
        self, descriptors: Tensor, points: Tensor, valid: Tensor, motion: Motion, generator: torch.Generator
    ) -> Tensor:
        """Compute the loss of the descriptors (B 2, D, H/8, W/8) of pairs with these keypoints of the first views."""
        weights = self.weights
        if weights.descriptor == "hinge":
            first, second = descriptors.unflatten(0, (-1, 2)).unbind(dim=1)
            margins = (weights.positive_margin, weights.negative_margin, weights.positive_weight)
            return descriptor_losses.hinge(first, second, motion.first_to_second, *margins)
        count, share = weights.correspondences, weights.at_keypoints
        with torch.no_grad():
            first, second, used = correspondences(
                points, valid, motion, self.size, count, generator, round(count * share)
            )
        sampled = decoding.sample(descriptors, torch.stack((first, second), dim=1).flatten(0, 1))
        one, other = sampled.unflatten(0, (-1, 2)).unbind(dim=1)
        if weights.steerable:
            turns = views.rotation(motion.first_to_second, self.size) / (2 * torch.pi)
            quarters, eighths = (torch.round(turns * 4) * 2, torch.round(turns * 8))
            fine = torch.rand(len(turns), device=turns.device, generator=generator) < weights.eighths
            other = steered_back(other, torch.where(fine, eighths, quarters).long() % 8)
        return descriptor_losses.dual_softmax(one, other, second, used, weights.temperature)


class JointObjective(PairsObjective):
    """Detector and descriptor on warped pairs (paper, section 3.4).

    Args:
        heads: what is trained. both: all layers. detector: all but the descriptor head, through which the encoder
            learns to describe.
    """

    def __init__(
        self,
        network: SuperPointNet,
        size: tuple[int, int],
        photometric: Photometric | None = None,
        loss: JointLoss | None = None,
        heads: Literal["both", "detector"] = "both",
    ) -> None:
        super().__init__(network, size, photometric, loss)
        if heads == "detector":
            _freeze_descriptor(network)

    def losses(self, outputs: Any, truth: Batch) -> Losses:
        logits, descriptors = (output.float() for output in outputs)
        weights, motion = self.weights, motion_of(truth)
        target = detector_losses.targets(truth["points"], truth["valid"], self.size)
        result = {"detector": detector_losses.cross_entropy(logits, target)}
        generator = seeded(truth, logits.device, 1)
        result["descriptor"] = self._description(descriptors, *self._keypoints(logits, truth), motion, generator)
        loss = weights.detector_weight * result["detector"] + weights.descriptor_weight * result["descriptor"]
        if weights.localisation or weights.repetition:
            heat = decoding.heatmap(logits).unflatten(0, (-1, 2))
            images = truth["images"].unflatten(0, (-1, 2)).squeeze(2)
            agreement = detector_losses.agreement(heat, images, motion)
            result["localisation"], repetition, result["repeated"] = agreement
            ramp = min(float(truth["step"]) / max(weights.ramp, 1), 1.0)
            loss = loss + ramp * (weights.localisation * result["localisation"] + weights.repetition * repetition)
        return {"loss": loss, **{name: value.detach() for name, value in result.items()}}


def _check(loss: JointLoss, descriptor_size: int) -> None:
    if loss.steerable:
        if loss.descriptor != "dual_softmax":
            raise ValueError("loss.steerable is true, allowed is that only with loss.descriptor dual_softmax")
        check_steerable(descriptor_size, "loss.steerable")
    for name, share in (("at_keypoints", loss.at_keypoints), ("eighths", loss.eighths)):
        if not 0 <= share <= 1:
            raise ValueError(f"loss.{name} is {share}, allowed is 0 to 1")
    if loss.eighths and not loss.steerable:
        raise ValueError(f"loss.eighths is {loss.eighths}, allowed without loss.steerable is 0")
    least = descriptor_losses.LEAST_TEMPERATURE
    if not loss.temperature >= least:
        raise ValueError(f"loss.temperature is {loss.temperature}, allowed is at least {least}")


def seeded(batch: Batch, device: torch.device, offset: int = 0) -> torch.Generator:
    """Make the random numbers of a batch."""
    return torch.Generator(device).manual_seed(int(batch["seed"]) + offset)
