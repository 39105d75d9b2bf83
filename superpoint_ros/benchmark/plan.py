"""The plan of a benchmark run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from superpoint_ros.benchmark.measure import Case
from superpoint_ros.extraction.superpoint import MIN_SIDE

SIZES = ("320x240", "640x480", "752x480", "1241x376", "1280x720", "1920x1080")
BATCHES = (1, 2, 4, 8)
REFERENCE = "640x480"
EXTRAS = ("memory", "energy", "middleware", "live")
"""Optional measurements at the reference size; besides these there is `kernels`, for PyTorch's runtimes."""

_LARGEST_SIDE = 8192
_MAX_BATCH = 16


@dataclass(frozen=True)
class Plan:
    """What a run measures; see `superpoint-ros bench --help`.

    Attributes:
        sizes: as "640x480".
        batches: batch sizes; above 1 at the reference size only, unless `grid`.
        subjects: names, or prefixes of names, of the subjects to measure; all if empty.
        rounds: number of turns of each subject in each case.
        seconds: time budget per case, after which no round beyond the third starts.
        extras: any of `EXTRAS`, and `kernels`.
        ceiling_seconds: duration of each measurement of the matrix product ceiling.
        threads: number of threads of PyTorch, OpenVINO, ONNX Runtime and OpenCV; 0 keeps their defaults.
    """

    sizes: Sequence[str] = SIZES
    batches: Sequence[int] = (1, 4)
    grid: bool = False
    subjects: Sequence[str] = ()
    weights: str | Path = "default"
    device: str = "auto"
    images: str | Path | None = None
    max_keypoints: int = 1000
    rounds: int = 7
    seconds: float = 40.0
    extras: Sequence[str] = EXTRAS
    ceiling_seconds: float = 0.4
    threads: int = 0

    def cases(self) -> list[Case]:
        """List the cases in the order in which they are measured.

        Raises:
            ValueError: if a size, batch or number of rounds is not allowed.
        """
        if self.rounds < 1:
            raise ValueError(f"rounds is {self.rounds}, allowed is 1 or more")
        if self.threads < 0:
            raise ValueError(f"threads is {self.threads}, allowed is 0 or more")
        sizes = [size_of(text) for text in dict.fromkeys(self.sizes)]
        for batch in self.batches:
            if not 1 <= batch <= _MAX_BATCH:
                raise ValueError(f"batch {batch} is not allowed, it must be from 1 to {_MAX_BATCH}")
        reference = self.reference()
        return [
            Case(*size, batch)
            for size in sizes
            for batch in sorted(set(self.batches))
            if batch == 1 or self.grid or size == reference
        ]

    def reference(self) -> tuple[int, int]:
        """Return the size at which everything but the times is measured: 640x480, or the first of `sizes`."""
        return size_of(REFERENCE if REFERENCE in self.sizes else self.sizes[0])


def size_of(text: str) -> tuple[int, int]:
    """Parse a size such as "640x480"; return (width, height).

    Raises:
        ValueError: if the text has another form, or a side is out of range.
    """
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    size = (int(found[1]), int(found[2])) if found else (0, 0)
    if not all(MIN_SIDE <= side <= _LARGEST_SIDE for side in size):
        raise ValueError(
            f"size '{text}' is not allowed, it must be WIDTHxHEIGHT with sides from {MIN_SIDE} to {_LARGEST_SIDE}"
        )
    return size
