"""A frame as the next one needs it: its published keypoints, their tracks, and the templates that follow them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from superpoint_ros.features import Features
from superpoint_ros.frontend.frames import Image
from superpoint_ros.frontend.settings import FrontEndSettings
from superpoint_ros.frontend.tracking import TrackIds, TrackState, renew
from superpoint_ros.io.images import to_grey
from superpoint_ros.two_view.local_motion import LocalMotion
from superpoint_ros.two_view.refinement import Floats, Templates, detection_covariance, smooth

_ALIKE = 0.92
"""Correlation under which a track's template is cut out anew."""

_MOST_CHANGE = 1.5
"""Growth in area, or its inverse, from which on a template is cut out anew."""

_COLUMNS = ("levels", "sizes")
"""What a keypoint that coasts keeps of its last detection, beside score and descriptor."""


@dataclass(frozen=True)
class Course:
    """How a frame has moved since the one before it.

    Attributes:
        motion: from place to place.
        seconds: between the two.
        support: of the matches between the two, see `registration`.
    """

    motion: LocalMotion
    seconds: float
    support: float

    def expected(self, points: NDArray[np.floating], seconds: float) -> NDArray[np.float64]:
        """Where (N, 2) pixels will be so many seconds later if the motion goes on at the same rate."""
        points = np.asarray(points, np.float64)
        return points + (self.motion.predict(points) - points) * (seconds / self.seconds)


@dataclass(frozen=True)
class View:
    """A frame as the next one needs it.

    Attributes:
        image: as it was decoded.
        features: as published, in order of the scores.
        tracks: of the N published keypoints, kept also where their ids are not asked for.
        templates: the surroundings of the published keypoints.
        detected: what the extractor found, in its order.
        places: for each detected keypoint its index among the published ones.
        course: how it moved since the frame before it; None where that is not known.
    """

    image: Image
    features: Features
    tracks: TrackState
    templates: Templates | None
    detected: Features
    places: NDArray[np.int64]
    course: Course | None = None


def first_view(image: Image, detected: Features, ids: TrackIds, settings: FrontEndSettings) -> View:
    """A frame that nothing is known before."""
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
    """Templates of a frame's keypoints: kept along a track while it looks alike, so that no error adds up.

    Args:
        source: (N,) index of each keypoint in the frame before, -1 where its surroundings have not been found again.
        correlation: of the keypoints of the frame before with this image.
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
    """The detected features and behind them those of tracks that coast, in an order."""
    if not len(coasting) and np.array_equal(order, np.arange(len(order))):
        return detected
    descriptors = np.vstack((detected.descriptors, before.descriptors[coasting]))[order]
    device, earlier = detected.device_descriptors, before.device_descriptors
    if device is not None:
        index = torch.from_numpy(order).to(device.device)
        if len(coasting):
            chosen = torch.from_numpy(before.descriptors[coasting]).to(device.device, device.dtype)
            if earlier is not None:
                chosen = earlier[torch.from_numpy(coasting).to(device.device)]
            device = torch.cat((device[: len(detected)], chosen))
        device = device[index]
    columns: Any = {
        name: _carried(getattr(detected, name), getattr(before, name), coasting, order) for name in _COLUMNS
    }
    return replace(detected, descriptors=descriptors, device_descriptors=device, link=None, **columns)


def _carried(
    own: NDArray[Any] | None, earlier: NDArray[Any] | None, coasting: NDArray[np.int64], order: NDArray[np.intp]
) -> NDArray[Any] | None:
    return None if own is None or earlier is None else np.append(own, earlier[coasting])[order]
