"""Results of a long run, one file per result, so that an interrupted run can resume."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.features import Features, Matches
from superpoint_ros.io.files import atomic_write, write_text

_IN_MEMORY = 256
"""Features of images that are kept in memory, about a megabyte each."""


class Journal:
    """Features and matches by name of the image, in a folder.

    Args:
        folder: created if it does not exist; what is in it is dropped if it belongs to other settings.
        settings: everything that results depend on.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._folder = folder
        stated, path = json.dumps(settings, sort_keys=True), folder / "settings.json"
        if not path.is_file() or path.read_text(encoding="utf-8") != stated:
            self.remove()
            folder.mkdir(parents=True)
            write_text(path, stated)
        self.features = lru_cache(_IN_MEMORY)(self._features)

    def __contains__(self, name: str) -> bool:
        return self._path(name).is_file()

    def write_features(self, name: str, features: Features) -> None:
        """Write the features of an image."""
        columns = {"keypoints": features.keypoints, "scores": features.scores, "descriptors": features.descriptors}
        if features.sizes is not None:
            columns["sizes"] = features.sizes
        self._write(name, image_size=np.array(features.image_size), **columns)

    def _features(self, name: str) -> Features:
        """Read the features of an image."""
        found = self._read(name)
        height, width = found["image_size"].tolist()
        keypoints, scores, descriptors = (found[key] for key in ("keypoints", "scores", "descriptors"))
        return Features(keypoints, scores, descriptors, (height, width), sizes=found.get("sizes"))

    def write_matches(self, name: str, matches: Mapping[str, Matches]) -> None:
        """Write the matches of an image with others, by their names."""
        counts = [len(each) for each in matches.values()]
        indices = [np.zeros((0, 2), np.int64), *(each.indices for each in matches.values())]
        similarity = [np.zeros(0, np.float32), *(each.similarity for each in matches.values())]
        names = np.array(list(matches), np.str_)
        self._write(
            name, names=names, counts=counts, indices=np.concatenate(indices), similarity=np.concatenate(similarity)
        )

    def matches(self, name: str) -> dict[str, Matches]:
        """Read the matches of an image with others, by their names."""
        found = self._read(name)
        ends = np.cumsum(found["counts"])[:-1]
        parts = zip(np.split(found["indices"], ends), np.split(found["similarity"], ends), strict=True)
        return {str(other): Matches(*part) for other, part in zip(found["names"], parts, strict=True)}

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.npz"

    def _write(self, name: str, **arrays: Any) -> None:
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial, open(partial, "wb") as file:
            np.savez(file, **arrays)

    def _read(self, name: str) -> dict[str, NDArray[Any]]:
        with np.load(self._path(name), allow_pickle=False) as found:
            return dict(found)
