"""What the training stages read: Synthetic Shapes without end, and warped pairs of labelled pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from superpoint_ros.geometry import inside, project
from superpoint_ros.training import photometric, shapes
from superpoint_ros.training.homographies import HomographyRange, random_homography


def held_out(path: Path, one_in: int = 40) -> bool:
    """Whether a picture is kept out of training, by a hash of its folder and name: the same on every machine."""
    digest = hashlib.sha256(f"{path.parent.name}/{path.name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % one_in == 0


def _rng(seed: int, start: int) -> np.random.Generator:
    worker = get_worker_info()
    return np.random.default_rng((seed, start, worker.id if worker else 0))


def _padded(points: NDArray[np.floating], count: int) -> tuple[Tensor, Tensor]:
    """The first `count` points as a tensor of fixed size, and which places are used."""
    table = np.zeros((count, 2), np.float32)
    used = min(len(points), count)
    table[:used] = points[:used]
    return torch.from_numpy(table), torch.arange(count) < used


class ShapesDataset(IterableDataset):
    """Pictures of Synthetic Shapes with their corners, without end; `start` makes a resumed run go on with new ones."""

    def __init__(self, size: tuple[int, int], seed: int, start: int = 0, max_points: int = 96) -> None:
        self.size, self.seed, self.start, self.max_points = size, seed, start, max_points

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        cv2.setNumThreads(1)
        rng = _rng(self.seed, self.start)
        while True:
            image, corners = shapes.draw(rng, self.size)
            image = photometric.augment(rng, image)
            points, valid = _padded(corners, self.max_points)
            yield {"image": torch.from_numpy(image)[None], "points": points, "valid": valid}


class PairsDataset(IterableDataset):
    """Two random views of labelled pictures, with the points that they share, without end.

    Args:
        images: (H, W) uint8 pictures.
        labels: for each, (N, 2) keypoints in its pixels.
        size: (height, width) of a view.
        correspondences: points shared by the two views, half of them at labels.
    """

    def __init__(
        self,
        images: list[NDArray[np.uint8]],
        labels: list[NDArray[np.floating]],
        size: tuple[int, int],
        ranges: HomographyRange,
        seed: int,
        start: int = 0,
        correspondences: int = 256,
        max_points: int = 320,
    ) -> None:
        self.images, self.labels, self.size, self.ranges = images, labels, size, ranges
        self.seed, self.start = seed, start
        self.correspondences, self.max_points = correspondences, max_points

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        cv2.setNumThreads(1)
        rng = _rng(self.seed, self.start)
        while True:
            for index in rng.permutation(len(self.images)):
                yield self._pair(rng, self.images[index], self.labels[index])

    def _view(
        self, rng: np.random.Generator, image: NDArray[np.uint8], labels: NDArray[np.floating]
    ) -> tuple[NDArray[np.uint8], NDArray[np.floating], NDArray[np.float64]]:
        to_picture = random_homography(rng, image.shape, self.size, self.ranges)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        view = cv2.warpPerspective(image, to_picture, self.size[::-1], flags=flags, borderMode=cv2.BORDER_REFLECT_101)
        points = project(np.linalg.inv(to_picture), labels)
        points = points[inside(points, self.size)]
        rng.shuffle(points)
        return photometric.augment(rng, view), points, to_picture

    def _pair(
        self, rng: np.random.Generator, image: NDArray[np.uint8], labels: NDArray[np.floating]
    ) -> dict[str, Tensor]:
        first, first_points, first_map = self._view(rng, image, labels)
        second, second_points, second_map = self._view(rng, image, labels)
        across = np.linalg.inv(second_map) @ first_map
        height, width = self.size
        spread = rng.uniform(0, [width - 1, height - 1], (6 * self.correspondences, 2))
        seen = inside(project(across, first_points), self.size)
        candidates = np.vstack((first_points[seen][: self.correspondences // 2], spread))
        target = project(across, candidates)
        keep = np.flatnonzero(inside(target, self.size))[: self.correspondences]
        matched_first, valid = _padded(candidates[keep], self.correspondences)
        matched_second, _ = _padded(target[keep], self.correspondences)
        points = [_padded(p, self.max_points) for p in (first_points, second_points)]
        return {
            "images": torch.from_numpy(np.stack((first, second)))[:, None],
            "points": torch.stack([p for p, _ in points]),
            "valid": torch.stack([v for _, v in points]),
            "matches": torch.stack((matched_first, matched_second)),
            "matched": valid,
        }
