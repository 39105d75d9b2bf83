"""Measure the stages of this package, and count the network's operations."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from superpoint_ros.benchmark.scene import Image
from superpoint_ros.benchmark.subjects import Ours
from superpoint_ros.extraction.network import CELL, ENCODER, HEADS, Architecture
from superpoint_ros.frontend.registration import register_frame
from superpoint_ros.frontend.settings import FrontEndSettings
from superpoint_ros.frontend.tracking import TrackIds
from superpoint_ros.frontend.views import first_view
from superpoint_ros.io.images import to_grey
from superpoint_ros.two_view.refinement import FARTHEST, Templates, refine_points, smooth
from superpoint_ros.two_view.refiner import TensorRefiner, refiner

STAGES = ("preprocess", "network", "decode features", "match", "homography", "refine", "epipolar")
"""Of a frame's way through the front end; `refine` is all that refined matches and tracks take beyond matching."""


class StageClock:
    """A `superpoint.Clock` that synchronises with the device at the end of every stage."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.durations: dict[str, list[float]] = {}

    @contextmanager
    def stage(self, name: str, again: bool = False) -> Iterator[None]:
        """Time the block as one run of a stage, or, if `again`, add it to the stage's last run."""
        start = time.perf_counter()
        yield
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        durations = self.durations.setdefault(name, [])
        durations.append(time.perf_counter() - start + (durations.pop() if again and durations else 0.0))

    def medians(self) -> dict[str, float]:
        """Return the median seconds by stage."""
        return {name: statistics.median(values) for name, values in self.durations.items()}


def stage_times(subject: Ours, images: Sequence[Image], rounds: int, device: torch.device) -> dict[str, float]:
    """Measure the median seconds of each stage on single images."""
    settings, ids, clock, refine = FrontEndSettings(), TrackIds(), StageClock(device), refiner(device)
    before = first_view(images[0], subject.extract(images[:1])[0], ids, settings)
    for index in range(1, rounds + 1):
        image = images[index % len(images)]
        found = subject.extract([image], clock)[0]
        before = register_frame(before, image, found, ids, settings, clock, refine=refine).view
    return clock.medians()


def refinement_times(subject: Ours, image: Image, rounds: int, device: torch.device) -> dict[str, float]:
    """Measure the refinement of an image's keypoints, from starts half a pixel off.

    Returns:
        `points`, the number of keypoints, and the median milliseconds in NumPy, which the front end uses on a CPU, and
        in PyTorch on the device, which it uses on a GPU: `numpy_ms` and `tensor_ms`.
    """
    points, smoothed = subject.extract([image])[0].keypoints, smooth(to_grey(image))
    turn = np.tile(np.eye(2, dtype=np.float32), (len(points), 1, 1))
    given = Templates.of(smoothed, points), smoothed, points + np.float32(0.35), turn, FARTHEST
    found: dict[str, float] = {"points": len(points)}
    for name, refine in (("numpy_ms", refine_points), ("tensor_ms", TensorRefiner(device))):
        refine(*given)
        durations = []
        for _ in range(rounds):
            start = time.perf_counter()
            refine(*given)
            durations.append(time.perf_counter() - start)
        found[name] = round(1e3 * statistics.median(durations), 3)
    return found


def operations(architecture: Architecture, width: int, height: int) -> int:
    """Count the floating-point operations of the convolutions on one image: two per weight and output position."""
    widths = dict(zip(ENCODER, architecture.encoder, strict=True))
    total, inputs = 0, 1
    rows, columns = (-(-side // CELL) * CELL for side in (height, width))
    for name in ENCODER:
        total += 2 * 9 * inputs * widths[name] * rows * columns
        inputs = widths[name]
        if name in ("1b", "2b", "3b"):
            rows, columns = rows // 2, columns // 2
    hidden = {"P": architecture.detector, "D": architecture.descriptor}
    last = {"P": CELL * CELL + 1, "D": architecture.descriptor_size}
    for name in HEADS[::2]:
        head = name[0]
        total += 2 * (9 * inputs * hidden[head] + hidden[head] * last[head]) * rows * columns
    return total
