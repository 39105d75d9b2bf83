"""Flow of the previous frame's keypoints, and their association with new detections."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.features import Features, Homography, Matches, Status
from superpoint_ros.frontend.settings import FrontEndSettings
from superpoint_ros.frontend.views import View
from superpoint_ros.two_view.geometry import jacobians, project
from superpoint_ros.two_view.local_motion import LocalMotion
from superpoint_ros.two_view.refinement import FARTHEST, Floats, Refine, Templates

_ADOPTION = 2.0
"""Maximum distance of a detection from a track's position to be associated with it, in pixels."""

_CONFIRMED = 0.5
"""Amount by which the minimum similarity is lowered for matches that the images confirm."""

COASTING_DISTANCE = 3.0
"""Maximum distance between the predicted and the refined position of a coasting track, in pixels."""

_ON_PLANE = 2.0
"""Maximum difference between local motion and homography of a point on the plane, in pixels."""

_NEARBY = 1.5
"""Distance in pixels below which the prediction is more accurate than the detection."""


@dataclass(frozen=True)
class Flow:
    """Positions of the previous frame's N keypoints in the current image.

    Attributes:
        points, covariance, found, correlation: see `Refined`.
        warps: (N, 2, 2) distortion of the patches since the previous frame.
        predicted: (N, 2) positions predicted by the local motion.
    """

    points: NDArray[np.float32]
    covariance: NDArray[np.float32]
    found: NDArray[np.bool_]
    correlation: NDArray[np.float32]
    warps: NDArray[np.float32]
    predicted: NDArray[np.float64]


def follow_images(
    before: View,
    templates: Templates,
    smoothed: Floats,
    motion: LocalMotion,
    matches: Matches,
    detected: Features,
    homography: Homography,
    refine: Refine,
) -> Flow:
    points = before.features.keypoints
    predicted, warps = motion.predict(points), motion.at(points)[:, :, :2]
    first, second = matches.indices.T
    if homography.status == Status.OK:
        # Points on the plane move with it, which is estimated far better than the local motion.
        planar = np.zeros(len(points), bool)
        planar[first[homography.inliers]] = True
        by_plane = project(homography.matrix, points)
        planar |= np.hypot(*(by_plane - predicted).T) < _ON_PLANE
        predicted[planar] = by_plane[planar]
        warps[planar] = jacobians(homography.matrix, points[planar])
    total = (warps @ before.tracks.warps).astype(np.float32)
    shift = np.einsum("nij,nj->ni", total, before.tracks.shift)
    # The search starts at the prediction, or at the detection if that is elsewhere.
    start = predicted.copy()
    away = np.abs(detected.keypoints[second] - predicted[first]).max(axis=1) > _NEARBY
    start[first[away]] = detected.keypoints[second[away]]
    near = refine(templates, smoothed, start - shift, total, FARTHEST)
    again = np.flatnonzero(~near.found & templates.usable & (np.abs(start - predicted).max(axis=1) > 0.1))
    far = refine(templates.select(again), smoothed, (predicted - shift)[again], total[again], COASTING_DISTANCE)
    for name in ("points", "covariance", "found", "correlation"):
        getattr(near, name)[again[far.found]] = getattr(far, name)[far.found]
    places = (near.points + shift).astype(np.float32)
    return Flow(places, near.covariance, near.found, near.correlation, warps.astype(np.float32), predicted)


def associate(
    before: View, flow: Flow, matches: Matches, detected: Features, settings: FrontEndSettings
) -> tuple[Matches, NDArray[np.int64]]:
    """Select the matches consistent with the images, add those found by flow, and list the coasting keypoints."""
    first, second = matches.indices.T
    away = np.hypot(*(flow.points[first] - detected.keypoints[second]).T)
    kept = ~flow.found[first] | (away <= FARTHEST)
    indices, similarity = matches.indices[kept], matches.similarity[kept]
    if not settings.tracking or not len(flow.points):
        return Matches(indices, similarity), np.zeros(0, np.int64)
    lost = flow.found.copy()
    lost[indices[:, 0]] = False
    lost_index = np.flatnonzero(lost)
    if not len(lost_index):
        return Matches(indices, similarity), lost_index
    if len(detected):
        # A detection at the position of a lost keypoint belongs to it, unless an older track has it.
        owner = np.full(len(detected), -1)
        owner[indices[:, 1]] = indices[:, 0]
        x, y = (flow.points[lost_index, axis, None] - detected.keypoints[:, axis] for axis in (0, 1))
        distance = np.maximum(np.abs(x), np.abs(y))
        nearest = distance.argmin(axis=1)
        close = distance[np.arange(len(lost_index)), nearest] <= _ADOPTION
        cosine = np.einsum("nd,nd->n", before.features.descriptors[lost_index], detected.descriptors[nearest])
        rival = owner[nearest]
        ages = before.tracks.ages
        adopted = close & (cosine >= settings.min_similarity - _CONFIRMED)
        adopted &= (rival < 0) | (ages[lost_index] > ages[rival])
        # One keypoint per detection: that of the oldest track.
        order = np.flatnonzero(adopted)[np.argsort(-ages[lost_index[adopted]], kind="stable")]
        chosen = order[np.unique(nearest[order], return_index=True)[1]]
        kept = ~np.isin(indices[:, 1], nearest[chosen])
        added = np.column_stack((lost_index[chosen], nearest[chosen]))
        indices = np.vstack((indices[kept], added))
        similarity = np.append(similarity[kept], cosine[chosen])
        lost_index = lost_index[~close]
    coasting = lost_index[before.tracks.missed[lost_index] < settings.coast]
    sort = np.argsort(indices[:, 0], kind="stable")
    return Matches(indices[sort], similarity[sort].astype(np.float32)), coasting
