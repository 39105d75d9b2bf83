"""Relate a frame to the previous one: the whole algorithm of the front end, in `register_frame`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.extraction.clock import Clock
from superpoint_ros.extraction.masks import unmasked
from superpoint_ros.features import EpipolarGeometry, Features, Homography, Mask, Matches, matched_points
from superpoint_ros.frontend.flow import COASTING_DISTANCE, Flow, associate, follow_images
from superpoint_ros.frontend.frames import Image, Pinhole
from superpoint_ros.frontend.models import explain
from superpoint_ros.frontend.settings import FrontEndSettings
from superpoint_ros.frontend.tracking import TrackIds, TrackState, follow, fuse, renew, restart
from superpoint_ros.frontend.views import Course, View, carry_features, carry_templates, make_view
from superpoint_ros.io.images import to_grey
from superpoint_ros.two_view.guided import match_near
from superpoint_ros.two_view.homography import estimate_homography, with_points
from superpoint_ros.two_view.local_motion import local_motion
from superpoint_ros.two_view.matching import BY_CHANCE, match
from superpoint_ros.two_view.refinement import (
    UNREFINED,
    Floats,
    Refine,
    Templates,
    detection_covariance,
    refine_points,
    smooth,
)
from superpoint_ros.two_view.rotation import likely_rotation

_EXPECTED_SUPPORT, _BETTER_SUPPORT = 0.5, 1.5
"""A search near predicted positions has failed if its support is less than this fraction of the previous frame's and
of that of a full search."""


@dataclass(frozen=True)
class Registration:
    """A frame, its matches with the previous frame, and the models that fit them."""

    view: View
    matches: Matches
    homography: Homography
    epipolar: EpipolarGeometry


def register_frame(
    before: View,
    image: Image,
    detected: Features,
    ids: TrackIds,
    settings: FrontEndSettings,
    clock: Clock,
    seconds: float = 0.1,
    pinhole: Pinhole | None = None,
    mask: Mask | None = None,
    refine: Refine = refine_points,
) -> Registration:
    """Relate a frame's detected features to the frame `seconds` before; `pinhole` and `mask` are those of `Frame` for
    images of this size, `refine` that of `FrontEnd`."""
    with clock.stage("match"):
        if settings.rotation == "any":
            # Steer the previous frame's descriptors to the rotation of this one.
            before = before.steered(-likely_rotation(before.features, detected))
        reference = before.features
        # Match detections with keypoints of the previous frame.
        matches = _match(before, detected, settings, seconds)
    with clock.stage("homography"):
        # Estimate the motion of the image as a plane,
        homography = estimate_homography(
            reference,
            detected,
            matches,
            method=settings.method,
            threshold=settings.threshold,
            min_inliers=settings.min_inliers,
            images=(before.image, image) if settings.align else None,
        )
    with clock.stage("refine"):
        # and locally.
        course = None
        if settings.refine or settings.window:
            motion = local_motion(*matched_points(reference, detected, matches), reference.image_size)
            course = Course(motion, seconds, _support(matches))
        if settings.refine and course is not None:
            smoothed, templates = smooth(to_grey(image)), before.templates
            if templates is None:  # refinement has just been turned on
                templates = Templates.of(smooth(to_grey(before.image)), reference.keypoints)
                before = replace(before, tracks=renew(before.tracks, np.ones(len(before.tracks), bool)))
            # Refine the position of each keypoint on the images.
            flow = follow_images(before, templates, smoothed, course.motion, matches, detected, homography, refine)
            flow = replace(flow, found=flow.found & unmasked(flow.points, mask))
            # Associate keypoints with detections; the others may coast.
            seen, coasting = associate(before, flow, matches, detected, settings)
            # Fuse flow and detections into positions with covariances.
            view, matches = _update(before, templates, image, smoothed, detected, flow, seen, coasting, ids, mask)
            points = matched_points(reference, view.features, matches)
            homography = with_points(homography, *points, settings.threshold)
        else:
            view = _by_descriptors(before, image, detected, matches, ids)
            points = matched_points(reference, detected, matches)
    with clock.stage("epipolar"):
        # Select the model: a plane, or a scene with depth.
        matches, homography, epipolar = explain(matches, *points, reference.image_size, homography, settings, pinhole)
    return Registration(replace(view, course=course), matches, homography, epipolar)


def _match(before: View, detected: Features, settings: FrontEndSettings, seconds: float) -> Matches:
    if not settings.window:
        return _match_everywhere(before, detected, settings)
    course, points = before.course, before.features.keypoints
    # Without a known motion, assume a stationary camera.
    expected = points if course is None else course.expected(points, seconds)
    limits = settings.min_similarity, settings.ratio
    near = match_near(before.features, detected, expected, settings.window, *limits)
    if course is not None and _support(near) >= _EXPECTED_SUPPORT * course.support:
        return near
    # Chance matches in a window are less similar. On repetitive texture both searches find as much.
    everywhere = _match_everywhere(before, detected, settings)
    return everywhere if _support(everywhere) > _BETTER_SUPPORT * _support(near) else near


def _match_everywhere(before: View, detected: Features, settings: FrontEndSettings) -> Matches:
    reference, places = before.features, None
    if detected.link is not None and before.detected.link is not None:
        # The runtime matched detections, not keypoints.
        reference, places = before.detected, before.places
    found = match(reference, detected, min_similarity=settings.min_similarity, ratio=settings.ratio)
    if places is None:
        return found
    return replace(found, indices=np.column_stack((places[found.indices[:, 0]], found.indices[:, 1])))


def _support(matches: Matches) -> float:
    """Sum over matches of how far their similarity exceeds that of chance."""
    return float(np.maximum(matches.similarity - BY_CHANCE, 0).sum())


def _near(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.bool_]:
    return np.asarray(np.hypot(*(a - b).T) <= COASTING_DISTANCE)


def _update(
    before: View,
    templates: Templates,
    image: Image,
    smoothed: Floats,
    detected: Features,
    flow: Flow,
    seen: Matches,
    coasting: NDArray[np.int64],
    ids: TrackIds,
    mask: Mask | None,
) -> tuple[View, Matches]:
    """Fuse flow and detections, and order the frame's keypoints: detected and coasting ones."""
    count, total = len(detected), len(detected) + len(coasting)
    refined = flow.found[seen.indices[:, 0]]
    # From the previous keypoints to the current ones, with coasting ones after the detected.
    pairs = np.vstack((seen.indices, np.column_stack((coasting, np.arange(count, total)))))
    first, second = pairs.T
    found = np.append(refined, np.ones(len(coasting), bool))
    points, variance = flow.points[first], (flow.covariance[first, 0] + flow.covariance[first, 2]) / 2
    fused, followed = found & (second < count), second >= count
    # Without a refined position, a detection must agree with the motion around it, or the track would jump.
    expected = np.zeros(len(pairs), bool)
    expected[: len(seen)] = _near(flow.predicted[seen.indices[:, 0]], detected.keypoints[seen.indices[:, 1]])
    dropped = ~found & expected
    tracks = [before.tracks.select(first[which]) for which in (fused, followed, dropped)]
    keypoints = np.vstack((detected.keypoints, points[followed]))
    keypoints[second[fused]], moved = fuse(
        tracks[0], points[fused], variance[fused], flow.warps[first[fused]], detected.keypoints[second[fused]]
    )
    # A correction must not move a keypoint into the mask, beside which it was detected.
    masked = second[fused][~unmasked(keypoints[second[fused]], mask)]
    keypoints[masked] = detected.keypoints[masked]
    coasted = follow(tracks[1], flow.warps[first[followed]], variance[followed])
    new = np.ones(count, bool)
    new[second[fused | dropped]] = False
    # Published in order of scores; coasting keypoints keep their last one.
    scores = np.append(detected.scores, before.features.scores[coasting])
    order = np.argsort(-scores, kind="stable")
    place = np.empty(total, np.int64)
    place[order] = np.arange(total)
    state = TrackState.merge(
        (place[second[fused]], moved),
        (place[second[followed]], coasted),
        (place[second[dropped]], restart(tracks[2])),
        (place[:count][new], ids.begin(int(np.count_nonzero(new)))),
    )
    features = replace(carry_features(detected, before.features, coasting, order), keypoints=keypoints[order])
    source = np.full(total, -1)
    source[place[second[found]]] = first[found]
    templates, state = carry_templates(templates, smoothed, features.keypoints, state, source, flow.correlation)
    covariance = state.covariance(detection_covariance(templates))
    features = replace(features, covariance=covariance)
    view = View(image, features, state, templates, detected, place[:count])
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
    return view, matches


def _by_descriptors(before: View, image: Image, detected: Features, matches: Matches, ids: TrackIds) -> View:
    """Register a frame without refinement on the images."""
    first, second = matches.indices.T
    new = np.setdiff1d(np.arange(len(detected)), second)
    state = TrackState.merge((second, restart(before.tracks.select(first))), (new, ids.begin(len(new))))
    return make_view(image, None, detected, detected, state, np.arange(len(detected)))
