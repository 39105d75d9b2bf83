"""Compare the keypoints of different ways of running the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.benchmark.scene import Image
from superpoint_ros.benchmark.subjects import LIGHT, PLAIN, TRANSFORMERS, Ours, Subject

_SAME = 1.0  # pixel
_MARGIN = 16  # pixels


def agreement(built: Mapping[str, Subject], images: Sequence[Image]) -> dict[str, float]:
    """Compute the fraction of keypoints within a pixel of the reference's, in both directions.

    The reference is this package in PyTorch float32 or, if it is not measured, another float32 implementation.
    """
    networks = {name: subject for name, subject in built.items() if not name.startswith(("opencv-", LIGHT))}
    reference = next((name for name in ("pytorch-float32", PLAIN, TRANSFORMERS) if name in networks), None)
    if reference is None:
        return {}
    found = {name: _whole_pixels(subject, images[0]) for name, subject in networks.items()}
    return {name: round(shared(found[reference], points), 4) for name, points in found.items()}


def _whole_pixels(subject: Subject, image: Image) -> NDArray[np.float32]:
    """Extract keypoints without subpixel refinement, which only this package has, and away from the borders, where
    transformers suppresses nothing on two sides."""
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
    """Compute the fraction of (N, 2) and (M, 2) keypoints that are within a pixel of one in the other set."""
    if not len(first) or not len(second):
        return float(len(first) == len(second))
    distance = np.linalg.norm(first[:, None] - second[None], axis=2)
    nearest = np.concatenate((distance.min(axis=1), distance.min(axis=0)))
    return float((nearest <= _SAME).mean())
