"""How many keypoints two ways of running the network have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.benchmark.scene import Image
from superpoint_ros.benchmark.subjects import LIGHT, PLAIN, TRANSFORMERS, Ours, Subject

_SAME = 1.0  # pixel
_MARGIN = 16  # pixels


def agreement(built: Mapping[str, Subject], images: Sequence[Image]) -> dict[str, float]:
    """Share of keypoints that have one of the reference's within a pixel, both ways; the reference is PyTorch float32,
    this package's or else the plain one."""
    networks = {name: subject for name, subject in built.items() if not name.startswith(("opencv-", LIGHT))}
    reference = next((name for name in ("pytorch-float32", PLAIN, TRANSFORMERS) if name in networks), None)
    if reference is None:
        return {}
    found = {name: _whole_pixels(subject, images[0]) for name, subject in networks.items()}
    return {name: round(shared(found[reference], points), 4) for name, points in found.items()}


def _whole_pixels(subject: Subject, image: Image) -> NDArray[np.float32]:
    """Keypoints before refinement, which only this package has, and away from the borders, which transformers leaves
    open on two sides."""
    if isinstance(subject, Ours):
        refined = subject.superpoint.settings.subpixel
        subject.superpoint.configure(subpixel=False)
        points = subject.extract([image])[0].keypoints
        subject.superpoint.configure(subpixel=refined)
    else:
        points = subject.extract([image])[0].keypoints
    last = np.array(image.shape[1::-1]) - 1 - _MARGIN
    return points[((points >= _MARGIN) & (points <= last)).all(axis=1)]


def shared(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Share of (N, 2) and (M, 2) keypoints that have one of the other ones within a pixel."""
    if not len(first) or not len(second):
        return float(len(first) == len(second))
    distance = np.linalg.norm(first[:, None] - second[None], axis=2)
    nearest = np.concatenate((distance.min(axis=1), distance.min(axis=0)))
    return float((nearest <= _SAME).mean())
