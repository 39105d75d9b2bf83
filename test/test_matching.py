"""Matching: against a loop over all pairs, and on edge cases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from superpoint_ros import match


def by_loops(first, second, min_similarity, ratio):
    """Compute mutual nearest neighbours by definition, as {(i, j): similarity}."""
    table = first.descriptors.astype(np.float64) @ second.descriptors.astype(np.float64).T
    found = {}
    for i, row in enumerate(table):
        order = np.argsort(-row)
        j = int(order[0])
        if int(np.argmax(table[:, j])) != i or row[j] < min_similarity:
            continue
        distances = np.sqrt(np.maximum(2 - 2 * row[order], 0))
        if ratio < 1 and len(order) > 1 and distances[0] > ratio * distances[1]:
            continue
        found[i, j] = row[j]
    return found


@pytest.fixture
def pair(make_features):
    """Create two views of 80 points, of which 50 are common, with low to high descriptor noise."""
    random = np.random.default_rng(4)
    common = random.normal(size=(50, 24))
    first = np.vstack([common, random.normal(size=(30, 24))])
    noise = random.normal(size=(80, 24)) * np.linspace(0.1, 1.5, 80)[:, None]
    second = np.vstack([random.normal(size=(30, 24)), common[::-1]]) + noise
    places = random.uniform(0, 400, (2, 80, 2))
    return make_features(places[0], first), make_features(places[1], second)


@pytest.mark.parametrize("ratio", [1.0, 0.9, 0.7])
@pytest.mark.parametrize("min_similarity", [-1.0, 0.5, 0.9])
def test_matches_equal_those_of_a_loop_over_all_pairs(pair, min_similarity, ratio):
    expected = by_loops(*pair, min_similarity, ratio)
    found = match(*pair, min_similarity=min_similarity, ratio=ratio)
    assert {(int(i), int(j)) for i, j in found.indices} == set(expected)
    assert found.indices.dtype == np.int64 and found.similarity.dtype == np.float32
    np.testing.assert_allclose(found.similarity, [expected[i, j] for i, j in found.indices.tolist()], atol=1e-5)


def test_stricter_settings_give_fewer_matches(pair):
    counts = [len(match(*pair, min_similarity=s, ratio=r)) for s, r in [(-1, 1), (0.6, 1), (0.6, 0.8), (0.8, 0.8)]]
    assert counts[0] > counts[1] > counts[2] > counts[3]


def test_matching_is_symmetric_without_the_ratio_test(pair):
    forward, backward = match(*pair), match(*pair[::-1])
    assert len(forward) > 20
    assert {tuple(p) for p in forward.indices.tolist()} == {tuple(p[::-1]) for p in backward.indices.tolist()}


def test_features_match_themselves_completely(pair):
    found = match(pair[0], pair[0], min_similarity=0.999)
    assert (found.indices[:, 0] == found.indices[:, 1]).all() and len(found) == 80
    assert (found.similarity <= 1).all()


def test_no_keypoint_is_matched_twice_even_among_equal_descriptors(make_features):
    random = np.random.default_rng(0)
    words = random.choice([-1.0, 1.0], size=(5, 16))  # with exact products in any order of summation
    first = make_features(random.uniform(0, 99, (40, 2)), words[random.integers(0, 5, 40)])
    second = make_features(random.uniform(0, 99, (30, 2)), words[random.integers(0, 5, 30)])
    found = match(first, second)
    assert 0 < len(found) <= 5
    assert all(len(np.unique(column)) == len(found) for column in found.indices.T)


@pytest.mark.parametrize("counts", [(0, 5), (5, 0), (0, 0)])
def test_without_keypoints_there_are_no_matches(make_features, counts):
    found = match(*(make_features(np.ones((count, 2)), size=16) for count in counts))
    assert found.indices.shape == (0, 2) and found.similarity.shape == (0,)


def test_the_ratio_test_needs_a_runner_up(make_features):
    one = make_features([[1, 1]])
    assert len(match(one, one, ratio=0.1)) == 1


@pytest.mark.parametrize("counts", [(3, 3), (0, 3)])
def test_descriptors_of_different_sizes_are_rejected_with_both_sizes(make_features, counts):
    first, second = make_features(np.ones((counts[0], 2)), size=16), make_features(np.ones((counts[1], 2)), size=32)
    with pytest.raises(ValueError, match="16 and 32"):
        match(first, second)


def test_descriptors_in_a_received_buffer_can_be_matched(pair):
    table = np.frombuffer(pair[0].descriptors.tobytes(), np.float32).reshape(80, 24)
    assert not table.flags.writeable
    expected = match(*pair)
    np.testing.assert_array_equal(match(replace(pair[0], descriptors=table), pair[1]).indices, expected.indices)


def test_descriptors_on_the_device_are_used_if_both_images_have_them(pair):
    on_device = [replace(f, device_descriptors=torch.from_numpy(f.descriptors)) for f in pair]
    on_device = [replace(f, descriptors=np.zeros_like(f.descriptors)) for f in on_device]
    np.testing.assert_array_equal(match(*on_device).indices, match(*pair).indices)
    mixed = replace(on_device[0], descriptors=pair[0].descriptors), pair[1]
    np.testing.assert_array_equal(match(*mixed).indices, match(*pair).indices)


def turned(features, turns):
    """Return a steerable network's features of the image rotated by quarter turns."""
    return replace(features, descriptors=np.roll(features.descriptors, turns * 6, axis=1))


@pytest.mark.parametrize("turns", range(4))
def test_with_any_rotation_rotated_images_match_like_upright_ones(pair, turns):
    expected = match(*pair)
    found = match(pair[0], turned(pair[1], turns), rotation="any")
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.similarity, expected.similarity, atol=1e-6)
    if turns:
        plain = match(pair[0], turned(pair[1], turns))
        assert len({*map(tuple, plain.indices.tolist())} & {*map(tuple, expected.indices.tolist())}) < 5


@pytest.mark.parametrize("eighths", [1, 3, 7])
def test_images_rotated_by_half_a_quarter_turn_match_too(make_features, eighths):
    def rotated(turns):
        """Descriptors of which each component is a smooth function of the orientation, seen in four directions."""
        angle = 2 * np.pi * (np.arange(4) / 4 - turns)
        blocks = mean + np.cos(angle)[:, None, None] * wave[0] + np.sin(angle)[:, None, None] * wave[1]
        return np.concatenate(blocks, axis=1)

    random = np.random.default_rng(5)
    mean, *wave = random.normal(size=(3, 80, 6))
    places = random.uniform(0, 400, (80, 2))
    found = match(*(make_features(places, rotated(turns)) for turns in (0, eighths / 8)), rotation="any")
    np.testing.assert_array_equal(found.indices, np.tile(np.arange(80)[:, None], 2))
    assert found.similarity.min() > 0.9


def test_any_rotation_is_tried_on_the_device_too(pair):
    second = turned(pair[1], 3)
    expected = match(pair[0], second, rotation="any")
    on_device = [replace(f, device_descriptors=torch.from_numpy(f.descriptors)) for f in (pair[0], second)]
    on_device = [replace(f, descriptors=np.zeros_like(f.descriptors)) for f in on_device]
    np.testing.assert_array_equal(match(*on_device, rotation="any").indices, expected.indices)


def test_an_unknown_rotation_and_descriptors_without_four_blocks_are_rejected(pair, make_features):
    with pytest.raises(ValueError, match="rotation 'sideways' is unknown, allowed is one of upright, any"):
        match(*pair, rotation="sideways")
    odd = make_features(np.ones((3, 2)), size=18)
    with pytest.raises(ValueError, match="18 components, allowed for rotation 'any' is a multiple of 4"):
        match(odd, odd, rotation="any")
