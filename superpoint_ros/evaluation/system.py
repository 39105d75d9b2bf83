"""The whole odometry against ground truth: the same back end behind several front ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.evaluation import odometry_summary, system_front_ends
from superpoint_ros.evaluation.pose_files import Poses
from superpoint_ros.evaluation.system_sources import SystemSequence
from superpoint_ros.odometry.odometry import Odometry
from superpoint_ros.odometry.values import Estimate, Settings, State

PARTS = 5
"""The default length over which drift is measured is this part of the path."""


@dataclass(frozen=True)
class SystemResult:
    """The odometry of one front end.

    Attributes:
        method: the front end.
        tracked: share of the frames with a pose; those before the start do not count.
        started: number of frames until the start.
        losses: how often it was lost.
        scale: metres per unit of length by the alignment; 1 if it knows metres.
        ate: root mean square position error in metres: after alignment by a similarity for a single camera, else with
            the first poses made equal.
        ate_percent: the same as a part of the path.
        drift_translation, drift_rotation: mean errors of all parts of the path of length `drift_length`, in percent of
            it and in degrees per metre.
        points: median number of points of a pose.
        front_end_ms, odometry_ms: mean time of a frame.
        positions: (N, 3) as aligned, from the start on.
    """

    method: str
    tracked: float
    started: int
    losses: int
    scale: float
    ate: float
    ate_percent: float
    drift_translation: float
    drift_rotation: float
    drift_length: float
    points: float
    front_end_ms: float
    odometry_ms: float
    positions: NDArray[np.float64]


def evaluate(
    sequence: SystemSequence,
    methods: Iterable[str],
    settings: Settings,
    disparity_offset: float = 0.0,
    drift_length: float | None = None,
    progress: Callable[[Iterable[Any], str], Iterable[Any]] = lambda frames, method: frames,
) -> list[SystemResult]:
    """Run the odometry behind every front end.

    Args:
        methods: front ends as `system_front_ends.frames` takes them.
        disparity_offset: added to all disparities, in pixels.
        drift_length: metres; by default a fifth of the path.
        progress: wraps the frames of a method.

    Raises:
        ValueError: in one sentence, if there is no such front end or `evo` is missing.
    """
    odometry_summary.check_installed()
    results = []
    for method in methods:
        odometry, estimates, spent = Odometry(settings), [], 0.0
        begin = time.perf_counter()
        for frame in progress(system_front_ends.frames(method, sequence, disparity_offset), method):
            start = time.perf_counter()
            estimates.append(odometry.register(frame))
            spent += time.perf_counter() - start
        rest = time.perf_counter() - begin - spent
        results.append(_result(method, sequence, estimates, drift_length, rest, spent))
    return results


def _result(
    method: str,
    sequence: SystemSequence,
    estimates: list[Estimate],
    drift_length: float | None,
    rest: float,
    spent: float,
) -> SystemResult:
    states = [estimate.state for estimate in estimates]
    milliseconds = rest * 1e3 / len(estimates), spent * 1e3 / len(estimates)
    started = next((index for index, state in enumerate(states) if state is State.TRACKING), len(states))
    if len(states) - started < 2:
        nan = float("nan")
        nothing = np.zeros((0, 3))
        return SystemResult(method, 0.0, started, 0, nan, nan, nan, nan, nan, nan, 0.0, *milliseconds, nothing)
    true, found = sequence.poses[started:], np.array([estimate.pose for estimate in estimates[started:]])
    aligned, scale = _align(found, true, with_scale=sequence.baseline == 0)
    path = float(np.linalg.norm(np.diff(true[:, :3, 3], axis=0), axis=1).sum())
    errors = np.linalg.norm(aligned[:, :3, 3] - true[:, :3, 3], axis=1)
    ate, length = float(np.sqrt(np.mean(errors**2))), drift_length or path / PARTS
    lost = [state is State.LOST for state in states]
    return SystemResult(
        method,
        float(np.mean([state is State.TRACKING for state in states[started:]])),
        started,
        sum(now and not before for before, now in pairwise(lost)),
        scale,
        ate,
        100 * ate / path if path > 0 else float("nan"),
        *odometry_summary.drift(aligned, true, length),
        length,
        float(np.median([estimate.points for estimate in estimates[started:]])),
        *milliseconds,
        aligned[:, :3, 3],
    )


def _align(found: Poses, true: Poses, with_scale: bool) -> tuple[Poses, float]:
    """Move estimated poses into the true world: by a similarity, or so that the first ones are equal."""
    if not with_scale:
        return np.asarray(true[0] @ np.linalg.inv(found[0]) @ found), 1.0
    return odometry_summary.align(found, true)
