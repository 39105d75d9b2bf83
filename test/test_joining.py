"""Messages of a moment are joined by their stamp, whatever the clock does."""

from __future__ import annotations

import pytest

from superpoint_ros.node.joining import StampJoiner

NEEDED = ("features", "matched_homography", "stereo_matches")


def test_a_moment_is_complete_with_all_that_is_needed_in_any_order():
    joiner = StampJoiner(NEEDED)
    assert joiner.add("stereo_matches", 2, "c") is None and joiner.add("features", 1, "old") is None
    assert joiner.add("features", 2, "a") is None
    assert joiner.add("matched_homography", 2, "b") == {
        "features": "a", "matched_homography": "b", "stereo_matches": "c",
    }  # fmt: skip


def test_the_incomplete_moment_that_arrived_first_is_given_up_with_what_it_lacks():
    joiner = StampJoiner(NEEDED, most=2)
    for stamp in (5, 6):
        joiner.add("features", stamp, stamp)
    with pytest.raises(ValueError, match=r"^no matched_homography and no stereo_matches of its stamp arrived$"):
        joiner.add("features", 7, 7)
    for key in NEEDED[1:]:
        found = joiner.add(key, 6, key)
    assert found is not None and found["features"] == 6


def test_after_the_clock_went_back_moments_are_complete_again():
    joiner, complete = StampJoiner(NEEDED, most=20), []
    for stamp in range(1000, 1020):
        joiner.add("features", stamp, stamp)  # the others are lost
    for stamp in range(50):
        for key in NEEDED:
            try:
                complete.append(joiner.add(key, stamp, key))
            except ValueError:
                complete.append(None)
    assert sum(each is not None for each in complete) == 50
