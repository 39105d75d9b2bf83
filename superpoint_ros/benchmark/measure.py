"""Interleaved measurements: everybody takes turns, so that a machine that is busy for a while harms all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from superpoint_ros.benchmark.scene import Image
from superpoint_ros.benchmark.subjects import Subject
from superpoint_ros.features import Features

VISIT = 0.15
"""Seconds that a subject's turn takes at least; quick ones run several times in it."""

_MOST_IN_A_VISIT = 10
_LEAST_ROUNDS = 3
_PERCENTILES = (10, 50, 90, 95)


@dataclass(frozen=True)
class Case:
    """One size and batch. `label` is as in "640x480" or "640x480, batch 4"."""

    width: int
    height: int
    batch: int = 1

    @property
    def label(self) -> str:
        return f"{self.width}x{self.height}" + (f", batch {self.batch}" if self.batch > 1 else "")

    @property
    def megapixels(self) -> float:
        """Of one image."""
        return self.width * self.height / 1e6


@dataclass
class Samples:
    """Of one subject in one case, each for the whole batch.

    Attributes:
        extract: seconds from images to features on the host.
        whole: seconds of the same runs with matching against the images before and with the homographies.
        processor: seconds of all this process's threads for `extract`; on a busy machine they are the better figure.
        keypoints, matches, inliers: of the batch's first image in the last run.
    """

    extract: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    keypoints: int = 0
    matches: int = 0
    inliers: int = 0


def measure(
    subjects: Mapping[str, Subject],
    images: Sequence[Image],
    batch: int,
    rounds: int,
    seconds: float = float("inf"),
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[dict[str, Samples], dict[str, str]]:
    """Let subjects take turns on the same images, in an order that shifts by one from round to round.

    Args:
        images: at least 2 `batch`, of one size; halves of them follow each other as a camera's images do.
        rounds: turns of each subject.
        seconds: no further round begins when these are used up, but for the first three.
        tell: gets a word on what is being done.

    Returns:
        Samples by name, and for those that failed the reason.
    """
    turns = {name: _Turns(subject, images, batch) for name, subject in subjects.items()}
    failed: dict[str, str] = {}
    for name in list(turns):
        tell(f"{name}: warming up")
        try:
            turns[name].warm_up()
        except (RuntimeError, MemoryError) as error:
            failed[name] = f"{type(error).__name__}: {error}".splitlines()[0]
            del turns[name]
    start = time.perf_counter()
    names = list(turns)
    for index in range(rounds):
        if index >= min(_LEAST_ROUNDS, rounds) and time.perf_counter() - start > seconds:
            break
        for offset in range(len(names)):
            name = names[(index + offset) % len(names)]
            tell(f"round {index + 1} of {rounds}: {name}")
            turns[name].visit()
    return {name: turns[name].samples for name in names}, failed


class _Turns:
    """One subject's turns."""

    def __init__(self, subject: Subject, images: Sequence[Image], batch: int) -> None:
        self._subject = subject
        self._batches = (images[:batch], images[batch : 2 * batch])
        self._count = 0
        self._before: list[Features] = []
        self.samples = Samples()

    def warm_up(self) -> None:
        """Runs that do not count: caches, compiled kernels and the result to match the first image against."""
        start = time.perf_counter()
        while self._count < 2 or (self._count < 5 and time.perf_counter() - start < 2 * VISIT):
            self._run()
        self.samples = Samples()

    def visit(self) -> None:
        """One turn."""
        start, done = time.perf_counter(), 0
        while not done or (done < _MOST_IN_A_VISIT and time.perf_counter() - start < VISIT):
            self._run()
            done += 1

    def _run(self) -> None:
        previous, images = self._batches[(self._count - 1) % 2], self._batches[self._count % 2]
        self._count += 1
        processor, start = time.process_time(), time.perf_counter()
        found = self._subject.extract(images)
        extracted, processor = time.perf_counter() - start, time.process_time() - processor
        seen = zip(previous, images, strict=True)
        pairs = zip(self._before, found, seen, strict=bool(self._before))
        related = [self._subject.relate(*pair) for pair in pairs]
        samples = self.samples
        samples.extract.append(extracted)
        samples.processor.append(processor)
        samples.keypoints = len(found[0])
        if related:
            samples.whole.append(time.perf_counter() - start)
            samples.matches, samples.inliers = len(related[0][0]), related[0][1].inlier_count
        self._before = found


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Median and other figures of durations, in milliseconds."""
    values = np.asarray(seconds) * 1e3
    low, median, high, higher = np.percentile(values, _PERCENTILES)
    figures = {"median": median, "p10": low, "p90": high, "p95": higher, "least": values.min()}
    return {**{name: round(float(value), 4) for name, value in figures.items()}, "samples": len(values)}
