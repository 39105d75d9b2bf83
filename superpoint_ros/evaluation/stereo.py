"""Stereo matches against the truth: how many there are, how far off their rows, and how long the steps of the camera.

The length of a step is that of the translation that takes stereo points of one frame to where their tracks are in the
next one. It depends on the disparities directly: half a pixel is 10 % at a depth of 40 baselines and a focal length of
200 pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from superpoint_ros.evaluation import calibration, sequences
from superpoint_ros.features import Features
from superpoint_ros.frontend.frames import Frame
from superpoint_ros.frontend.frontend import FrontEnd
from superpoint_ros.io.images import read_grey, to_grey
from superpoint_ros.two_view.geometry import homogeneous
from superpoint_ros.two_view.stereo import StereoMatches, match_stereo

Image = NDArray[np.uint8]
Array = NDArray[np.float64]

NEAR, FAR = 40.0, 200.0
"""Depths in baselines up to which points tell the length of a step, and the shift of the disparities."""
_SHIFTS = np.arange(-3.0, 3.01, 0.5)
_THRESHOLD = 1.0  # pixels
_LEAST_POINTS = 8


@dataclass(frozen=True)
class StereoSequence:
    """Pairs of rectified images of a moving rig.

    Attributes:
        frames: left and right image of each moment, (H, W) or (H, W, 3) BGR uint8.
        poses: (N, 4, 4) of the left camera, to the world.
        intrinsics: (3, 3) camera matrix of both cameras.
        baseline: distance of the cameras in metres.
        rate: moments per second.
    """

    name: str
    frames: Iterable[tuple[Image, Image]]
    poses: Array
    intrinsics: Array
    baseline: float
    rate: float


@dataclass(frozen=True)
class StereoSummary:
    """Medians over a sequence.

    Attributes:
        pairs: number of pairs.
        matched: share of the left keypoints with a match.
        row_offset, row_error: absolute, in pixels, see `StereoMatches`.
        step_error: relative error of the length of a step, with the disparities as they are.
        shift: what has to be added to all disparities for stereo points to fit their tracks best, in pixels; found
            without the truth. It is the calibration's error.
        shifted_step_error: relative error of the length of a step after that.
    """

    name: str
    pairs: int
    matched: float
    row_offset: float
    row_error: float
    step_error: float
    shift: float
    shifted_step_error: float


@dataclass(frozen=True)
class _Step:
    """Left keypoints (N, 2) with their disparities (N,), where they are in the next left image (N, 2), and the true
    length in metres."""

    points: Array
    disparity: Array
    next_points: Array
    truth: float


def open_stereo(source: str, frames: int | None = None) -> StereoSequence:
    """Open "room", or a folder in the layout of KITTI odometry with the images of both cameras.

    Raises:
        ValueError: in one sentence, if there is no such sequence.
    """
    if source == "room":
        from superpoint_ros.simulation.room import Room

        room, rate = Room(), 10.0
        times = np.arange(frames or 30) / rate
        views = ((room.frame(float(time)), room.frame(float(time), camera=1)) for time in times)
        poses = np.array([room.pose(float(time)) for time in times])
        return StereoSequence("room", views, poses, room.intrinsics, room.baseline, rate)
    sequence = sequences.open_sequence(source)
    if sequence.layout != "kitti":
        raise ValueError(f"sequence '{source}' has the layout {sequence.layout}, allowed for stereo is KITTI odometry")
    sequence = sequence.part(0, frames)
    left = sequence.images[0].parent
    index, other = {"image_0": (1, "image_1"), "image_l": (1, "image_r"), "image_2": (3, "image_3")}[left.name]
    paths = [left.parent / other / path.name for path in sequence.images]
    missing = next((path for path in paths if not path.is_file()), None)
    if missing is not None:
        raise ValueError(f"sequence '{source}' has no right image '{missing}'")
    _, centre = calibration.read_kitti(Path(source) / "calib.txt", index, sequence.camera.image_size)
    _, origin = calibration.read_kitti(Path(source) / "calib.txt", index - 1, sequence.camera.image_size)
    baseline = float(np.linalg.norm(centre - origin))
    if baseline <= 0:
        raise ValueError(f"the baseline in '{Path(source) / 'calib.txt'}' is {baseline:g} m, allowed is more than 0")
    views = ((read_grey(one), read_grey(two)) for one, two in zip(sequence.images, paths, strict=True))
    return StereoSequence(sequence.name, views, sequence.poses, sequence.camera.matrix, baseline, sequences.KITTI_RATE)


def evaluate(sequence: StereoSequence, front_end: FrontEnd) -> StereoSummary:
    """Match every pair of a sequence and compare the steps with the truth.

    Raises:
        ValueError: in one sentence, if there are fewer than two pairs.
    """
    matched, rows, errors, steps = [], [], [], []
    before: tuple[Features, StereoMatches] | None = None
    scale = float(sequence.intrinsics[0, 0]) * sequence.baseline
    count = 0
    for index, (left, found, pairs) in enumerate(_matches(sequence, front_end, scale)):
        count += 1
        matched.append(len(found) / max(len(left), 1))
        rows.append(float(np.median(np.abs(found.rows_off))) if len(found) else np.nan)
        errors.append(float(np.median(np.abs(found.row_errors))) if len(found) else np.nan)
        if before is not None:
            truth = float(np.linalg.norm(sequence.poses[index, :3, 3] - sequence.poses[index - 1, :3, 3]))
            steps.append(_step(before, left, pairs, truth))
        before = left, found
    if count < 2:
        raise ValueError(f"sequence '{sequence.name}' has {count} pairs, allowed is at least 2")
    shift = _best_shift(steps, sequence.intrinsics, scale)
    plain, shifted = (_step_error(steps, sequence.intrinsics, scale, by) for by in (0.0, shift))
    share, row_offset, row_error = (float(np.nanmedian(values)) for values in (matched, rows, errors))
    return StereoSummary(sequence.name, count, share, row_offset, row_error, plain, shift, shifted)


def _matches(
    sequence: StereoSequence, front_end: FrontEnd, scale: float
) -> Iterator[tuple[Features, StereoMatches, NDArray[np.int64]]]:
    """Left features of each moment, their stereo matches, and their matches with the left features before."""
    for index, images in enumerate(sequence.frames):
        results = []
        for camera, image in zip(("left", "right"), images, strict=True):
            grey = to_grey(image)
            stamp = round(index / sequence.rate * 1e9)
            result = front_end.process(Frame(stamp, lambda grey=grey: grey, camera))  # type: ignore[misc]
            if result is None:
                raise ValueError(f"pair {index} of sequence '{sequence.name}' cannot be processed")
            results.append(result)
        left, right = results
        pair = (to_grey(left.image), to_grey(right.image))
        # Nearer than two baselines nothing is seen by both.
        found = match_stereo(left.features, right.features, images=pair, max_disparity=scale / (2 * sequence.baseline))
        indices = left.matches.indices
        refined = left.matches.refined
        yield left.features, found, indices if refined is None else indices[refined]


def _step(before: tuple[Features, StereoMatches], left: Features, pairs: NDArray[np.int64], truth: float) -> _Step:
    features, found = before
    place = np.full(len(features), -1)
    place[found.indices[:, 0]] = np.arange(len(found))
    pairs = pairs[place[pairs[:, 0]] >= 0]
    disparity = found.disparity[place[pairs[:, 0]]].astype(np.float64)
    points, targets = features.keypoints[pairs[:, 0]], left.keypoints[pairs[:, 1]]
    return _Step(points.astype(np.float64), disparity, targets.astype(np.float64), truth)


def _solve(step: _Step, intrinsics: Array, scale: float, shift: float, farthest: float) -> tuple[float, float] | None:
    """Length of a step in metres and the mean reprojection error in pixels, cut off at the threshold of inliers.

    Args:
        farthest: depth in metres up to which points are used, with the disparities as they are.
    """
    used = (step.disparity >= scale / farthest) & (step.disparity + shift > 0.1)
    if np.count_nonzero(used) < _LEAST_POINTS:
        return None
    rays = homogeneous(step.points) @ np.linalg.inv(intrinsics).T
    points = (rays * (scale / np.maximum(step.disparity + shift, 0.1))[:, None])[used]
    targets = step.next_points[used]
    settings: dict[str, Any] = {"reprojectionError": _THRESHOLD, "iterationsCount": 200, "confidence": 0.999}
    cv2.setRNGSeed(0)
    good, rotation, translation, inliers = cv2.solvePnPRansac(points, targets, intrinsics, None, **settings)
    if not good or inliers is None or len(inliers) < _LEAST_POINTS:
        return None
    chosen = inliers.ravel()
    rotation, translation = cv2.solvePnPRefineLM(
        points[chosen], targets[chosen], intrinsics, None, rotation, translation
    )
    places = cv2.projectPoints(points, rotation, translation, intrinsics, None)[0].reshape(-1, 2)
    error = np.minimum(np.linalg.norm(places - targets, axis=1), _THRESHOLD)
    # The camera's centre in the frame before: -R^T t, whose length is that of t.
    return float(np.linalg.norm(translation)), float(error.mean())


def _best_shift(steps: list[_Step], intrinsics: Array, scale: float) -> float:
    """The shift of the disparities with the least reprojection error, between the tried ones by a parabola."""
    baseline = scale / float(intrinsics[0, 0])
    costs = []
    for shift in _SHIFTS:
        found = [_solve(step, intrinsics, scale, float(shift), FAR * baseline) for step in steps]
        costs.append(float(np.mean([_THRESHOLD if one is None else one[1] for one in found])))
    best = int(np.clip(np.argmin(costs), 1, len(costs) - 2))
    low, middle, high = costs[best - 1 : best + 2]
    bend = low - 2 * middle + high
    offset = 0.5 * (low - high) / bend if bend > 0 else 0.0
    return float(_SHIFTS[best] + np.clip(offset, -1, 1) * (_SHIFTS[1] - _SHIFTS[0]))


def _step_error(steps: list[_Step], intrinsics: Array, scale: float, shift: float) -> float:
    farthest = NEAR * scale / float(intrinsics[0, 0])
    found = [(_solve(step, intrinsics, scale, shift, farthest), step.truth) for step in steps]
    errors = [abs(one[0] / truth - 1) for one, truth in found if one is not None and truth > 0]
    return float(np.median(errors)) if errors else float("nan")
