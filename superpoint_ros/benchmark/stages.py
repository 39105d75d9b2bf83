"""Where the time goes within this package, and how much arithmetic that is."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F

from superpoint_ros.benchmark.scene import Image
from superpoint_ros.benchmark.subjects import Ours
from superpoint_ros.network import CELL, ENCODER, HEADS, Architecture

STAGES = ("preprocess", "network", "decode features", "match and homography")


class StageClock:
    """See `superpoint.Clock`. Every stage ends when the device has done what it was given."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.durations: dict[str, list[float]] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the block."""
        start = time.perf_counter()
        yield
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self.durations.setdefault(name, []).append(time.perf_counter() - start)

    def medians(self) -> dict[str, float]:
        """Seconds by stage."""
        return {name: statistics.median(values) for name, values in self.durations.items()}


def stage_times(subject: Ours, images: Sequence[Image], rounds: int, device: torch.device) -> dict[str, float]:
    """Median seconds of each stage on single images."""
    before = subject.extract(images[:1])[0]
    clock = StageClock(device)
    for index in range(1, rounds + 1):
        found = subject.extract([images[index % len(images)]], clock)[0]
        with clock.stage("match and homography"):
            subject.relate(before, found)
        before = found
    return clock.medians()


def operations(architecture: Architecture, width: int, height: int) -> int:
    """Floating-point operations of the network's convolutions on one image: two for each weight and place."""
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


def matrix_product_ceiling(device: torch.device, seconds: float = 0.5) -> dict[str, float]:
    """The most floating-point operations per second that PyTorch reaches here in a square matrix product, by precision.

    It is the yardstick for the network: what a large product of one precision makes of this machine, now. The product
    is tried as such and as a 1 x 1 convolution, which is another library's work on some processors. On CUDA, float32 is
    allowed to use TF32, as convolutions do.
    """
    on_cuda = device.type == "cuda"
    side = 8192 if on_cuda else 1024
    found = {}
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        for name in ("float32", "bfloat16", *(["float16"] if on_cuda else [])):
            a, b = (torch.randn(side, side, device=device).to(getattr(torch, name)) for _ in range(2))
            image = a.view(1, side, -1, 32).contiguous(memory_format=torch.channels_last)
            products = (partial(torch.mm, a, b), partial(F.conv2d, image, b[:, :, None, None]))
            found[name] = 2 * side**3 / min(_quickest(product, device, seconds) for product in products)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
    return found


@torch.inference_mode()
def _quickest(work: Callable[[], torch.Tensor], device: torch.device, seconds: float) -> float:
    best, begin, count = float("inf"), time.perf_counter(), 0
    while count < 3 or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best, count = min(best, time.perf_counter() - start), count + 1
    return best
