"""Measure the stages of this package, and count the network's operations."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from superpoint_ros.benchmark.scene import Image
from superpoint_ros.benchmark.subjects import Ours
from superpoint_ros.extraction.network import CELL, ENCODER, HEADS, Architecture

STAGES = ("preprocess", "network", "decode features", "match and homography")


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
    before = subject.extract(images[:1])[0]
    clock = StageClock(device)
    for index in range(1, rounds + 1):
        pair = images[(index - 1) % len(images)], images[index % len(images)]
        found = subject.extract([pair[1]], clock)[0]
        with clock.stage("match and homography"):
            subject.match(before, found, pair)
        before = found
    return clock.medians()


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
