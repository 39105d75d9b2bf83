"""The data of a frame for the next one: published keypoints, their tracks and templates."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.features import Features
from superpoint_ros.frontend.frames import Image
from superpoint_ros.frontend.settings import FrontEndSettings
from superpoint_ros.frontend.tracking import TrackIds, TrackState, renew
from superpoint_ros.io.images import to_grey
from superpoint_ros.two_view.local_motion import LocalMotion
from superpoint_ros.two_view.refinement import Floats, Templates, detection_covariance, smooth
from superpoint_ros.two_view.rotation import steer

_ALIKE = 0.92
"""Correlation below which a track's template is replaced."""

_MOST_CHANGE = 1.5
"""Change of area, or its inverse, from which a template is replaced."""


@dataclass(frozen=True)
class Course:
    """The motion of a frame since the previous one.

    Attributes:
        motion: the local motion.
        seconds: time between the two.
        support: support of their matches, see `registration`.
    """

    motion: LocalMotion
    seconds: float
    support: float

    def expected(self, points: NDArray[np.floating], seconds: float) -> NDArray[np.float64]:
        """Predict (N, 2) pixels after this many seconds, with constant velocity."""
        points = np.asarray(points, np.float64)
        return points + (self.motion.predict(points) - points) * (seconds / self.seconds)


@dataclass(frozen=True)
class View:
    """The data of a frame for the next one.

    Attributes:
        image: as it was decoded.
        features: as published, in order of the scores.
        tracks: of the N published keypoints, even if their ids are not published.
        templates: patches around the published keypoints.
        detected: the extractor's features, in its order.
        places: index of each detected keypoint among the published ones.
        course: motion since the previous frame; None if unknown.
    """

    image: Image
    features: Features
    tracks: TrackState
    templates: Templates | None
    detected: Features
    places: NDArray[np.int64]
    course: Course | None = None

    def steered(self, eighths: int) -> View:
        """Steer the descriptors back by this many eighths of a turn, see `rotation.steer`."""
        if eighths % 8 == 0:
            return self
        # What the runtime matched was not steered.
        return replace(self, features=steer(self.features, eighths), detected=replace(self.detected, link=None))


def first_view(image: Image, detected: Features, ids: TrackIds, settings: FrontEndSettings) -> View:
    """Create the data of a frame without a previous one."""
    smoothed = smooth(to_grey(image)) if settings.refine else None
    return make_view(image, smoothed, detected, detected, ids.begin(len(detected)), np.arange(len(detected)))


def make_view(
    image: Image,
    smoothed: Floats | None,
    features: Features,
    detected: Features,
    tracks: TrackState,
    places: NDArray[np.int64],
) -> View:
    if smoothed is None:
        return View(image, features, tracks, None, detected, places)
    templates = Templates.of(smoothed, features.keypoints)
    covariance = tracks.covariance(detection_covariance(templates))
    return View(image, replace(features, covariance=covariance), tracks, templates, detected, places)


def carry_templates(
    before: Templates,
    smoothed: Floats,
    keypoints: NDArray[np.float32],
    state: TrackState,
    source: NDArray[np.int64],
    correlation: NDArray[np.float32],
) -> tuple[Templates, TrackState]:
    """Select the templates of a frame's keypoints, kept along a track while they match, to avoid accumulating errors.

    Args:
        source: (N,) index of each keypoint in the previous frame, -1 if its patch was not found.
        correlation: of the previous frame's keypoints with this image.
    """
    if not len(before):
        return Templates.of(smoothed, keypoints), renew(state, np.ones(len(state), bool))
    (a, b), (c, d) = state.warps.transpose(1, 2, 0)
    growth = np.abs(a * d - b * c)
    alike = (source >= 0) & (correlation[source] > _ALIKE) & (growth < _MOST_CHANGE) & (growth > 1 / _MOST_CHANGE)
    new = np.flatnonzero(~alike)
    cut = Templates.of(smoothed, keypoints[new])
    return before.select(np.maximum(source, 0)).replaced(new, cut), renew(state, ~alike)


def carry_features(
    detected: Features, before: Features, coasting: NDArray[np.int64], order: NDArray[np.intp]
) -> Features:
    """Concatenate detected and coasting features, in the given order."""
    if not len(coasting) and np.array_equal(order, np.arange(len(order))):
        return detected
    return Features.join((detected, before.select(coasting))).select(order)
