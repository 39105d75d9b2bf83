"""The stages of a training run, each going on where it was interrupted (paper, figure 2)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from superpoint_ros import decoding
from superpoint_ros.network import Architecture, SuperPointNet
from superpoint_ros.pictures import pictures, read_grey
from superpoint_ros.training import loop
from superpoint_ros.training.data import PairsDataset, ShapesDataset, held_out
from superpoint_ros.training.homographies import HomographyRange
from superpoint_ros.training.labels import LabelConfig, label_folder, label_path
from superpoint_ros.training.objectives import DetectorObjective, JointObjective


def new_network() -> SuperPointNet:
    """An untrained network with the batch normalisation without which training does not converge."""
    network = SuperPointNet(Architecture(norm="before_relu"))
    with torch.no_grad():
        network.convPb.conv.bias[-1] = 5.0  # type: ignore[index]  # most cells hold no keypoint: begin with that
    return network


def read_checkpoint(checkpoint: Path) -> SuperPointNet:
    """The network of a stage's checkpoint."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["model"]
    network = new_network()
    network.load_state_dict({name.removeprefix("network."): tensor for name, tensor in state.items()})
    return network.eval()


def train_shapes(checkpoint: Path, config: loop.LoopConfig, size: tuple[int, int] = (120, 160)) -> int:
    """MagicPoint: the detector on Synthetic Shapes. Returns the step reached."""
    torch.manual_seed(config.seed)
    objective = DetectorObjective(new_network())
    return loop.run(objective, lambda start: ShapesDataset(size, config.seed, start), config, checkpoint)


def detector(network: SuperPointNet, device: str = "cpu") -> Callable[[Tensor], Tensor]:
    """Heat maps of a network, in bfloat16, as Homographic Adaptation wants them."""
    network = network.eval().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def heatmap(images: Tensor) -> Tensor:
        images = images.to(device, memory_format=torch.channels_last)
        with torch.autocast(device.split(":")[0], dtype=torch.bfloat16):
            logits = network.detect(network.encode(images))
        return decoding.heatmap(logits)

    return heatmap


def label(checkpoint: Path, images: Path, out: Path, config: LabelConfig, device: str = "cpu") -> int:
    """Label a folder of pictures with a trained detector. Returns the number labelled now."""
    heatmap = detector(read_checkpoint(checkpoint), device)
    return label_folder(heatmap, images, out, config, lambda paths: tqdm(paths, unit="picture", mininterval=5))


def train_joint(
    checkpoint: Path,
    start_from: Path | None,
    images: Path,
    labels: Path,
    config: loop.LoopConfig,
    size: tuple[int, int] = (160, 160),
    longer_side: int = 320,
    ranges: HomographyRange | None = None,
) -> int:
    """Detector and descriptor on warped pairs of labelled pictures, held-out ones left aside. Returns the step."""
    torch.manual_seed(config.seed)
    network = read_checkpoint(start_from) if start_from else new_network()
    views, points = [], []
    for path in pictures(images):
        file = label_path(path, images, labels)
        if held_out(path) or not file.exists():
            continue
        image = read_grey(path)
        small = read_grey(path, longer_side)
        ratio = np.array(small.shape[::-1]) / np.array(image.shape[::-1])
        views.append(small)
        points.append((np.load(file)[:, :2] + 0.5) * ratio - 0.5)
    if not views:
        raise ValueError(f"folder '{labels}' holds no labels for the pictures of '{images}'")

    def dataset(start: int) -> PairsDataset:
        return PairsDataset(views, points, size, ranges or HomographyRange(), config.seed, start)

    return loop.run(JointObjective(network), dataset, config, checkpoint)
