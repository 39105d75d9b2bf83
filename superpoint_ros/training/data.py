"""Data sets of the training stages: labelled images in memory, and the views to render at every step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from superpoint_ros.extraction.network import CELL
from superpoint_ros.io.images import list_images, read_grey, scale_to_longer_side
from superpoint_ros.training.config import DetectorConfig, JointConfig
from superpoint_ros.training.homographies import HomographyRange, random_homographies
from superpoint_ros.training.labels import label_folders, label_path
from superpoint_ros.training.motion import draw_foreground
from superpoint_ros.training.shapes.classes import random_scene


def is_held_out(path: Path, one_in: int = 40) -> bool:
    """Tell whether an image is held out of training, by a hash of its folder and name: the same on every machine."""
    digest = hashlib.sha256(f"{path.parent.name}/{path.name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % one_in == 0


def held_out_of(images: Path | Sequence[Path]) -> list[Path]:
    """List the images below one or several folders that are held out from training."""
    folders = [images] if isinstance(images, Path) else images
    return [path for folder in folders for path in list_images(folder) if is_held_out(path)]


@dataclass(frozen=True)
class LabelledImages:
    """Grey images, scaled to a common longer side, with their keypoint labels.

    Attributes:
        images: (N, 1, S, S) uint8, each in the top-left corner of its square.
        sizes: (N, 2) as (height, width).
        points: (N, P, 2) float32 pixels.
        labelled: (N, P) bool, which entries of `points` are used.
    """

    images: Tensor
    sizes: NDArray[np.int64]
    points: Tensor
    labelled: Tensor

    @classmethod
    def read(
        cls,
        images: Path | Sequence[Path],
        labels: Path,
        longer_side: int,
        select: Callable[[Path], bool],
        max_points: int = 300,
        progress: Callable[[list[Path]], Iterable[Path]] = lambda paths: paths,
    ) -> LabelledImages:
        """Read the labelled images below one or several folders (see `label_folders`) that `select` accepts.

        Each image takes longer_side squared bytes.

        Raises:
            ValueError: if no image has labels.
        """
        label_of = {
            path: label_path(path, folder, out)
            for folder, out in label_folders(images, labels)
            for path in list_images(folder)
            if select(path)
        }
        found = [path for path, label in label_of.items() if label.exists()]
        if not found:
            raise ValueError(f"folder '{labels}' holds no labels for the images of '{images}'")
        squares = torch.zeros(len(found), 1, longer_side, longer_side, dtype=torch.uint8)
        points = torch.zeros(len(found), max_points, 2)
        labelled = torch.zeros(len(found), max_points, dtype=torch.bool)
        sizes = np.zeros((len(found), 2), np.int64)
        for i, path in enumerate(progress(found)):
            original = read_grey(path)
            small = scale_to_longer_side(original, longer_side)
            sizes[i] = height, width = small.shape
            squares[i, 0, :height, :width] = torch.from_numpy(small)
            best = np.load(label_of[path])[:max_points, :2]
            scale = np.array([width / original.shape[1], height / original.shape[0]])
            points[i, : len(best)] = torch.from_numpy(((best + 0.5) * scale - 0.5).astype(np.float32))
            labelled[i, : len(best)] = True
        return cls(squares, sizes, points, labelled)


class ViewsDataset(Dataset[dict[str, Tensor]]):
    """Batches of images with the homographies of their views, indexed by step.

    A batch depends on the settings, the rank and the step alone, so that a resumed run sees the same batches.

    Args:
        rank, world: rank of this process and number of processes.
    """

    views = 1
    """Number of views per image."""

    def __init__(self, source: LabelledImages, config: DetectorConfig, rank: int = 0, world: int = 1) -> None:
        self.source, self.config, self.rank, self.world = source, config, rank, world

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.config.seed, step, self.rank))
        chosen = self._batch_indices(step)
        source = self.source
        crops, offsets = self._crops(rng, source.sizes[chosen])
        maps = offsets[:, None] @ self._maps(rng, crops, step)
        index = torch.from_numpy(chosen)
        order = torch.from_numpy(rng.permutation(source.points.shape[1]))
        return {
            "sources": source.images[index],
            "labels": source.points[index][:, order],
            "labelled": source.labelled[index][:, order],
            "to_source": torch.from_numpy(maps),
            "seed": torch.tensor(int(rng.integers(2**62))),
            "step": torch.tensor(step),
        }

    def _maps(self, rng: np.random.Generator, crops: NDArray[np.int64], step: int) -> NDArray[np.float64]:
        """Draw (B, V, 3, 3) homographies from the views to crops of (B, 2) sizes."""
        sizes = np.repeat(crops, self.views, axis=0)
        ranges = self.config.curriculum.ranges(self.config.ranges, step)
        maps = random_homographies(rng, sizes, self.config.size, ranges)
        return maps.reshape(len(crops), self.views, 3, 3)

    def _crops(
        self, rng: np.random.Generator, sizes: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Draw a crop of each image: (B, 2) sizes, and (B, 3, 3) translations from crop to image."""
        share = np.exp(rng.uniform(np.log(self.config.crop_min), 0, (len(sizes), 1)))
        crops = np.maximum(np.rint(sizes * share), np.minimum(sizes, CELL)).astype(np.int64)
        offsets = np.tile(np.eye(3), (len(sizes), 1, 1))
        offsets[:, :2, 2] = (rng.uniform(0, 1, (len(sizes), 2)) * (sizes - crops))[:, ::-1]
        return crops, offsets

    def _batch_indices(self, step: int) -> NDArray[np.int64]:
        """Return the image indices of a batch; each epoch is a fresh permutation, split among the processes."""
        count = len(self.source.sizes)
        batch, seed = self.config.batch, self.config.seed
        first = (step * self.world + self.rank) * batch
        places = range(first, first + batch)
        epochs = {place // count for place in places}
        shuffled = {epoch: np.random.default_rng((seed, epoch)).permutation(count) for epoch in epochs}
        return np.array([shuffled[place // count][place % count] for place in places])


class PairsDataset(ViewsDataset):
    """Batches of images with the homographies of two views each, a fraction of which lie close together.

    A fraction has a foreground, a part of the batch's next image, see `motion.draw_foreground`.
    """

    views = 2

    def __init__(self, source: LabelledImages, config: JointConfig, rank: int = 0, world: int = 1) -> None:
        super().__init__(source, config, rank, world)
        self._close, self._close_ranges = config.close, config.close_ranges
        self._occlusion, self._occlusion_ranges = config.occlusion, config.occlusion_ranges

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        batch = super().__getitem__(step)
        if not self._occlusion:
            return batch
        rng = np.random.default_rng((self.config.seed, step, self.rank, 1))
        count = len(batch["sources"])
        return {**batch, **draw_foreground(rng, count, self.config.size, self._occlusion, self._occlusion_ranges)}

    def _maps(self, rng: np.random.Generator, crops: NDArray[np.int64], step: int) -> NDArray[np.float64]:
        maps = super()._maps(rng, crops, step)
        if self._close:
            size, ranges = self.config.size, self.config.curriculum.ranges(self._close_ranges, step)
            nearby = maps[:, 0] @ random_homographies(rng, [size] * len(maps), size, ranges)
            close = rng.uniform(size=len(maps)) < self._close
            maps[close, 1] = nearby[close]
        return maps


class ShapesDataset(Dataset[dict[str, Any]]):
    """Batches of Synthetic Shapes, not yet rendered, indexed by step; see `ViewsDataset`."""

    def __init__(self, size: tuple[int, int], batch: int, ranges: HomographyRange, seed: int, rank: int = 0) -> None:
        self.size, self.batch, self.ranges, self.seed, self.rank = size, batch, ranges, seed, rank

    def __getitem__(self, step: int) -> dict[str, Any]:
        rng = np.random.default_rng((self.seed, step, self.rank))
        scenes = [random_scene(rng, self.size, ranges=self.ranges) for _ in range(self.batch)]
        return {"scenes": scenes, "seed": torch.tensor(int(rng.integers(2**62))), "step": torch.tensor(step)}
