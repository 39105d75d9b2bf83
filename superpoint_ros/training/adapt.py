"""Fine-tune weights to a camera on a recording of its own: label it, then train jointly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from superpoint_ros.extraction import weights
from superpoint_ros.io.images import list_images
from superpoint_ros.training import frames, loop, networks, stages
from superpoint_ros.training.config import JointConfig
from superpoint_ros.training.homographies import HomographyRange
from superpoint_ros.training.labels import LabelConfig
from superpoint_ros.training.objectives import JointLoss
from superpoint_ros.training.steering import SteerConfig
from superpoint_ros.two_view.steering import BLOCKS

Measure = Callable[[Path | str, list[Path]], Any]


@dataclass(frozen=True)
class AdaptConfig:
    """Settings of the fine-tuning.

    Attributes:
        weights: initial weights, a known name or a file.
        topic, every: image topic of a bag, and minimum seconds between two frames.
        held_out: fraction at the end of the recording that is held out of training for evaluation.
        label: settings of Homographic Adaptation.
        joint: settings of joint training.
        license: recorded in the weights file.
    """

    weights: str = "default"
    topic: str = ""
    every: float = 0.2
    held_out: float = 0.2
    label: LabelConfig = field(default_factory=lambda: LabelConfig(warps=30, threshold=0.015, longer_side=480))
    joint: JointConfig = field(
        default_factory=lambda: JointConfig(
            steps=2000,
            learning_rate=2e-4,
            heads="detector",  # with which descriptors stay steerable
            ranges=HomographyRange(rotation=25, scale_min=0.45),
            loss=JointLoss(ramp=100),
        )
    )
    license: str = ""

    __pydantic_config__: ClassVar = {"extra": "forbid"}


@dataclass(frozen=True)
class AdaptationResult:
    """The fine-tuned weights file, and the scores of `measure` on the held-out frames before and after.

    The scores are None in every process but the first.
    """

    weights: Path
    held_out: int
    before: Any
    after: Any


def adapt(source: Path, out: Path, config: AdaptConfig, measure: Measure) -> AdaptationResult:
    """Fine-tune weights to the images of a folder, a video or a ROS bag; resume an interrupted run.

    Args:
        measure: evaluates weights on a list of images.

    Raises:
        ValueError: if the source has too few images to hold any out.
    """
    processes = loop.launch(config.joint)
    with processes.rank_zero_first():
        images = frames.image_folder(source, out / "frames", config.topic, config.every)
    paths = list_images(images)
    # Frames at the end resemble the training frames less than frames in between would.
    count = round(len(paths) * config.held_out)
    if not 0 < count < len(paths):
        raise ValueError(
            f"source '{source}' has {len(paths)} images, of which held_out {config.held_out:g} holds out {count}: "
            "allowed is a fraction that leaves images on both sides"
        )
    held_out = set(paths[len(paths) - count :])
    stages.label(config.weights, images, out / "labels", config.label, processes, lambda path: path not in held_out)
    stages.train_joint(
        out / "joint", config.weights, images, out / "labels", config.joint, lambda path: path not in held_out
    )
    target = out / "weights.safetensors"
    if processes.is_global_zero:
        network = networks.read(out / "joint")
        if network.architecture.descriptor_size % BLOCKS == 0:
            # Training does not keep the basis in which descriptors are steerable and can be shortened.
            network, _ = stages.steerable(network, images, SteerConfig(), lambda path: path not in held_out)
        weights.save(network, target, {"license": config.license})
    processes.barrier()
    if not processes.is_global_zero:
        return AdaptationResult(target, count, None, None)
    return AdaptationResult(target, count, measure(config.weights, sorted(held_out)), measure(target, sorted(held_out)))
