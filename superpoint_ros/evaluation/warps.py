"""Make warped pairs with ground truth from any images, as the paper does with COCO's validation set (section 7.1)."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np

from superpoint_ros.evaluation.engine import Engine
from superpoint_ros.evaluation.framing import Framing, Image
from superpoint_ros.evaluation.pairs import Pair, Skipped
from superpoint_ros.io.files import write_text
from superpoint_ros.io.images import list_images, read_grey
from superpoint_ros.training.homographies import HomographyRange, random_homography

NOTE = "pairs.json"
"""Name of the file that records the settings of the pairs."""


@dataclass(frozen=True)
class Ranges:
    """Ranges of the random homographies between the views.

    Attributes:
        rotation: standard deviation in degrees.
        scale: minimum side of the visible region, as a fraction of the largest that fits into the image; 0.1 to 1.
        perspective: maximum shift of a corner, as a fraction of the region's half side; 0 to 0.5.
    """

    rotation: float = 20.0
    scale: float = 0.7
    perspective: float = 0.2

    def __post_init__(self) -> None:
        for name, low, high in (("rotation", 0, 180), ("scale", 0.1, 1), ("perspective", 0, 0.5)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} is {value}, allowed is {low} to {high}")


@dataclass(frozen=True)
class Warping:
    """Settings of the pairs.

    Attributes:
        size: (height, width) of both views.
        seed: seed of warps and light. The pair of an image depends only on the seed and the image's name.
        light: strength of light, blur and noise in the second view, 0 to 1.
    """

    size: tuple[int, int] = (480, 640)
    seed: int = 0
    ranges: Ranges = field(default_factory=Ranges)
    light: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.light <= 1:
            raise ValueError(f"light is {self.light}, allowed is 0 to 1")


def warped_pair(image: Image, name: str, settings: Warping) -> Pair:
    """Make a pair of an (H, W) image: scaled and cropped to size, and a random view from within it."""
    rng = np.random.default_rng((settings.seed, zlib.crc32(name.encode())))
    first, _ = Framing(crop=settings.size).apply(image)
    r = settings.ranges
    ranges = HomographyRange(r.rotation, scale_min=r.scale, scale_max=1.0, perspective=r.perspective)
    to_first = random_homography(rng, settings.size, settings.size, ranges)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    second = cv2.warpPerspective(first, to_first, settings.size[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
    homography = np.linalg.inv(to_first)
    second = _relight(rng, np.asarray(second, np.uint8), settings.light)
    return Pair(name, first, second, homography / homography[2, 2], "warped")


def warp_all(
    paths: Iterable[Path], size: tuple[int, int] = (360, 480), seed: int = 0, ranges: HomographyRange | None = None
) -> Iterator[Pair]:
    """Make a pair of each image in memory: two random views of (height, width) `size`, augmented as in training.

    Training measures its progress on these pairs; for a benchmark use `make_pairs`.
    """
    from superpoint_ros.training.photometric import augment_image  # imports PyTorch

    rng = np.random.default_rng(seed)
    ranges = ranges or HomographyRange(scale_min=0.7)
    for path in paths:
        image = read_grey(path, max(size))
        maps = [random_homography(rng, image.shape, size, ranges) for _ in range(2)]
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        views = [
            augment_image(cv2.warpPerspective(image, to_image, size[::-1], flags=flags), int(rng.integers(2**31)))
            for to_image in maps
        ]
        homography = np.linalg.inv(maps[1]) @ maps[0]
        yield Pair(path.stem, views[0], views[1], homography / homography[2, 2], "warped")


def _relight(rng: np.random.Generator, image: Image, strength: float) -> Image:
    """Change the exposure, and add blur and noise.

    This is not the augmentation of training, so that benchmarks do not change with it.
    """
    gamma = np.exp(rng.normal(0, 0.25 * strength))
    gain, sigma, noise = (
        1 + strength * rng.uniform(-0.3, 0.2),
        strength * rng.uniform(0, 1.2),
        strength * rng.uniform(0, 8),
    )
    if not strength:
        return image
    value = 255 * gain * (image / 255.0) ** gamma
    if sigma > 0.2:
        value = cv2.GaussianBlur(value, (0, 0), sigma)
    value = value + noise * rng.standard_normal(image.shape)
    return np.asarray(np.clip(np.rint(value), 0, 255), np.uint8)


@dataclass(frozen=True)
class _Task:
    image: Path
    name: str
    out: Path
    settings: Warping


def make_pairs(
    images: Path, out: Path, settings: Warping, limit: int = 0, engine: Engine | None = None
) -> tuple[int, list[Skipped]]:
    """Write a pair of each image below a folder, in the layout of HPatches: `w_NAME/1.png`, `2.png`, `H_1_2`.

    Existing pairs are kept, so that an interrupted run resumes.

    Args:
        limit: maximum number of images, in order of their names; 0 for all.

    Returns:
        The number of pairs in the folder, and the images that were skipped.

    Raises:
        ValueError: if there are no images, or the folder has pairs made with other settings.
    """
    found = list_images(images)[: limit or None]
    out.mkdir(parents=True, exist_ok=True)
    note = {"made_by": "superpoint-ros evaluate make-pairs", **json.loads(json.dumps(asdict(settings)))}
    path = out / NOTE
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != note:
        raise ValueError(f"folder '{out}' has pairs made with other settings ({NOTE}), use another folder")
    write_text(path, json.dumps(note, indent=1) + "\n")
    names = {path: path.relative_to(images).as_posix().replace("/", "_").replace(".", "_") for path in found}
    tasks = [_Task(path, name, out, settings) for path, name in names.items()]
    results = list((engine or Engine()).run(_make_pair, tasks, "making pairs"))
    skipped = sorted((item for item in results if item is not None), key=lambda item: item.name)
    return len(results) - len(skipped), skipped


def _make_pair(task: _Task) -> Skipped | None:
    folder = task.out / f"w_{task.name}"
    if folder.is_dir():
        return None
    try:
        pair = warped_pair(read_grey(task.image), task.name, task.settings)
    except ValueError as error:
        return Skipped(str(task.image), str(error))
    partial = task.out / f".{folder.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for k, image in ((1, pair.first), (2, pair.second)):
        if not cv2.imwrite(str(partial / f"{k}.png"), image):
            raise OSError(f"image '{partial / f'{k}.png'}' cannot be written")
    np.savetxt(partial / "H_1_2", pair.homography, fmt="%.17g")
    os.replace(partial, folder)
    return None
