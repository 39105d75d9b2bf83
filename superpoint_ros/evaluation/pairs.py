"""Read pairs of images with true homographies from folders: HPatches sequences and warped pairs.

Both have the same layout (Balntas et al., 2017): a folder for each sequence, with images `1.ppm`, `2.ppm` ... (of any
format) and text files `H_1_2`, `H_1_3` ... that map pixels of image 1 to pixels of image k.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.evaluation.framing import Framing, Image, Matrix
from superpoint_ros.io.images import SUFFIXES, read_grey

GROUPS = {"i_": "illumination", "v_": "viewpoint", "w_": "warped"}
"""What changes within a sequence, by the prefix of its name; w_ marks the warped pairs of `evaluate make-pairs`."""

_COMPLETE = 6  # number of images in a sequence of HPatches


@dataclass(frozen=True)
class Skipped:
    """Something that could not be evaluated.

    Attributes:
        name: name of the sequence, pair, image or method.
        reason: one sentence.
    """

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


@dataclass(frozen=True)
class Pair:
    """Two views of a plane, ready for evaluation.

    Attributes:
        name: names of sequence and images.
        first, second: (H, W) uint8.
        homography: maps the first image's pixels to the second's.
        group: what changes between the views, a value of `GROUPS` or "other".
    """

    name: str
    first: Image
    second: Image
    homography: Matrix
    group: str = "other"


@dataclass(frozen=True)
class Sequence:
    """A sequence: a reference image and other views of the same plane.

    Attributes:
        name: path relative to the dataset's folder.
        group: what changes, a value of `GROUPS` or "other".
        reference: file of image 1.
        views: by k, the file of image k and the homography from pixels of image 1 to its pixels.
    """

    name: str
    group: str
    reference: Path
    views: dict[int, tuple[Path, Matrix]]


@dataclass(frozen=True)
class Dataset:
    """The usable sequences of a folder, and what was skipped."""

    folder: Path
    sequences: tuple[Sequence, ...]
    skipped: tuple[Skipped, ...]


def read_dataset(folder: str | Path) -> Dataset:
    """Find the sequences in and below a folder, without reading their images.

    Missing images, missing or unusable homographies and empty folders are skipped and reported; a sequence named as
    in HPatches (`i_`, `v_`) is expected to have six images.

    Raises:
        ValueError: if there is nothing to evaluate.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"dataset '{folder}' is not a folder")
    sequences: list[Sequence] = []
    skipped: list[Skipped] = []
    for path in sorted([root, *(folder for folder in root.rglob("*") if folder.is_dir())]):
        name = path.relative_to(root).as_posix() if path != root else path.resolve().name
        images, homographies = _contents(path)
        if not images and not homographies:
            if path != root and not any(child.is_dir() for child in path.iterdir()):
                skipped.append(Skipped(name, "the folder has no image 1, 2 ... and no homography H_1_k"))
            continue
        sequence, missing = _read_sequence(name, images, homographies)
        skipped += missing
        if sequence.views:
            sequences.append(sequence)
    if not sequences:
        why = f": {skipped[0]}" if skipped else ""
        raise ValueError(f"dataset '{folder}' has no sequence in HPatches layout (1.ppm, 2.ppm, H_1_2 ...){why}")
    return Dataset(root, tuple(sequences), tuple(skipped))


def _contents(folder: Path) -> tuple[dict[int, Path], dict[int, Path]]:
    """Find the files of images and of homographies, by their number."""
    images: dict[int, Path] = {}
    homographies: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.stem.isdigit() and path.suffix.lower() in SUFFIXES:
            images.setdefault(int(path.stem), path)
        elif found := re.fullmatch(r"H_1_(\d+)", path.name):
            homographies[int(found[1])] = path
    return images, homographies


def _read_sequence(name: str, images: dict[int, Path], homographies: dict[int, Path]) -> tuple[Sequence, list[Skipped]]:
    group = GROUPS.get(Path(name).name[:2], "other")
    expected = set(images) | set(homographies)
    if group in ("illumination", "viewpoint"):
        expected |= set(range(2, _COMPLETE + 1))
    if 1 not in images:
        return Sequence(name, group, Path(), {}), [Skipped(name, "image 1 is missing")]
    views: dict[int, tuple[Path, Matrix]] = {}
    skipped = []
    for k in sorted(expected - {1}):
        if missing := [text for text, found in ((f"image {k}", images), (f"homography H_1_{k}", homographies))
                       if k not in found]:  # fmt: skip
            reason = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
            skipped.append(Skipped(f"{name}/1-{k}", reason))
            continue
        try:
            views[k] = images[k], read_homography(homographies[k])
        except ValueError as error:
            skipped.append(Skipped(f"{name}/1-{k}", str(error)))
    return Sequence(name, group, images[1], views), skipped


def read_homography(path: Path) -> Matrix:
    """Read a (3, 3) homography from a text file.

    Raises:
        ValueError: if the file is not an invertible 3 x 3 matrix of finite numbers.
    """
    try:
        matrix = np.loadtxt(path, ndmin=2)
    except (ValueError, OSError) as error:
        raise ValueError(f"homography {path.name} cannot be read as numbers") from error
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-12:
        raise ValueError(f"homography {path.name} is not an invertible 3 x 3 matrix")
    return np.asarray(matrix, np.float64)


class Views:
    """The framed images of a sequence, each read once, on demand."""

    def __init__(self, sequence: Sequence, framing: Framing) -> None:
        self.sequence = sequence
        self._framing = framing
        self._framed: dict[int, tuple[Image, NDArray[np.float64]]] = {}

    def image(self, k: int) -> Image:
        """Return framed image k as (H, W) uint8.

        Raises:
            ValueError: if the file cannot be read.
        """
        return self._read(k)[0]

    def pair(self, k: int) -> Pair:
        """Return framed images 1 and k with the ground truth between their pixels.

        Raises:
            ValueError: if one of the files cannot be read.
        """
        (first, first_map), (second, second_map) = self._read(1), self._read(k)
        homography = second_map @ self.sequence.views[k][1] @ np.linalg.inv(first_map)
        scale = homography[2, 2]
        if abs(scale) > 1e-12:
            homography = homography / scale
        return Pair(f"{self.sequence.name}/1-{k}", first, second, homography, self.sequence.group)

    def _read(self, k: int) -> tuple[Image, NDArray[np.float64]]:
        if k not in self._framed:
            path = self.sequence.reference if k == 1 else self.sequence.views[k][0]
            self._framed[k] = self._framing.apply(read_grey(path))
        return self._framed[k]
