"""Pairs of images with true homographies, as folders hold them: HPatches sequences, and folders of warped pairs.

Both have one layout (Balntas et al., 2017): a folder for each sequence, with images `1.ppm`, `2.ppm` ... (any image
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
"""What changes within a sequence, by the beginning of its name; w_ are the warped pairs of `evaluate make-pairs`."""

_COMPLETE = 6  # images of a sequence of HPatches


@dataclass(frozen=True)
class LeftOut:
    """Something that could not be evaluated.

    Attributes:
        name: of the sequence, pair or method.
        reason: one sentence.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Pair:
    """Two views of a plane, ready for evaluation.

    Attributes:
        name: of sequence and images.
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
    """One folder: a reference image and views of the same plane.

    Attributes:
        name: path below the dataset's folder.
        group: what changes, a value of `GROUPS` or "other".
        reference: file of image 1.
        views: file of image k, and the homography from pixels of image 1 to its pixels, by k.
    """

    name: str
    group: str
    reference: Path
    views: dict[int, tuple[Path, Matrix]]


@dataclass(frozen=True)
class Dataset:
    """What a folder holds that can be evaluated, and what was left out."""

    folder: Path
    sequences: tuple[Sequence, ...]
    left_out: tuple[LeftOut, ...]


def read_dataset(folder: str | Path) -> Dataset:
    """The sequences in and below a folder, without reading their images.

    Missing images, missing or unusable homographies and empty folders are left out and listed; a sequence named as in
    HPatches (`i_`, `v_`) is expected to have six images.

    Raises:
        ValueError: if nothing is left to evaluate.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"dataset '{folder}' is no folder")
    sequences: list[Sequence] = []
    left_out: list[LeftOut] = []
    for place in sorted([root, *(path for path in root.rglob("*") if path.is_dir())]):
        name = place.relative_to(root).as_posix() if place != root else place.resolve().name
        pictures, homographies = _contents(place)
        if not pictures and not homographies:
            if place != root and not any(child.is_dir() for child in place.iterdir()):
                left_out.append(LeftOut(name, "the folder holds no image 1, 2 ... and no homography H_1_k"))
            continue
        sequence, missing = _read_sequence(name, pictures, homographies)
        left_out += missing
        if sequence.views:
            sequences.append(sequence)
    if not sequences:
        why = f": {left_out[0].name}: {left_out[0].reason}" if left_out else ""
        raise ValueError(f"dataset '{folder}' holds no sequence in HPatches layout (1.ppm, 2.ppm, H_1_2 ...){why}")
    return Dataset(root, tuple(sequences), tuple(left_out))


def _contents(place: Path) -> tuple[dict[int, Path], dict[int, Path]]:
    """Files of images and of homographies by their number."""
    pictures: dict[int, Path] = {}
    homographies: dict[int, Path] = {}
    for path in sorted(place.iterdir()):
        if path.stem.isdigit() and path.suffix.lower() in SUFFIXES:
            pictures.setdefault(int(path.stem), path)
        elif found := re.fullmatch(r"H_1_(\d+)", path.name):
            homographies[int(found[1])] = path
    return pictures, homographies


def _read_sequence(
    name: str, pictures: dict[int, Path], homographies: dict[int, Path]
) -> tuple[Sequence, list[LeftOut]]:
    group = GROUPS.get(Path(name).name[:2], "other")
    expected = set(pictures) | set(homographies)
    if group in ("illumination", "viewpoint"):
        expected |= set(range(2, _COMPLETE + 1))
    if 1 not in pictures:
        return Sequence(name, group, Path(), {}), [LeftOut(name, "image 1 is missing")]
    views: dict[int, tuple[Path, Matrix]] = {}
    left_out = []
    for k in sorted(expected - {1}):
        if lacking := [text for text, found in ((f"image {k}", pictures), (f"homography H_1_{k}", homographies))
                       if k not in found]:  # fmt: skip
            reason = f"{' and '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} missing"
            left_out.append(LeftOut(f"{name}/1-{k}", reason))
            continue
        try:
            views[k] = pictures[k], read_homography(homographies[k])
        except ValueError as error:
            left_out.append(LeftOut(f"{name}/1-{k}", str(error)))
    return Sequence(name, group, pictures[1], views), left_out


def read_homography(path: Path) -> Matrix:
    """The (3, 3) matrix in a text file.

    Raises:
        ValueError: if the file holds no invertible 3 x 3 matrix of finite numbers.
    """
    try:
        matrix = np.loadtxt(path, ndmin=2)
    except (ValueError, OSError) as error:
        raise ValueError(f"homography {path.name} cannot be read as numbers") from error
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-12:
        raise ValueError(f"homography {path.name} is no invertible 3 x 3 matrix")
    return np.asarray(matrix, np.float64)


class Views:
    """The framed images of a sequence, each read once and only when it is wanted."""

    def __init__(self, sequence: Sequence, framing: Framing) -> None:
        self.sequence = sequence
        self._framing = framing
        self._framed: dict[int, tuple[Image, NDArray[np.float64]]] = {}

    def picture(self, k: int) -> Image:
        """Image k as (H, W) uint8.

        Raises:
            ValueError: if the file cannot be read.
        """
        return self._read(k)[0]

    def pair(self, k: int) -> Pair:
        """Images 1 and k with the ground truth between their framed pixels.

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
