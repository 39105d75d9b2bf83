"""Homographic Adaptation: keypoint labels for images of any kind (paper, section 5)."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from superpoint_ros.extraction import corners, decoding
from superpoint_ros.extraction.network import CELL
from superpoint_ros.io.files import atomic_write
from superpoint_ros.io.images import list_images, read_grey, scale_to_longer_side
from superpoint_ros.training.homographies import HomographyRange, random_homographies
from superpoint_ros.training.views import warp

Detector = Callable[[Tensor], Tensor]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelConfig:
    """Settings of Homographic Adaptation.

    Attributes:
        warps: number of random homographies per image, including the identity (the paper uses 100).
        longer_side: longer side at which images are labelled, in pixels (0: original size).
        threshold: minimum mean probability of a label.
        nms_radius: radius of non-maximum suppression, in pixels.
        max_points: maximum number of labels per image.
        corner_steps: corner refinement steps on the full-size image, see `extraction.corners`.
        batch: number of warps per forward pass.
        seed: of the random homographies.
    """

    warps: int = 100
    longer_side: int = 320
    threshold: float = 0.015
    nms_radius: int = 4
    max_points: int = 600
    corner_steps: int = 2
    batch: int = 16
    seed: int = 0
    homographies: HomographyRange = HomographyRange(rotation=40, scale_min=0.5, scale_max=1.2, outside=0.3)

    __pydantic_config__: ClassVar = {"extra": "forbid"}


def adapted_heatmap(heatmap: Detector, image: Tensor, config: LabelConfig, seed: int = 0) -> Tensor:
    """Average the heat maps of an image and its warps, each warped back to the image (paper, equation 10).

    Args:
        heatmap: (B, 1, H, W) float in 0..1, sides multiples of 8 -> (B, H, W) probabilities.
        image: (H, W) float in 0..1, on the device to use.
        seed: combined with the seed of the settings, so that every image gets its own homographies.

    Returns:
        (H, W) float32.
    """
    size = height, width = (image.shape[0], image.shape[1])
    padded = (-(-height // CELL) * CELL, -(-width // CELL) * CELL)
    rng = np.random.default_rng((config.seed, seed))
    maps = random_homographies(rng, [size] * config.warps, size, config.homographies)
    maps[0] = np.eye(3)
    total = torch.zeros(2, height, width, device=image.device)
    for chunk in torch.from_numpy(maps).split(config.batch):
        to_image, to_view = (m.float().to(image.device) for m in (chunk, torch.linalg.inv(chunk)))
        views = warp(image.expand(len(chunk), 1, -1, -1), to_image, padded)
        heat = heatmap(views).float().unsqueeze(1)
        seen = _visibility_mask(to_image, size, padded)
        total += warp(torch.cat((heat * seen, seen), dim=1), to_view, size).sum(dim=0)
    return total[0] / total[1].clamp_min(1.0)


def _visibility_mask(to_image: Tensor, size: tuple[int, int], view: tuple[int, int]) -> Tensor:
    """Return a (B, 1, H, W) mask of where views show the image, less a margin in which black borders fake corners."""
    ones = torch.ones(len(to_image), 1, *size, device=to_image.device)
    outside = 1 - warp(ones, to_image, view)
    # The view's own edge needs no margin: the detector is trained on such edges.
    outside = torch.nn.functional.max_pool2d(outside, 7, stride=1, padding=3)
    return (outside < 0.5).float()


def label_image(
    heatmap: Detector, image: NDArray[np.uint8], config: LabelConfig, device: str = "cpu", seed: int = 0
) -> NDArray[np.float32]:
    """Label an (H, W) uint8 image; return (N, 3) x and y in its pixels, and mean probability, best first."""
    small = scale_to_longer_side(image, min(config.longer_side, max(image.shape)))
    tensor = torch.from_numpy(np.ascontiguousarray(small)).to(device).float() / 255
    heat = adapted_heatmap(heatmap, tensor, config, seed)[None]
    settings = decoding.Decoding(config.max_points, config.nms_radius, config.threshold, border=2)
    positions, scores = decoding.select_peaks(heat, settings)
    found = scores[0] > 0
    points = decoding.refine(heat, positions)[0][found].cpu().numpy()
    ratio = np.array([image.shape[1] / small.shape[1], image.shape[0] / small.shape[0]], np.float32)
    points = ((points + 0.5) * ratio - 0.5).astype(np.float32)
    for _ in range(config.corner_steps):
        points = corners.corner_step_cpu(image, points)
    points = points.clip(0, np.array([image.shape[1] - 1, image.shape[0] - 1], np.float32))
    return np.column_stack((points, scores[0][found].cpu().numpy())).astype(np.float32)


def label_folder(
    heatmap: Detector,
    images: str | Path,
    out: str | Path,
    config: LabelConfig,
    device: str = "cpu",
    progress: Callable[[list[Path]], Iterable[Path]] = lambda paths: paths,
    select: Callable[[Path], bool] = lambda path: True,
    shard: tuple[int, int] = (0, 1),
) -> int:
    """Label the images below a folder that `select` accepts into one .npy file each; skip those with labels.

    Args:
        shard: rank of this process and number of processes.

    Returns:
        The number of newly labelled images.
    """
    images, out = Path(images), Path(out)
    rank, world = shard
    todo = [
        path for path in list_images(images)[rank::world] if select(path) and not label_path(path, images, out).exists()
    ]
    done = 0
    for path in progress(todo):
        try:
            image = read_grey(path)
        except ValueError as error:
            _log.warning("skipped: %s", error)
            continue
        target = label_path(path, images, out)
        target.parent.mkdir(parents=True, exist_ok=True)
        seed = zlib.crc32(path.relative_to(images).as_posix().encode())
        found = label_image(heatmap, image, config, device, seed)
        with atomic_write(target) as partial, open(partial, "wb") as file:
            np.save(file, found)
        done += 1
    return done


def label_folders(images: Path | Sequence[Path], out: Path) -> list[tuple[Path, Path]]:
    """Pair folders of images with the folders of their labels: `out` for a single one, else one of its name in `out`.

    Raises:
        ValueError: if two folders of images have the same name.
    """
    if isinstance(images, Path) or len(images) == 1:
        return [(images if isinstance(images, Path) else images[0], out)]
    names = [folder.resolve().name for folder in images]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"images name two folders '{name}', allowed are folders of different names")
    return [(folder, out / name) for folder, name in zip(images, names, strict=True)]


def label_path(image: Path, images: Path, out: Path) -> Path:
    """Return the path of an image's labels."""
    relative = image.relative_to(images)
    return out / relative.with_name(relative.name + ".npy")
