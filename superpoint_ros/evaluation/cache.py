"""A content-addressed cache of predictions on disk, so that metrics are recomputed without running the methods."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from superpoint_ros.evaluation.methods import Detection, Image, Method

_FORMAT = 1


def default_folder() -> Path:
    """Return `$XDG_CACHE_HOME/superpoint_ros/predictions`, usually in ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "superpoint_ros" / "predictions"


class Predictor:
    """A method whose detections are cached in a folder.

    The key is a checksum of the method's settings, the image's bytes and the protocol's parameters, so no stale entry
    is ever read. Files are written atomically: an interrupted run resumes where it stopped.

    Args:
        folder: cache folder; None disables the cache.
    """

    def __init__(self, method: Method, folder: Path | None) -> None:
        self._method = method
        self._folder = folder
        self._settings = json.dumps(method.settings(), sort_keys=True)
        self.computed = 0
        self.reused = 0

    def detect(self, image: Image, max_keypoints: int, nms_radius: int, descriptors: bool = True) -> Detection:
        """Detect as the method does, or read from the cache; drop descriptors unless `descriptors`."""
        path = self._path(image, (max_keypoints, nms_radius, int(descriptors)))
        if path and (kept := _read(path)) is not None:
            self.reused += 1
            return kept
        self.computed += 1
        found = self._method.detect(image, max_keypoints, nms_radius)
        if not descriptors:
            found = Detection(found.keypoints, found.scores, None)
        if path:
            _write(path, found)
        return found

    def _path(self, image: Image, numbers: tuple[int, ...]) -> Path | None:
        if self._folder is None:
            return None
        digest = hashlib.sha256(f"{_FORMAT}\n{self._settings}\n{numbers}\n{image.shape}\n".encode())
        digest.update(image.tobytes())
        name = digest.hexdigest()
        return self._folder / name[:2] / f"{name[2:]}.npz"


def _read(path: Path) -> Detection | None:
    """Read a cache entry; return None if it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            descriptors = file["descriptors"] if "descriptors" in file else None
            return Detection(file["keypoints"], file["scores"], descriptors)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write(path: Path, found: Detection) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {"keypoints": found.keypoints, "scores": found.scores}
    if found.descriptors is not None:
        arrays["descriptors"] = found.descriptors
    # Processes may write the same prediction at once, each to a temporary file of its own.
    partial = path.with_name(f"{path.stem}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            np.savez(file, **arrays)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
