"""Relate a frame to the one before: the whole algorithm of the front end, in `register_frame`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.features import Features, Homography, Matches, Status
from superpoint_ros.frontend.frames import Image
from superpoint_ros.frontend.settings import FrontEndSettings
from superpoint_ros.frontend.timing import Stopwatch
from superpoint_ros.frontend.tracking import TrackIds, TrackState, follow, fuse, restart
from superpoint_ros.frontend.views import View, carry_features, carry_templates, make_view
from superpoint_ros.io.images import to_grey
from superpoint_ros.two_view.geometry import project
from superpoint_ros.two_view.homography import estimate_homography, with_points
from superpoint_ros.two_view.local_motion import LocalMotion, homography_warps, local_motion
from superpoint_ros.two_view.matching import match
from superpoint_ros.two_view.refinement import (
    FARTHEST,
    UNREFINED,
    Smoothed,
    Templates,
    detection_covariance,
    refine_points,
)

_ADOPTION = 2.0
"""A detection so close to where a track goes, in pixels, is the track's own."""

_CONFIRMED = 0.5
"""By so much the similarity of a match may be less where the images show that it is one and the same point."""

_COASTING_DISTANCE = 3.0
"""Greatest distance between the predicted place of a track that the detector misses and where the images put it."""


_ON_PLANE = 2.0
"""Where the motion from place to place and the homography's differ by less, in pixels, a point is on the plane."""


@dataclass(frozen=True)
class Registration:
    """A frame, its matches with the frame before, and the homography."""

    view: View
    matches: Matches
    homography: Homography


def register_frame(
    before: View, image: Image, detected: Features, ids: TrackIds, settings: FrontEndSettings, clock: Stopwatch
) -> Registration:
    """Relate a frame's detected features to the frame before."""
    reference = before.features
    with clock.stage("match"):
        # Which detections are keypoints of the frame before?
        matches = _match(before, detected, settings)
    with clock.stage("homography"):
        # How has the image moved, as a plane?
        homography = estimate_homography(
            reference,
            detected,
            matches,
            method=settings.method,
            threshold=settings.threshold,
            min_inliers=settings.min_inliers,
            images=(before.image, image) if settings.align else None,
        )
    if not settings.refine:
        return _plain(before, image, detected, matches, homography, ids)
    with clock.stage("refine"):
        smoothed, templates = Smoothed.of(to_grey(image)), before.templates
        if templates is None:  # refinement has just been turned on
            templates = Templates.of(Smoothed.of(to_grey(before.image)), reference.keypoints)
        # How has it moved from place to place?
        first, second = matches.indices.T
        motion = local_motion(reference.keypoints[first], detected.keypoints[second], reference.image_size)
        # Where do the images say that each keypoint went?
        flow = _flow(before, templates, smoothed, motion, matches, detected, homography)
        # Which keypoints did the detector find again, and which go on without it?
        seen, coasting = _associate(before, flow, matches, detected, settings)
        # Where is each of them, given flow and detection, and how sure is that?
        return _update(before, templates, image, smoothed, detected, flow, seen, coasting, homography, ids, settings)


@dataclass(frozen=True)
class _Flow:
    """Where the images put the N keypoints of the frame before.

    Attributes:
        points, covariance, found, correlation: see `Refined`.
        warps: (N, 2, 2) distortion of the surroundings since the frame before.
        predicted: (N, 2) where the motion of the image around each keypoint would put it.
    """

    points: NDArray[np.float32]
    covariance: NDArray[np.float32]
    found: NDArray[np.bool_]
    correlation: NDArray[np.float32]
    warps: NDArray[np.float32]
    predicted: NDArray[np.float64]


def _match(before: View, detected: Features, settings: FrontEndSettings) -> Matches:
    if detected.link is not None and before.detected.link is not None:
        # The runtime has matched detections with detections.
        found = match(before.detected, detected, min_similarity=settings.min_similarity, ratio=settings.ratio)
        return replace(found, indices=np.column_stack((before.places[found.indices[:, 0]], found.indices[:, 1])))
    return match(before.features, detected, min_similarity=settings.min_similarity, ratio=settings.ratio)


def _flow(
    before: View,
    templates: Templates,
    smoothed: Smoothed,
    motion: LocalMotion,
    matches: Matches,
    detected: Features,
    homography: Homography,
) -> _Flow:
    points = before.features.keypoints
    predicted, warps = motion.predict(points), motion.at(points)[:, :, :2]
    first, second = matches.indices.T
    if homography.status == Status.OK:
        # What lies on the plane moves with it, which is known far better than the motion from place to place.
        planar = np.zeros(len(points), bool)
        planar[first[homography.inliers]] = True
        by_plane = project(homography.matrix, points)
        planar |= np.hypot(*(by_plane - predicted).T) < _ON_PLANE
        predicted[planar] = by_plane[planar]
        warps[planar] = homography_warps(homography.matrix, points[planar])
    total = (warps @ before.tracks.warps).astype(np.float32)
    shift = np.einsum("nij,nj->ni", total, before.tracks.shift)
    # The search begins at the detection where there is one, and else, or where that leads nowhere, at the prediction.
    start = predicted.copy()
    start[first] = detected.keypoints[second]
    near = refine_points(templates, smoothed, start - shift, total, FARTHEST)
    again = np.flatnonzero(~near.found & templates.usable & (np.abs(start - predicted).max(axis=1) > 0.1))
    far = refine_points(templates.select(again), smoothed, (predicted - shift)[again], total[again], _COASTING_DISTANCE)
    for name in ("points", "covariance", "found", "correlation"):
        getattr(near, name)[again[far.found]] = getattr(far, name)[far.found]
    places = (near.points + shift).astype(np.float32)
    return _Flow(places, near.covariance, near.found, near.correlation, warps.astype(np.float32), predicted)


def _associate(
    before: View, flow: _Flow, matches: Matches, detected: Features, settings: FrontEndSettings
) -> tuple[Matches, NDArray[np.int64]]:
    """The matches that the images do not contradict, with those that they add, and the keypoints that coast."""
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
        # A detection where a lost keypoint went is its own, unless an older track has it.
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
        # One keypoint for each detection: the one with the oldest track.
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


def _near(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.bool_]:
    return np.asarray(np.hypot(*(a - b).T) <= _COASTING_DISTANCE)


def _update(
    before: View,
    templates: Templates,
    image: Image,
    smoothed: Smoothed,
    detected: Features,
    flow: _Flow,
    seen: Matches,
    coasting: NDArray[np.int64],
    homography: Homography,
    ids: TrackIds,
    settings: FrontEndSettings,
) -> Registration:
    """Fuse flow and detections, and put the frame's keypoints in order: detected ones, and those that coast."""
    count, total = len(detected), len(detected) + len(coasting)
    refined = flow.found[seen.indices[:, 0]]
    # From keypoints of the frame before to keypoints of this one, the coasting ones behind the detected.
    pairs = np.vstack((seen.indices, np.column_stack((coasting, np.arange(count, total)))))
    first, second = pairs.T
    found = np.append(refined, np.ones(len(coasting), bool))
    points, variance = flow.points[first], (flow.covariance[first, 0] + flow.covariance[first, 2]) / 2
    fused, followed = found & (second < count), second >= count
    # What the images do not show must at least lie where its surroundings went, or its track would jump.
    expected = np.zeros(len(pairs), bool)
    expected[: len(seen)] = _near(flow.predicted[seen.indices[:, 0]], detected.keypoints[seen.indices[:, 1]])
    dropped = ~found & expected
    tracks = [before.tracks.select(first[which]) for which in (fused, followed, dropped)]
    keypoints = np.vstack((detected.keypoints, points[followed]))
    keypoints[second[fused]], moved = fuse(
        tracks[0], points[fused], variance[fused], flow.warps[first[fused]], detected.keypoints[second[fused]]
    )
    coasted = follow(tracks[1], flow.warps[first[followed]], variance[followed])
    new = np.setdiff1d(np.arange(count), second[fused | dropped])
    begun = ids.begin(len(new))
    state = TrackState.merge(
        (second[fused], moved),
        (second[followed], coasted),
        (second[dropped], restart(tracks[2])),
        (new, begun),
    )
    # Published in order of the scores, those that coast with the score that they had.
    scores = np.append(detected.scores, before.features.scores[coasting])
    order = np.argsort(-scores, kind="stable")
    place = np.empty(total, np.int64)
    place[order] = np.arange(total)
    features = replace(
        carry_features(detected, before.features, coasting, order), keypoints=keypoints[order], scores=scores[order]
    )
    state = state.select(order)
    source = np.full(total, -1)
    source[second[found]] = first[found]
    source = source[order]
    templates, state = carry_templates(templates, smoothed, features.keypoints, state, source, flow.correlation)
    covariance = state.covariance(detection_covariance(templates))
    features = replace(features, covariance=covariance)
    view = View(image, smoothed, features, state, templates, detected, place[:count])
    covariance = flow.covariance[first]
    covariance[~found] = UNREFINED
    similarity = np.append(seen.similarity, np.ones(len(coasting), np.float32))
    sort = np.argsort(first, kind="stable")
    matches = Matches(
        np.column_stack((first, place[second]))[sort],
        similarity[sort].astype(np.float32),
        found[sort],
        covariance[sort].astype(np.float32),
    )
    homography = with_points(
        homography,
        before.features.keypoints[matches.indices[:, 0]],
        features.keypoints[matches.indices[:, 1]],
        settings.threshold,
    )
    return Registration(view, matches, homography)


def _plain(
    before: View, image: Image, detected: Features, matches: Matches, homography: Homography, ids: TrackIds
) -> Registration:
    """The registration by descriptors alone."""
    first, second = matches.indices.T
    new = np.setdiff1d(np.arange(len(detected)), second)
    state = TrackState.merge((second, restart(before.tracks.select(first))), (new, ids.begin(len(new))))
    return Registration(
        make_view(image, None, detected, detected, state, np.arange(len(detected))), matches, homography
    )
