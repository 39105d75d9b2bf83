"""The data classes of the odometry."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.features import Features, Scene, Status

Array = NDArray[np.float64]
Ids = NDArray[np.int64]

NOISE = 0.2
"""Default standard deviation of all positions beside their own, in pixels."""


@dataclass(frozen=True)
class Observations:
    """What a frame sees of the tracks.

    Attributes:
        ids: (N,) int64 track ids.
        rays: (N, 2) undistorted normalized points x/z, y/z.
        right_rays: (N, 2) the same in the right camera, turned parallel to the left one; NaN without a stereo match.
        sigma: (N,) standard deviations in normalized units.
    """

    ids: Ids
    rays: Array
    right_rays: Array
    sigma: Array

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, chosen: NDArray[Any]) -> Observations:
        """Return the observations of chosen tracks, given by index or mask."""
        return Observations(self.ids[chosen], self.rays[chosen], self.right_rays[chosen], self.sigma[chosen])


class State(enum.IntEnum):
    """State of the odometry."""

    INITIALISING = 0
    TRACKING = 1
    LOST = 2


@dataclass(frozen=True)
class Settings:
    """Settings of the odometry; the descriptions are those of the parameters.

    Raises nothing: `interface.PARAMETERS` checks the ranges.
    """

    min_points: int = 15
    max_error: float = 2.0
    window: int = 8
    lost_after: float = 3.0
    start_depth: float = 0.0


@dataclass(frozen=True)
class Frame:
    """What was published for a moment.

    Attributes:
        stamp: nanoseconds.
        features: of the left or only camera.
        observations: of its tracks.
        status, scene: of the match with the frame before.
        focal_length: pixels per normalized unit.
        weights: name and hash; descriptors of different weights are not comparable.
        right_position: (3,) position of the right camera in the left one's frame in metres; None without stereo.
        travelled: distance that the camera has travelled so far in metres; None if unknown.
    """

    stamp: int
    features: Features
    observations: Observations
    status: Status
    scene: Scene
    focal_length: float
    weights: str
    right_position: Array | None = None
    travelled: float | None = None


@dataclass(frozen=True)
class Estimate:
    """Where the camera is.

    Attributes:
        stamp: nanoseconds.
        state: TRACKING if the pose is known; otherwise it is the last known one.
        pose: (4, 4) from the camera's optical frame to the frame in which it started.
        covariance: (6, 6) of translation and rotation along and about the axes of the frame in which it started.
        metric: whether translations are in metres.
        points: number of points that the pose rests on.
        local_covariance: (6, 6), the part of `covariance` from this frame alone, without drift.
        reason: why it is not tracking, or how; one sentence.
        keyframe: whether it became a keyframe.
    """

    stamp: int
    state: State
    pose: Array
    covariance: Array
    metric: bool
    points: int = 0
    reason: str = ""
    local_covariance: Array = field(default_factory=lambda: np.zeros((6, 6)))
    keyframe: bool = False
