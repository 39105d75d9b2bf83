"""Features and matches as OpenCV's own types, and back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from superpoint_ros import Matches, SuperPoint, from_opencv, match, matches_to_opencv, to_opencv


@pytest.fixture(scope="module")
def found(tiny_weights, grey):
    """Features of several levels of a photograph."""
    return SuperPoint(tiny_weights, device="cpu", precision="float32", levels=3, max_keypoints=200).extract(grey)


def test_features_survive_the_way_to_opencv_and_back(found):
    back = from_opencv(*to_opencv(found), found.image_size)
    for name in ("keypoints", "scores", "levels", "sizes"):
        np.testing.assert_array_equal(getattr(back, name), getattr(found, name), name)
        assert getattr(back, name).dtype == getattr(found, name).dtype
    np.testing.assert_allclose(back.descriptors, found.descriptors, atol=1e-6)
    assert back.image_size == (512, 512) and len(back) == 200 and len(set(back.levels.tolist())) > 1


def test_keypoints_have_size_response_octave_and_track_id(found):
    ids = np.arange(len(found)) + 7
    ids[2] = 2**40
    keypoints, descriptors = to_opencv(found, ids)
    assert [keypoint.class_id for keypoint in keypoints[:4]] == [7, 8, -1, 10]
    one = keypoints[3]
    assert one.pt == tuple(found.keypoints[3].tolist()) and one.response == found.scores[3]
    assert (one.size, one.octave, one.angle) == (found.sizes[3], found.levels[3], -1)
    assert descriptors.flags.c_contiguous and descriptors.dtype == np.float32
    assert {keypoint.class_id for keypoint in to_opencv(found)[0]} == {-1}


def test_opencvs_own_matcher_finds_the_same_matches_with_the_same_distances(make_features):
    rotated = np.linalg.qr(np.random.default_rng(1).normal(size=(24, 24)))[0][:20]
    first = make_features(np.random.default_rng(2).uniform(0, 400, (20, 2)), rotated)
    noise = np.random.default_rng(3).normal(scale=0.05, size=(20, 24))
    second = make_features(first.keypoints + 1, rotated[::-1] + noise)
    ours = matches_to_opencv(match(first, second))
    matcher = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True)
    theirs = matcher.match(to_opencv(first)[1], to_opencv(second)[1])
    assert [(m.queryIdx, m.trainIdx) for m in ours] == [(m.queryIdx, m.trainIdx) for m in theirs]
    assert [m.queryIdx + m.trainIdx for m in ours] == [19] * 20
    np.testing.assert_allclose([m.distance for m in ours], [m.distance for m in theirs], atol=1e-5)
    assert matches_to_opencv(Matches.empty()) == []


def test_features_of_sift_match_with_unit_descriptors_by_descending_score(grey):
    keypoints, descriptors = cv2.SIFT_create(300).detectAndCompute(grey, None)
    features = from_opencv(keypoints, descriptors, grey.shape)
    assert len(features) == len(keypoints) and features.levels is None
    assert np.all(np.diff(features.scores) <= 0)
    np.testing.assert_allclose(np.linalg.norm(features.descriptors, axis=1), 1, atol=1e-5)
    assert len(match(features, features)) == len(np.unique(descriptors, axis=0))


def test_an_image_without_keypoints_stays_empty():
    keypoints, descriptors = cv2.SIFT_create().detectAndCompute(np.zeros((64, 64), np.uint8), None)
    features = from_opencv(keypoints, descriptors, (64, 64))
    assert len(features) == 0 and features.keypoints.shape == (0, 2)
    assert to_opencv(features)[0] == [] and len(to_opencv(features)[1]) == 0


def test_wrong_arrays_are_rejected_with_their_numbers(found):
    keypoints, descriptors = to_opencv(found)
    with pytest.raises(ValueError, match=r"199 track ids.*200 keypoints"):
        to_opencv(found, np.arange(199))
    with pytest.raises(ValueError, match=r"\(200, 24\).*199 keypoints"):
        from_opencv(keypoints[1:], descriptors, found.image_size)
    with pytest.raises(ValueError, match="uint8"):
        from_opencv(keypoints, (descriptors * 255).astype(np.uint8), found.image_size)
