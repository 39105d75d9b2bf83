"""Tracks: unique ids, and a filter that is accurate, consistent and free of drift."""

from __future__ import annotations

import numpy as np
import pytest

from superpoint_ros.frontend.tracking import TrackIds, TrackState, follow, fuse, renew, restart


def identity(count):
    return np.tile(np.eye(2, dtype=np.float32), (count, 1, 1))


def test_ids_are_never_reused():
    ids = TrackIds()
    given = np.concatenate([ids.begin(count).ids for count in (3, 0, 5)])
    assert given.tolist() == list(range(8)) and given.dtype == np.int64


def test_merged_tracks_are_at_their_keypoints():
    ids = TrackIds()
    merged = TrackState.merge((np.array([2, 0]), ids.begin(2)), (np.array([1]), ids.begin(1)))
    assert merged.ids.tolist() == [1, 2, 0]
    assert merged.select(np.array([2, 1])).ids.tolist() == [0, 2]


def test_tracks_without_keypoints_can_be_propagated():
    place, state = fuse(TrackIds().begin(0), *(np.zeros((0, 2)), np.zeros(0), identity(0), np.zeros((0, 2))))
    assert place.shape == (0, 2) and len(state) == 0


def simulated(steps, flow_noise, detection_noise, tracks=2000, renewing=False, seed=0):
    """Simulate static points: errors (tracks, 2) relative to the start of their tracks, and the filter's variance."""
    random = np.random.default_rng(seed)
    first = random.normal(0, detection_noise, (tracks, 2))
    state, template = TrackIds().begin(tracks), first.copy()
    place = first
    for _ in range(steps):
        # Each template is located at its own centre, except for noise.
        middle = template + random.normal(0, flow_noise, (tracks, 2))
        flow = middle + np.einsum("nij,nj->ni", state.warps, state.shift)
        detected = random.normal(0, detection_noise, (tracks, 2))
        place, state = fuse(state, flow, np.full(tracks, flow_noise**2), identity(tracks), detected)
        if renewing:
            template, state = place.astype(float), renew(state, np.ones(tracks, bool))
    return place - first, state.variance


def test_a_track_on_one_template_does_not_drift():
    after_one, _ = simulated(1, 0.03, 0.3)
    after_many, _ = simulated(30, 0.03, 0.3)
    assert np.std(after_many) < 1.5 * np.std(after_one) < 0.06


def test_detections_stabilise_a_track_with_renewed_templates():
    fused, _ = simulated(100, 0.05, 0.3, renewing=True)
    assert np.std(fused) < 0.75 * 0.05 * np.sqrt(100)


@pytest.mark.parametrize("renewing", [False, True])
def test_the_variance_is_consistent(renewing):
    error, variance = simulated(25, 0.05, np.sqrt(0.1), renewing=renewing)
    assert 1.6 < np.mean((error**2).sum(axis=1) / variance) < 2.6


def test_one_false_detection_causes_no_jump():
    state, still = TrackIds().begin(1), np.zeros((1, 2))
    for _ in range(10):
        _, state = fuse(renew(state, np.ones(1, bool)), still, np.full(1, 1e-3), identity(1), still)
    place, _ = fuse(state, still, np.full(1, 1e-3), identity(1), np.array([[2.0, 0.0]]))
    assert np.abs(place).max() < 0.1


def test_a_coasting_track_counts_the_frames_without_a_detection():
    state = TrackIds().begin(2)
    state = follow(follow(state, 2 * identity(2), np.full(2, 0.01)), identity(2), np.full(2, 0.01))
    assert state.missed.tolist() == [2, 2] and state.ages.tolist() == [2, 2]
    np.testing.assert_array_equal(state.warps, 2 * identity(2))
    _, found = fuse(state, np.zeros((2, 2)), np.full(2, 0.01), identity(2), np.zeros((2, 2)))
    assert found.missed.tolist() == [0, 0]


def test_a_track_that_restarts_at_its_detection_has_a_larger_variance():
    state = restart(TrackIds().begin(1))
    assert state.variance[0] > 0.1 and state.ages[0] == 1
