"""Accuracy of matches and tracks on simulated flights with ground truth, and on bad input."""

from __future__ import annotations

import itertools
from dataclasses import replace

import cv2
import numpy as np
import pytest

from superpoint_ros import Frame, FrontEnd, FrontEndSettings, SuperPoint
from superpoint_ros.simulation.flight import Flight
from superpoint_ros.two_view.geometry import project

SIZE, RATE = (360, 480), 10


@pytest.fixture(scope="module")
def superpoint():
    return SuperPoint("light", device="cpu")


@pytest.fixture(scope="module")
def flight(photograph):
    """Render grey frames and the homographies from the photograph to each."""
    camera = Flight(photograph, SIZE)
    frames = [cv2.cvtColor(camera.frame(index / RATE), cv2.COLOR_BGR2GRAY) for index in range(14)]
    return frames, [camera.homography(index / RATE) for index in range(14)]


def run(superpoint, images, settings=None):
    front_end = FrontEnd(superpoint, settings or FrontEndSettings())
    return [
        front_end.process(Frame(int(1e9 / RATE * index) + 1, lambda image=image: image))
        for index, image in enumerate(images)
    ]


@pytest.fixture(scope="module")
def results(superpoint, flight):
    return run(superpoint, flight[0])


def errors(results, truths):
    """Compute the error of every match's current point, for each frame but the first."""
    for before, after in zip(range(len(results) - 1), results[1:], strict=True):
        first, second = after.matches.indices.T
        move = truths[before + 1] @ np.linalg.inv(truths[before])
        yield project(move, after.reference.keypoints[first]) - after.features.keypoints[second]


def squared(difference, covariance):
    xx, xy, yy = covariance.T.astype(float)
    x, y = difference.T
    return (yy * x * x - 2 * xy * x * y + xx * y * y) / (xx * yy - xy * xy)


def test_matches_are_accurate(results, flight):
    error = np.linalg.norm(np.vstack(list(errors(results, flight[1]))), axis=1)
    assert (error > 3).mean() < 0.01
    assert np.median(error) < 0.06 and np.sqrt((error[error < 3] ** 2).mean()) < 0.35


def test_matches_without_refinement_are_inaccurate(superpoint, results, flight):
    plain = run(superpoint, flight[0], FrontEndSettings(refine=False))
    before, after = (np.linalg.norm(np.vstack(list(errors(each, flight[1]))), axis=1) for each in (plain, results))
    assert np.median(after) < np.median(before) / 4
    assert len(after) > len(before)  # and tracks that coast are matches, too


def test_covariances_of_matches_are_consistent(results, flight):
    difference = list(errors(results, flight[1]))
    covariance = [result.matches.covariance for result in results[1:]]
    difference, covariance = np.vstack(difference), np.vstack(covariance)
    near = np.linalg.norm(difference, axis=1) < 3
    assert 1.0 < squared(difference[near], covariance[near]).mean() < 3.0


def test_tracks_do_not_drift(results, flight):
    truths, began, off = flight[1], {}, []
    for index, result in enumerate(results):
        for place, track, age in zip(result.features.keypoints, result.track_ids, result.track_ages, strict=True):
            began.setdefault(track, (index, place))
            start, first = began[track]
            assert index - start == age
            if age == 10:
                true = project(truths[index] @ np.linalg.inv(truths[start]), first[None])[0]
                off.append(np.linalg.norm(true - place))
    assert len(off) > 30 and np.median(off) < 0.15


def test_ids_are_unique_and_follow_the_matches(results):
    for before, after in itertools.pairwise(results):
        assert len(set(after.track_ids.tolist())) == len(after.track_ids) == len(after.features)
        first, second = after.matches.indices.T
        # A match that contradicts the motion around it starts a new track.
        same = before.track_ids[first] == after.track_ids[second]
        assert same[after.matches.refined].all() and same.mean() > 0.95
        assert set(after.track_ids[after.track_ages > 0]) <= set(before.track_ids)


def test_keypoints_are_ordered_by_score_including_coasting_ones(results):
    assert any(result.coasted.any() for result in results)
    for result in results:
        assert (np.diff(result.features.scores) <= 0).all()
        assert len(result.coasted) == len(result.features)


def test_tracks_coast_without_detections_for_a_limited_time(superpoint, flight):
    settings = FrontEndSettings(coast=2)
    front_end, image = FrontEnd(superpoint, settings), flight[0][0]
    blind = replace(settings, extraction={**settings.extraction, "detection_threshold": 1.0})
    counts, ids = [], []
    for index in range(5):
        front_end.configure(settings if index < 1 else blind)
        result = front_end.process(Frame(index + 1, lambda: image))
        counts.append(len(result.features))
        ids.append(set(result.track_ids.tolist()))
    assert counts[1] > 0.7 * counts[0] and counts[2] > 0.7 * counts[0] and counts[3] == counts[4] == 0
    assert ids[2] <= ids[1] <= ids[0]


def test_refinement_that_is_turned_on_again_finds_the_patches_of_tracks_that_have_turned_since(superpoint, grey):
    settings = FrontEndSettings()
    front_end, refined = FrontEnd(superpoint, settings), []
    for index in range(8):
        front_end.configure(replace(settings, refine=index != 5))
        turn = cv2.getRotationMatrix2D((256, 256), 8 * min(index, 4), 1.0)
        image = cv2.warpAffine(grey, turn, (512, 512), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        result = front_end.process(Frame(int(1e9 / RATE * index) + 1, lambda image=image: image))
        refined.append(result.matches.refined)
    assert refined[4].mean() > 0.7 and refined[5] is None
    assert refined[6].mean() > 0.7 and refined[7].mean() > 0.7


def test_without_tracking_nothing_coasts_and_there_are_no_ids(superpoint, flight):
    for result in run(superpoint, flight[0][:3], FrontEndSettings(tracking=False)):
        assert len(result.track_ids) == len(result.track_ages) == 0 and not result.coasted.any()


@pytest.mark.parametrize("kind", ["black", "white", "noise", "dark", "blurred", "repeated", "turned", "half"])
def test_a_bad_frame_causes_no_jumps(superpoint, flight, kind):
    frames, truths = list(flight[0][:5]), flight[1]
    good = frames[2]
    frames[2] = {
        "black": np.zeros_like(good),
        "white": np.full_like(good, 255),
        "noise": np.random.default_rng(0).integers(0, 256, good.shape).astype(np.uint8),
        "dark": (good // 6).astype(np.uint8),
        "blurred": cv2.GaussianBlur(good, (0, 0), 6),
        "repeated": frames[1],
        "turned": np.ascontiguousarray(good[::-1, ::-1]),
        "half": np.where(np.arange(good.shape[1]) < 240, good, 255).astype(np.uint8),
    }[kind]
    results = run(superpoint, frames)
    for result in results:
        assert np.isfinite(result.features.keypoints).all()
        assert np.isfinite(result.features.covariance).all() and (result.features.covariance[:, 0] > 0).all()
        assert result.matches.covariance is None or np.isfinite(result.matches.covariance).all()
    # Tracks that survive the bad frame are at their true positions.
    began = dict(zip(results[1].track_ids.tolist(), results[1].features.keypoints, strict=True))
    last = dict(zip(results[4].track_ids.tolist(), results[4].features.keypoints, strict=True))
    both = sorted(set(began) & set(last))
    if both:
        true = project(truths[4] @ np.linalg.inv(truths[1]), np.array([began[track] for track in both]))
        error = np.linalg.norm(true - [last[track] for track in both], axis=1)
        assert (error > 5).sum() <= max(1, 0.05 * len(both)), "no more than one by chance, of well over a hundred"
        assert len(both) < 10 or np.median(error) < 0.5
