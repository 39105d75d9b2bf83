"""Frame-to-frame visual odometry of a method's matches, compared with a sequence's ground truth."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Several
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.evaluation import metrics
from superpoint_ros.evaluation.cache import Predictor
from superpoint_ros.evaluation.methods import Detection, Image, create
from superpoint_ros.evaluation.pairs import Skipped
from superpoint_ros.evaluation.pose_files import Poses
from superpoint_ros.evaluation.sequences import Sequence
from superpoint_ros.io.images import read_grey
from superpoint_ros.two_view.motion import ESTIMATORS, Motion, MotionStatus

RIGHT = 3.0
"""Maximum error of a right match, in pixels."""


@dataclass(frozen=True)
class Settings:
    """Parameters of the protocol, the same for every method.

    Attributes:
        max_keypoints: maximum number of keypoints per frame.
        nms_radius: radius of non-maximum suppression, in pixels.
        estimator: a name of `motion.ESTIMATORS`.
        threshold: maximum epipolar error of an inlier, in pixels.
        min_translation: metres; steps with a shorter true translation count for their rotation only.
        delta: number of frames of the relative pose error.
    """

    max_keypoints: int = 1000
    nms_radius: int = 4
    estimator: str = "refined"
    threshold: float = 1.0
    min_translation: float = 0.01
    delta: int = 10


@dataclass(frozen=True)
class Step:
    """The errors of a method on one step, from one frame to the next.

    Attributes:
        first, second: file names of the images.
        translation: true translation in metres.
        rotation: true rotation in degrees.
        rotation_error: degrees; infinite without an estimate.
        direction_error: angle between the true and the estimated translation in degrees; infinite without an estimate,
            NaN if the step is too short for a true direction.
        matches, inliers: their numbers.
        status: status of the estimate.
        accuracy: share of the matches of visible points that are right to `RIGHT` pixels; NaN if the depth is unknown.
        match_error: median error of these right matches in pixels.
    """

    first: str
    second: str
    translation: float
    rotation: float
    rotation_error: float
    direction_error: float
    matches: int
    inliers: int
    status: str
    accuracy: float = float("nan")
    match_error: float = float("nan")


@dataclass(frozen=True)
class Track:
    """The odometry of a method along a sequence.

    Attributes:
        method: specification, as given by the user.
        settings: settings of the method.
        steps: N - 1.
        poses: (N, 4, 4) chained estimates, camera to world. They start at the true first pose, and every step is scaled
            to its true length, which is unobservable with a single camera.
        seconds: time spent on extraction; close to 0 if predictions were cached.
    """

    method: str
    settings: dict[str, Any]
    steps: tuple[Step, ...]
    poses: Poses
    seconds: float


@dataclass(frozen=True)
class Odometry:
    """The evaluation of several methods on one sequence.

    Attributes:
        sequence: the frames that were used.
        skipped: what was not used, and why.
    """

    sequence: Sequence
    settings: Settings
    tracks: tuple[Track, ...]
    skipped: tuple[Skipped, ...]


@dataclass
class _Run:
    """The state of a method while it runs along the sequence."""

    name: str
    predictor: Predictor
    settings: dict[str, Any]
    before: Detection | None = None
    motion: NDArray[np.float64] = field(default_factory=lambda: np.eye(4))
    poses: list[NDArray[np.float64]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    seconds: float = 0.0


def evaluate(
    sequence: Sequence,
    methods: Several[str],
    settings: Settings,
    predictions: Path | None = None,
    progress: Callable[[Several[Path]], Iterator[Path]] = iter,
) -> Odometry:
    """Run several methods along a sequence.

    Unreadable frames and methods without descriptors are skipped and reported; a step then spans the gap.

    Args:
        methods: specifications, as for `methods.create`.
        predictions: cache folder of detections; None disables the cache.
        progress: wraps the iteration over images, to show progress.

    Raises:
        ValueError: if a method or the estimator is unknown, or nothing is left to evaluate.
    """
    if settings.estimator not in ESTIMATORS:
        raise ValueError(f"estimator '{settings.estimator}' is unknown, allowed is one of {', '.join(ESTIMATORS)}")
    created = {name: create(name) for name in methods}
    runs = [_Run(name, Predictor(method, predictions), method.settings()) for name, method in created.items()]
    skipped = [Skipped(sequence.name, reason) for reason in sequence.skipped]
    used: list[int] = []
    for index, path in enumerate(progress(sequence.images)):
        try:
            image = _read(path, sequence.camera.image_size)
        except ValueError as error:
            skipped.append(Skipped(path.name, str(error)))
            continue
        for run in list(runs):
            reason = _advance(run, image, sequence, used[-1] if used else None, index, settings)
            if reason:
                skipped.append(Skipped(run.name, reason))
                runs.remove(run)
        if not runs:
            break
        used.append(index)
    if not runs or len(used) < 2:
        raise ValueError(f"there is nothing to evaluate in sequence '{sequence.name}': " + "; ".join(map(str, skipped)))
    tracks = tuple(Track(r.name, r.settings, tuple(r.steps), np.array(r.poses), r.seconds) for r in runs)
    return Odometry(sequence.select(used), settings, tracks, tuple(skipped))


def _read(path: Path, size: tuple[int, int]) -> Image:
    image = read_grey(path)
    if image.shape != size:
        (height, width), (own_height, own_width) = size, image.shape
        raise ValueError(f"the image has {own_width}x{own_height} pixels, the calibration is for {width}x{height}")
    return image


def _advance(
    run: _Run, image: Image, sequence: Sequence, before: int | None, now: int, settings: Settings
) -> str | None:
    """Process one frame; return why the method cannot continue, or None."""
    start = time.perf_counter()
    detection = run.predictor.detect(image, settings.max_keypoints, settings.nms_radius)
    run.seconds += time.perf_counter() - start
    if detection.descriptors is None:
        return "the method has no descriptors, which matching needs"
    if before is None or run.before is None:
        run.poses.append(sequence.poses[now])
    else:
        true = np.linalg.inv(sequence.poses[now]) @ sequence.poses[before]
        matches = _match(run.before, detection)
        motion = _motion(run.before, detection, matches, sequence, settings)
        names = sequence.images[before].name, sequence.images[now].name
        errors = step_errors(motion, true, settings.min_translation, names, len(matches))
        if sequence.transfer is not None:
            moved, visible = sequence.transfer(
                run.before.keypoints[matches[:, 0]].astype(np.float64), sequence.times[before], sequence.times[now]
            )
            accuracy, error = match_errors(moved[visible], detection.keypoints[matches[visible, 1]])
            errors = replace(errors, accuracy=accuracy, match_error=error)
        run.steps.append(errors)
        # A failed step repeats the previous motion.
        if motion.status != MotionStatus.FAILED:
            run.motion = np.eye(4)
            run.motion[:3, :3] = motion.rotation
            run.motion[:3, 3] = motion.direction
        metric = run.motion.copy()
        metric[:3, 3] *= np.linalg.norm(true[:3, 3])
        run.poses.append(run.poses[-1] @ np.linalg.inv(metric))
    run.before = detection
    return None


def _match(first: Detection, second: Detection) -> NDArray[np.int64]:
    """Match mutual nearest neighbours: (M, 2) indices."""
    if first.descriptors is None or second.descriptors is None or not len(first) or not len(second):
        return np.zeros((0, 2), np.int64)
    return metrics.mutual_matches(metrics.descriptor_distances(first.descriptors, second.descriptors))


def _motion(
    first: Detection, second: Detection, matches: NDArray[np.int64], sequence: Sequence, settings: Settings
) -> Motion:
    camera = sequence.camera
    rays = camera.rays(first.keypoints[matches[:, 0]]), camera.rays(second.keypoints[matches[:, 1]])
    known = np.isfinite(rays[0]).all(axis=1) & np.isfinite(rays[1]).all(axis=1)
    focal = float(np.sqrt(camera.matrix[0, 0] * camera.matrix[1, 1]))
    return ESTIMATORS[settings.estimator](rays[0][known], rays[1][known], settings.threshold / focal)


def match_errors(true: NDArray[np.floating], found: NDArray[np.floating]) -> tuple[float, float]:
    """Compute the share of matches that are right to `RIGHT` pixels, and the median error of these; NaN without any."""
    error = np.hypot(*(found - true).T)
    right = error <= RIGHT
    return (
        float(right.mean()) if len(right) else float("nan"),
        float(np.median(error[right])) if right.any() else float("nan"),
    )


def step_errors(
    motion: Motion,
    true: NDArray[np.float64],
    min_translation: float,
    names: tuple[str, str] = ("", ""),
    matches: int = 0,
) -> Step:
    """Compute the errors of a motion; `true` (4, 4) maps points from the first camera's frame to the second's."""
    length = float(np.linalg.norm(true[:3, 3]))
    failed = motion.status == MotionStatus.FAILED
    direction_error = float("nan")
    if length >= min_translation:
        direction_error = float("inf")
        if motion.status == MotionStatus.OK:
            direction_error = angle_between(motion.direction, true[:3, 3])
    return Step(
        *names,
        translation=length,
        rotation=rotation_angle(true[:3, :3]),
        rotation_error=float("inf") if failed else rotation_angle(motion.rotation @ true[:3, :3].T),
        direction_error=direction_error,
        matches=matches,
        inliers=int(np.count_nonzero(motion.inliers)),
        status=motion.status.value,
    )


def rotation_angle(rotation: NDArray[np.float64]) -> float:
    """Return the angle of a (3, 3) rotation in degrees, accurate for small angles."""
    axis = rotation - rotation.T
    sine = np.linalg.norm([axis[2, 1], axis[0, 2], axis[1, 0]]) / 2
    return float(np.degrees(np.arctan2(sine, (np.trace(rotation) - 1) / 2)))


def angle_between(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return the angle between two vectors in degrees, 0 to 180, accurate for small angles."""
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(first, second)), first @ second)))
