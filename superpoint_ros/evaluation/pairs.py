"""Pairs of pictures with true homographies: HPatches sequences, and warps of any picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from superpoint_ros.pictures import read_grey
from superpoint_ros.training.homographies import HomographyRange, random_homography
from superpoint_ros.training.photometric import augment_picture

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Pair:
    """Two views of a plane.

    Attributes:
        name: of sequence and pictures.
        first, second: (H, W) uint8.
        homography: maps the first picture's pixels to the second's.
    """

    name: str
    first: Image
    second: Image
    homography: NDArray[np.float64]


def scaling(before: tuple[int, int], after: tuple[int, int]) -> NDArray[np.float64]:
    """What resizing from one (height, width) to another does to pixels whose centres are whole numbers."""
    x, y = after[1] / before[1], after[0] / before[0]
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])


def hpatches(folder: str | Path, longer_side: int = 640) -> Iterator[Pair]:
    """Pairs (1, k) of every sequence below a folder in HPatches layout; the truth is resized with the pictures.

    Raises:
        ValueError: if there is no sequence.
    """
    sequences = sorted(path.parent for path in Path(folder).rglob("H_1_2"))
    if not sequences:
        raise ValueError(f"folder '{folder}' holds no sequence in HPatches layout (1.ppm, H_1_2 ...)")
    for sequence in sequences:
        images = {path.stem: path for path in sequence.iterdir() if path.stem.isdigit()}
        first, first_scale = _resized(images["1"], longer_side)
        for k in sorted(images.keys() - {"1"}):
            second, second_scale = _resized(images[k], longer_side)
            truth = np.loadtxt(sequence / f"H_1_{k}")
            homography = second_scale @ truth @ np.linalg.inv(first_scale)
            yield Pair(f"{sequence.name}/1-{k}", first, second, homography / homography[2, 2])


def _resized(path: Path, longer_side: int) -> tuple[Image, NDArray[np.float64]]:
    original, small = read_grey(path), read_grey(path, longer_side)
    return small, scaling(original.shape, small.shape)


def warped(
    pictures: Iterable[Path], size: tuple[int, int] = (360, 480), seed: int = 0, ranges: HomographyRange | None = None
) -> Iterator[Pair]:
    """A pair of each picture: two random views of (height, width) `size` with light, blur and noise."""
    rng = np.random.default_rng(seed)
    ranges = ranges or HomographyRange(scale_min=0.7)
    for path in pictures:
        image = read_grey(path, max(size))
        maps = [random_homography(rng, image.shape, size, ranges) for _ in range(2)]
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        views = [
            augment_picture(cv2.warpPerspective(image, to_image, size[::-1], flags=flags), int(rng.integers(2**31)))
            for to_image in maps
        ]
        homography = np.linalg.inv(maps[1]) @ maps[0]
        yield Pair(path.stem, views[0], views[1], homography / homography[2, 2])
