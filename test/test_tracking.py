"""Track ids: kept while a keypoint is matched, never given twice."""

from __future__ import annotations

import numpy as np

from superpoint_ros import Matches
from superpoint_ros.frontend.tracking import Tracks


def pairs(*indices):
    return Matches(np.array(indices, np.int64).reshape(-1, 2), np.ones(len(indices), np.float32))


def test_the_first_frame_gets_an_id_for_each_keypoint():
    ids = Tracks().update(Matches.empty(), 4)
    assert ids.tolist() == [0, 1, 2, 3] and ids.dtype == np.int64


def test_matched_keypoints_keep_their_ids_and_others_get_new_ones():
    tracks = Tracks()
    tracks.update(Matches.empty(), 3)
    assert tracks.update(pairs((2, 0), (0, 2)), 4).tolist() == [2, 3, 0, 4]
    assert tracks.update(pairs((3, 0), (0, 1)), 2).tolist() == [4, 2]


def test_an_id_that_was_lost_never_comes_back():
    random, tracks, alive, dead, count = np.random.default_rng(0), Tracks(), set(), set(), 0
    for _ in range(200):
        size = int(random.integers(0, 12))
        matched = random.permutation(min(count, size))
        ids = tracks.update(pairs(*[(i, int(j)) for i, j in enumerate(matched)]), size).tolist()
        assert len(set(ids)) == size and not dead & set(ids)
        dead |= alive - set(ids)
        alive, count = set(ids), size
    assert len(dead) > 100


def test_without_tracking_there_are_no_ids_and_afterwards_only_new_ones():
    tracks = Tracks()
    tracks.update(Matches.empty(), 3)
    assert tracks.update(pairs((0, 0)), 5, enabled=False).shape == (0,)
    assert tracks.update(pairs((0, 0), (1, 1)), 2).tolist() == [3, 4]


def test_a_frame_without_keypoints_ends_every_track():
    tracks = Tracks()
    tracks.update(Matches.empty(), 2)
    assert tracks.update(Matches.empty(), 0).shape == (0,)
    assert tracks.update(Matches.empty(), 2).tolist() == [2, 3]
