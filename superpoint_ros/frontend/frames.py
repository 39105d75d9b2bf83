"""Frames, results and counters of the front end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.features import (
    EpipolarGeometry,
    Features,
    Homography,
    Mask,
    Matches,
    explained,
    matched_points,
)
from superpoint_ros.two_view.geometry import numerical_jacobians

Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Pinhole:
    """The ideal pinhole camera that a calibrated image is of, or is turned into.

    Attributes:
        image_size: (height, width) that this holds for; with images of another size it is ignored.
        matrix: (3, 3) in pixels.
        undistort: takes (N, 2) pixels of the image to those of the pinhole camera, NaN where there are none; None where
            the image does not distort, and pixels are what they are.
    """

    image_size: tuple[int, int]
    matrix: NDArray[np.float64]
    undistort: Callable[[NDArray[np.floating]], NDArray[np.float64]] | None = None


@dataclass(frozen=True)
class Frame:
    """A submitted image.

    Attributes:
        stamp: nanoseconds.
        decode: gives the image, (H, W) grey or (H, W, 3) BGR uint8; called in the worker, and only if the frame is
            processed. A ValueError says in one sentence why there is none.
        camera: whose it is.
        context: handed through to the result, for the host (the message's header, say).
        mask: gives the mask of an image of (height, width), (H, W) bool that is False for pixels to ignore, or None;
            called in the worker.
        pinhole: the ideal camera, where the homography and the epipolar geometry are to be in its pixels.
    """

    stamp: int
    decode: Callable[[], Image]
    camera: str = "image"
    context: Any = None
    pinhole: Pinhole | None = None
    mask: Callable[[tuple[int, int]], Mask | None] | None = None

    def pinhole_for(self, size: tuple[int, int]) -> Pinhole | None:
        """The ideal camera, if it is for images of (height, width) `size`."""
        return self.pinhole if self.pinhole is not None and self.pinhole.image_size == size else None


@dataclass(frozen=True, eq=False)
class FrameResult:
    """The result of a frame.

    Attributes:
        frame: as it was submitted.
        image: as it was decoded.
        features: of this image.
        track_ids: (N,) int64, one per keypoint; empty if tracking is off.
        reference: features of the previous frame, with which it is matched; None if there is none.
        reference_stamp: its stamp in nanoseconds, 0 if there is none.
        matches: from `reference` to `features`.
        homography: from `reference` to this image, with a status; in pixels of the frame's pinhole camera, if it has
            one.
        track_ages: (N,) int64, number of earlier frames of each keypoint's track; empty if tracking is off.
        coasted: (N,) bool, whether the detector missed the keypoint and its position is from the images alone.
        epipolar: the model that explains the matches, and the fundamental matrix if it is that.
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

    @property
    def inliers(self) -> NDArray[np.bool_]:
        """The inliers among the matches, (M,), of the model that explains them: homography or fundamental matrix."""
        return explained(self.homography, self.epipolar)

    @property
    def undistort(self) -> Callable[[NDArray[np.floating]], NDArray[np.float64]] | None:
        """What takes pixels of the image to those that homography and epipolar geometry are in; None for no change."""
        pinhole = self.frame.pinhole_for(self.features.image_size)
        return None if pinhole is None else pinhole.undistort

    def undistorted(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take (N, 2) pixels of the image to those that homography and epipolar geometry are in."""
        return points if self.undistort is None else self.undistort(points).astype(np.float32)

    @cached_property
    def point_slopes(self) -> NDArray[np.float64] | None:
        """The (N, 2, 2) Jacobians of `undistort` at the keypoints; None for no change."""
        return None if self.undistort is None else numerical_jacobians(self.undistort, self.features.keypoints)

    @property
    def points(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The (M, 2) matched pixels of the previous image and of this one."""
        if self.reference is None:
            return np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)
        return matched_points(self.reference, self.features, self.matches)


@dataclass(frozen=True)
class Counters:
    """Counts of frames: received = processed + dropped + failed + those waiting or being processed.

    `dropped` were replaced by a newer frame before their turn, or had a stamp that repeats; `failed` could not be
    decoded, processed or published.
    """

    received: int = 0
    processed: int = 0
    dropped: int = 0
    failed: int = 0

    def __add__(self, other: Counters) -> Counters:
        return Counters(*(one + another for one, another in zip(astuple(self), astuple(other), strict=True)))
