"""Running medians of the duration of each stage."""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

STAGES = ("decode", "preprocess", "network", "decode features", "match", "homography", "refine", "epipolar", "publish")
STEREO = "stereo"
"""The stage that only pairs of cameras have; it is a part of "publish"."""


class Stopwatch:
    """Measures stages and keeps the last `window` durations of each; safe to read from any thread."""

    def __init__(self, window: int = 101) -> None:
        self._durations = {stage: deque[float](maxlen=window) for stage in (*STAGES, STEREO)}
        self._lock = threading.Lock()

    @contextmanager
    def stage(self, name: str, again: bool = False) -> Iterator[None]:
        """Time the block as one run of a stage; with `again`, add its time to the stage's last run."""
        start = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - start
            with self._lock:
                durations = self._durations[name]
                durations.append(elapsed + (durations.pop() if again and durations else 0.0))

    def medians(self) -> dict[str, float]:
        """Return the median duration of each stage, in seconds."""
        with self._lock:
            return {name: statistics.median(values) for name, values in self._durations.items() if values}
