"""Write features and matches in the HDF5 files of hloc (Hierarchical-Localization).

hloc puts the origin at the centre of the top-left pixel, as this package does, so keypoints are unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from superpoint_ros.features import Features, Matches
from superpoint_ros.io.files import atomic_write, write_text
from superpoint_ros.io.optional import load_optional

if TYPE_CHECKING:
    import h5py

_CELL = 8
"""Side in pixels of the network's cell where the image is given to the network as it is."""


def write_features(path: str | Path, images: Iterable[tuple[str, Features]]) -> None:
    """Write the features of images, by name, atomically.

    A group for each image has keypoints (N, 2) float32 with the attribute `uncertainty`, scores (N,) float16,
    descriptors (D, N) float16, and image_size as (width, height). hloc itself stores keypoints as float16, too, whose
    steps are half a pixel and more from x = 1024 on; its readers accept both. The uncertainty is a pixel of the
    network's input, in pixels of the image.

    Args:
        images: name relative to the folder of images, and features.

    Raises:
        ModuleNotFoundError: if h5py is not installed.
    """
    with _create(path) as file:
        for name, features in images:
            group = file.create_group(name)
            keypoints = group.create_dataset("keypoints", data=features.keypoints)
            sizes = features.sizes
            keypoints.attrs["uncertainty"] = float(sizes.mean()) / _CELL if sizes is not None and len(sizes) else 1.0
            group.create_dataset("scores", data=features.scores.astype(np.float16))
            group.create_dataset("descriptors", data=features.descriptors.T.astype(np.float16))
            group.create_dataset("image_size", data=np.array(features.image_size[::-1]))


def write_matches(path: str | Path, pairs: Iterable[tuple[str, str, int, Matches]]) -> None:
    """Write the matches of pairs of images atomically.

    A group for each pair has matches0 (N,) int16, the keypoint in the second image of each of the first or -1, and
    matching_scores0 (N,) float16, the cosine similarity c as (1 + c) / 2 as hloc's nearest neighbours have it.

    Args:
        pairs: names of both images, number of keypoints in the first one, and matches.

    Raises:
        ModuleNotFoundError: if h5py is not installed.
    """
    with _create(path) as file:
        for first, second, count, matches in pairs:
            forward, scores = np.full(count, -1, np.int16), np.zeros(count, np.float16)
            forward[matches.indices[:, 0]] = matches.indices[:, 1]
            scores[matches.indices[:, 0]] = (1 + matches.similarity) / 2
            group = file.create_group(pair_name(first, second))
            group.create_dataset("matches0", data=forward)
            group.create_dataset("matching_scores0", data=scores)


def write_pairs(path: str | Path, pairs: Iterable[tuple[str, str]]) -> None:
    """Write the names of pairs of images, a pair in each line, which hloc and COLMAP's matches_importer read."""
    write_text(path, "".join(f"{first} {second}\n" for first, second in pairs))


def pair_name(first: str, second: str) -> str:
    """Return the name of a pair's group: the names of both images without slashes, as two levels."""
    return f"{first.replace('/', '-')}/{second.replace('/', '-')}"


def load() -> Any:
    """Import h5py.

    Raises:
        ModuleNotFoundError: if it is not installed.
    """
    return load_optional("h5py", "files of hloc", "hloc")


@contextmanager
def _create(path: str | Path) -> Iterator[h5py.File]:
    h5py = load()
    with atomic_write(path) as partial, h5py.File(partial, "w", libver="latest") as file:
        yield file
