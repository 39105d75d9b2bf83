"""Frames on their way through the front end, what becomes of them, and how many there were."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.features import EpipolarGeometry, Features, Homography, Matches

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Frame:
    """An image on its way in.

    Attributes:
        stamp: nanoseconds.
        decode: gives the image, (H, W) grey or (H, W, 3) BGR uint8; called in the worker, and only if the frame is
            processed. A ValueError says in one sentence why there is none.
        camera: whose it is.
        context: handed through to the result, for the host (the message's header, say).
        camera_matrix: (3, 3) in pixels, where the camera is calibrated and the image not distorted.
    """

    stamp: int
    decode: Callable[[], Image]
    camera: str = "image"
    context: Any = None
    camera_matrix: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class FrameResult:
    """What became of a frame.

    Attributes:
        frame: as it was submitted.
        image: as it was decoded.
        features: of this image.
        track_ids: (N,) int64, one for each keypoint; empty where tracking is off.
        reference: features of the frame before, against which was matched; None where there is none.
        reference_stamp: its stamp in nanoseconds, 0 where there is none.
        matches: from `reference` to `features`.
        homography: from `reference` to this image, with a status.
        track_ages: (N,) int64, for how many frames each keypoint's track has been seen before; empty where tracking is
            off.
        coasted: (N,) bool, whether the detector missed the keypoint and the images alone say where it is.
        epipolar: which model explains the matches, and the fundamental matrix where it is that.
    """

    frame: Frame
    image: Image
    features: Features
    track_ids: NDArray[np.int64]
    reference: Features | None
    reference_stamp: int
    matches: Matches
    homography: Homography
    track_ages: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    coasted: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    epipolar: EpipolarGeometry = field(default_factory=EpipolarGeometry.unknown)


@dataclass(frozen=True)
class Counters:
    """Frames received = processed + dropped + failed + those still waiting or in work.

    `dropped` were replaced by a newer frame before their turn, or had a stamp that repeats; `failed` could not be
    decoded, processed or published.
    """

    received: int = 0
    processed: int = 0
    dropped: int = 0
    failed: int = 0

    def __add__(self, other: Counters) -> Counters:
        return Counters(*(one + another for one, another in zip(astuple(self), astuple(other), strict=True)))
