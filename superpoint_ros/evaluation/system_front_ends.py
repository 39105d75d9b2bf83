"""Front ends for the same odometry: the detector by its published messages, and trackers of points."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from superpoint_ros.evaluation import trackers
from superpoint_ros.evaluation.system_sources import SystemSequence
from superpoint_ros.features import Features, Scene, Status
from superpoint_ros.hosts.local import LocalDetector
from superpoint_ros.odometry.messages import frame_from_messages
from superpoint_ros.odometry.values import NOISE, Frame, Observations

Image = NDArray[np.uint8]
Points = NDArray[np.float64]

ERRORS = {"klt": 0.2, "sift": 0.3}
"""Standard deviation of the points of trackers without covariances, in pixels."""
OTHER_ERROR = 1.0


def frames(spec: str, sequence: SystemSequence, disparity_offset: float) -> Iterator[Frame]:
    """Yield what a front end makes of a sequence.

    Args:
        spec: a tracker as `trackers.create` takes it.
        disparity_offset: see `odometry.interface.PARAMETERS`.

    Raises:
        ValueError: in one sentence, if there is no such front end.
    """
    name, _, options = spec.partition(":")
    if name == "superpoint":
        return _published(options, sequence, disparity_offset)
    return _tracked(spec, sequence, disparity_offset)


def _published(options: str, sequence: SystemSequence, disparity_offset: float) -> Iterator[Frame]:
    values = trackers.parse_options(options.split(",") if options else [])
    with LocalDetector(values, sequence.camera, sequence.baseline) as detector:
        for time, images in zip(sequence.times.tolist(), sequence.images(), strict=True):
            moment = detector.process(round(time * 1e9) + 1, *images)
            if moment is not None:
                yield frame_from_messages(
                    moment.features, moment.homography, moment.stereo, sequence.camera, NOISE, disparity_offset
                )


def _tracked(spec: str, sequence: SystemSequence, disparity_offset: float) -> Iterator[Frame]:
    tracker, focal = trackers.create(spec), float(sequence.camera.matrix[0, 0])
    error = ERRORS.get(spec.partition(":")[0], OTHER_ERROR)
    position = np.array([sequence.baseline, 0.0, 0.0]) if sequence.baseline > 0 else None
    first = True
    for time, (left, right) in zip(sequence.times.tolist(), sequence.images(), strict=True):
        seen = tracker.process(left, time)
        rays = sequence.camera.rays(seen.points.astype(np.float32))[:, :2].astype(np.float64)
        right_rays = np.full_like(rays, np.nan)
        if right is not None:
            disparity = _disparities(left, right, seen.points) + disparity_offset
            right_rays = rays - np.column_stack((disparity, np.zeros(len(rays)))) / focal
        sigma = np.full(len(rays), np.hypot(error, NOISE) / focal)
        good: NDArray[np.bool_] = np.isfinite(rays[:, 0])
        observations = Observations(seen.ids, rays, right_rays, sigma).select(good)
        status = Status.FIRST_FRAME if first else Status.OK
        none = Features.empty(left.shape)
        yield Frame(round(time * 1e9) + 1, none, observations, status, Scene.UNKNOWN, focal, spec, position)
        first = False


def _disparities(left: Image, right: Image, points: Points) -> Points:
    """Find points of the left image in the rectified right one by optical flow; NaN where it does not return."""
    if not len(points):
        return np.zeros(0)
    start: Any = points.astype(np.float32).reshape(-1, 1, 2)
    options: dict[str, Any] = {"winSize": (15, 15), "maxLevel": 4}
    there, found, _ = cv2.calcOpticalFlowPyrLK(left, right, start, None, **options)
    back, returned, _ = cv2.calcOpticalFlowPyrLK(right, left, there, None, **options)
    (dx, dy), error = (start - there).reshape(-1, 2).T, np.linalg.norm((back - start).reshape(-1, 2), axis=1)
    good = (found.ravel() > 0) & (returned.ravel() > 0) & (error < 0.5) & (np.abs(dy) < 2) & (dx > 0.1)
    return np.where(good, dx, np.nan).astype(np.float64)
