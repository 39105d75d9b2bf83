"""Fine-tuning weights to a camera with its own recording (label, then joint training)."""

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

Measure = Callable[[Path | str, list[Path]], Any]


@dataclass(frozen=True)
class AdaptConfig:
    """How weights are adapted.

    Attributes:
        weights: what to start from: known name or file.
        topic, every: image topic of a bag, and least seconds between two frames.
        held_out: share of the recording, at its end, that is kept out of training to measure on.
        label: settings of Homographic Adaptation.
        joint: settings of the training.
        license: noted in the weights file.
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
            ranges=HomographyRange(rotation=25, scale_min=0.45),
            loss=JointLoss(ramp=100),
        )
    )
    license: str = ""

    __pydantic_config__: ClassVar = {"extra": "forbid"}


@dataclass(frozen=True)
class Adapted:
    """What came of it: the weights file, and what `measure` said before and after on the frames held out, which is None
    in all processes but the first."""

    weights: Path
    held_out: int
    before: Any
    after: Any


def adapt(source: Path, out: Path, config: AdaptConfig, measure: Measure) -> Adapted:
    """Fine-tune weights to the images of a folder, a video or a ROS bag, going on where it was interrupted.

    Args:
        measure: says how good weights are on images.

    Raises:
        ValueError: if the source has too few images to hold some out.
    """
    processes = loop.launch(config.joint)
    with processes.rank_zero_first():
        images = frames.folder(source, out / "frames", config.topic, config.every)
    found = list_images(images)
    # The end of a recording is less like the rest of it than frames in between would be.
    kept = round(len(found) * config.held_out)
    if not 0 < kept < len(found):
        raise ValueError(
            f"source '{source}' has {len(found)} images, of which held_out {config.held_out:g} leaves {kept}: "
            "allowed is a share that leaves some on both sides"
        )
    aside = set(found[len(found) - kept :])
    stages.label(config.weights, images, out / "labels", config.label, processes, lambda path: path not in aside)
    stages.train_joint(
        out / "joint", config.weights, images, out / "labels", config.joint, lambda path: path not in aside
    )
    target = out / "weights.safetensors"
    if processes.is_global_zero:
        weights.save(networks.read(out / "joint"), target, {"license": config.license})
    processes.barrier()
    if not processes.is_global_zero:
        return Adapted(target, kept, None, None)
    return Adapted(target, kept, measure(config.weights, sorted(aside)), measure(target, sorted(aside)))
