"""Homographic Adaptation: keypoint labels for pictures of any kind (paper, section 5)."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from superpoint_ros import decoding
from superpoint_ros.network import CELL
from superpoint_ros.pictures import pictures, read_grey
from superpoint_ros.training.homographies import HomographyRange, random_homography

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelConfig:
    """Settings of Homographic Adaptation.

    Attributes:
        warps: random homographies per picture, the identity included (the paper uses 100).
        longer_side: size at which pictures are labelled, in pixels (0: as they are).
        threshold: least mean probability of a label.
        nms_radius: labels are farther apart than this, in pixels.
        max_points: most labels per picture.
        batch: warps in one forward pass.
        seed: of the random homographies.
    """

    warps: int = 100
    longer_side: int = 320
    threshold: float = 0.015
    nms_radius: int = 4
    max_points: int = 600
    batch: int = 16
    seed: int = 0
    homographies: HomographyRange = HomographyRange(rotation=30, scale_min=0.5, scale_max=1.2, outside=0.3)


def adapted_heatmap(
    heatmap: Callable[[Tensor], Tensor], image: NDArray[np.uint8], config: LabelConfig
) -> NDArray[np.float32]:
    """Mean of the heat maps of an image and of its warps, each warped back (paper, equation 10).

    Args:
        heatmap: (B, 1, H, W) float in 0..1, sides multiples of 8 -> (B, H, W) probabilities.
        image: (H, W) uint8.
    """
    rng = np.random.default_rng(config.seed)
    height, width = image.shape
    padded = (-(-height // CELL) * CELL, -(-width // CELL) * CELL)
    total, count = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    maps = [np.eye(3)]
    maps += [random_homography(rng, image.shape, image.shape, config.homographies) for _ in range(config.warps - 1)]
    ones = np.ones((height, width), np.float32)
    for start in range(0, len(maps), config.batch):
        chunk = maps[start : start + config.batch]
        views = np.zeros((len(chunk), 1, *padded), np.uint8)
        for view, to_image in zip(views, chunk, strict=True):
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            view[0] = cv2.warpPerspective(image, to_image, padded[::-1], flags=flags)
        heats = heatmap(torch.from_numpy(views).float() / 255).float().cpu().numpy()
        for heat, to_image in zip(heats, chunk, strict=True):
            seen = _seen(ones, to_image)
            total += cv2.warpPerspective(heat[:height, :width] * seen, to_image, (width, height))
            count += cv2.warpPerspective(seen, to_image, (width, height))
    return np.asarray(total / np.maximum(count, 1), np.float32)


def _seen(ones: NDArray[np.float32], to_image: NDArray[np.float64]) -> NDArray[np.float32]:
    """Where a view shows the image, less a margin in which the black outside makes false corners."""
    size = ones.shape[::-1]
    mask = cv2.warpPerspective(ones, to_image, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    return cv2.erode(mask, np.ones((7, 7)), borderType=cv2.BORDER_CONSTANT, borderValue=1)


def label_image(
    heatmap: Callable[[Tensor], Tensor], image: NDArray[np.uint8], config: LabelConfig
) -> NDArray[np.float32]:
    """Labels of one (H, W) uint8 image: (N, 3) x, y in its pixels, and mean probability, best first."""
    scale = min(1.0, config.longer_side / max(image.shape)) if config.longer_side else 1.0
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
    heat = torch.from_numpy(adapted_heatmap(heatmap, small, config))[None]
    settings = decoding.Decoding(config.max_points, config.nms_radius, config.threshold, border=2)
    positions, scores = decoding.pick(heat, settings)
    points = decoding.refine(heat, positions)[0][scores[0] > 0].numpy()
    ratio = np.array([image.shape[1] / small.shape[1], image.shape[0] / small.shape[0]], np.float32)
    return np.column_stack(((points + 0.5) * ratio - 0.5, scores[0][scores[0] > 0].numpy())).astype(np.float32)


def label_folder(
    heatmap: Callable[[Tensor], Tensor],
    images: str | Path,
    out: str | Path,
    config: LabelConfig,
    progress: Callable[[Iterable[Path]], Iterable[Path]] = lambda paths: paths,
) -> int:
    """Label every picture below a folder into one .npy file each; pictures labelled before are left alone.

    Returns:
        The number of pictures labelled now.
    """
    images, out = Path(images), Path(out)
    todo = [path for path in pictures(images) if not label_path(path, images, out).exists()]
    done = 0
    for path in progress(todo):
        try:
            image = read_grey(path)
        except ValueError as error:
            _log.warning("%s, so it is left out", error)
            continue
        target = label_path(path, images, out)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial")
        with open(partial, "wb") as file:
            np.save(file, label_image(heatmap, image, config))
        os.replace(partial, target)
        done += 1
    return done


def label_path(picture: Path, images: Path, out: Path) -> Path:
    """The file that holds a picture's labels."""
    relative = picture.relative_to(images)
    return out / relative.with_name(relative.name + ".npy")
