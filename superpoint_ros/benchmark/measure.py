"""Interleaved measurements: subjects take turns, so that temporary load on the machine affects all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from superpoint_ros.benchmark.scene import Image
from superpoint_ros.benchmark.subjects import Subject
from superpoint_ros.features import Features

TURN_SECONDS = 0.15
"""Minimum seconds of a subject's turn; fast subjects run several times in it."""

_MAX_RUNS_PER_TURN = 10
_MIN_ROUNDS = 3
_PERCENTILES = (10, 50, 90, 95)


@dataclass(frozen=True)
class Case:
    """One image size and batch size, with a `label` such as "640x480" or "640x480, batch 4"."""

    width: int
    height: int
    batch: int = 1

    @property
    def label(self) -> str:
        return f"{self.width}x{self.height}" + (f", batch {self.batch}" if self.batch > 1 else "")

    @property
    def megapixels(self) -> float:
        """Megapixels of one image."""
        return self.width * self.height / 1e6


@dataclass
class Samples:
    """Measurements of one subject in one case, each for the whole batch.

    Attributes:
        extract: seconds from images to features on the host.
        whole: seconds of the same runs including matching with the previous images and homography estimation.
        processor: CPU seconds of all threads for `extract`, the more reliable figure on a busy machine.
        keypoints, matches, inliers: their numbers in the batch's first image in the last run.
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
    progress: Callable[[str], None] = lambda text: None,
) -> tuple[dict[str, Samples], dict[str, str]]:
    """Measure subjects in turns on the same images; the order rotates by one every round.

    Args:
        images: at least 2 `batch`, of one size; the two halves are consecutive frames of several cameras.
        rounds: number of turns of each subject.
        seconds: time budget, after which no round beyond the third starts.
        progress: called with a description of each step.

    Returns:
        Samples by name, and the reasons of failures by name.
    """
    turns = {name: _Runner(subject, images, batch) for name, subject in subjects.items()}
    failed: dict[str, str] = {}
    for name in list(turns):
        progress(f"{name}: warming up")
        try:
            turns[name].warm_up()
        except (RuntimeError, MemoryError) as error:
            failed[name] = f"{type(error).__name__}: {error}".splitlines()[0]
            del turns[name]
    start = time.perf_counter()
    names = list(turns)
    for index in range(rounds):
        if index >= min(_MIN_ROUNDS, rounds) and time.perf_counter() - start > seconds:
            break
        for offset in range(len(names)):
            name = names[(index + offset) % len(names)]
            progress(f"round {index + 1} of {rounds}: {name}")
            turns[name].take_turn()
    return {name: turns[name].samples for name in names}, failed


class _Runner:
    """Runs one subject and collects its samples."""

    def __init__(self, subject: Subject, images: Sequence[Image], batch: int) -> None:
        self._subject = subject
        self._batches = (images[:batch], images[batch : 2 * batch])
        self._count = 0
        self._before: list[Features] = []
        self.samples = Samples()

    def warm_up(self) -> None:
        """Run without recording, to fill caches, compile kernels and get features to match the first image with."""
        start = time.perf_counter()
        while self._count < 2 or (self._count < 5 and time.perf_counter() - start < 2 * TURN_SECONDS):
            self._run()
        self.samples = Samples()

    def take_turn(self) -> None:
        """Take one turn."""
        start, done = time.perf_counter(), 0
        while not done or (done < _MAX_RUNS_PER_TURN and time.perf_counter() - start < TURN_SECONDS):
            self._run()
            done += 1

    def _run(self) -> None:
        previous, images = self._batches[(self._count - 1) % 2], self._batches[self._count % 2]
        self._count += 1
        processor, start = time.process_time(), time.perf_counter()
        found = self._subject.extract(images)
        extracted, processor = time.perf_counter() - start, time.process_time() - processor
        image_pairs = zip(previous, images, strict=True)
        pairs = zip(self._before, found, image_pairs, strict=bool(self._before))
        outcomes = [self._subject.match(*pair) for pair in pairs]
        samples = self.samples
        samples.extract.append(extracted)
        samples.processor.append(processor)
        samples.keypoints = len(found[0])
        if outcomes:
            samples.whole.append(time.perf_counter() - start)
            samples.matches, samples.inliers = len(outcomes[0][0]), outcomes[0][1].inlier_count
        self._before = found


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Summarise durations by median and other percentiles, in milliseconds."""
    values = np.asarray(seconds) * 1e3
    low, median, high, higher = np.percentile(values, _PERCENTILES)
    figures = {"median": median, "p10": low, "p90": high, "p95": higher, "least": values.min()}
    return {**{name: round(float(value), 4) for name, value in figures.items()}, "samples": len(values)}
