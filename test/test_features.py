"""Features as a table: selecting and joining keypoints."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
import torch

import superpoint_ros
from superpoint_ros.features import EpipolarGeometry, Features, Homography, Matches, Status


@pytest.fixture
def parts(make_features):
    places = np.random.default_rng(0).uniform(0, 400, (7, 2))
    found = make_features(places[:4], seed=1), make_features(places[4:], seed=2)
    return [
        replace(part, levels=np.full(len(part), level, np.uint8), sizes=np.full(len(part), 8 << level, np.float32))
        for level, part in enumerate(found)
    ]


def test_joined_features_are_the_rows_of_the_parts(parts):
    joined = Features.join(parts)
    assert joined.image_size == parts[0].image_size and joined.covariance is None
    assert joined.levels.tolist() == [0, 0, 0, 0, 1, 1, 1] and joined.levels.dtype == np.uint8
    for part, rows in zip(parts, (np.arange(4), np.arange(4, 7)), strict=True):
        again = joined.select(rows)
        for name in ("keypoints", "scores", "descriptors", "levels", "sizes"):
            np.testing.assert_array_equal(getattr(again, name), getattr(part, name))


def test_a_column_that_one_part_lacks_is_dropped(parts):
    joined = Features.join([parts[0], replace(parts[1], sizes=None)])
    assert joined.sizes is None and joined.levels is not None


@pytest.mark.parametrize("second_on_device", [True, False])
def test_descriptors_on_the_device_follow_those_in_memory(parts, second_on_device):
    first, second = (replace(part, device_descriptors=torch.from_numpy(part.descriptors)) for part in parts)
    second = second if second_on_device else replace(second, device_descriptors=None)
    chosen = Features.join([first, second]).select(np.array([6, 0, 3]))
    np.testing.assert_array_equal(chosen.device_descriptors.numpy(), chosen.descriptors)
    assert Features.join([parts[0], first]).device_descriptors is None


def test_values_that_hold_arrays_are_compared_and_hashed_by_identity(parts):
    matches = Matches(np.zeros((2, 2), np.int64), np.ones(2, np.float32))
    for value in (parts[0], matches, Homography.failed(Status.OK, 2), EpipolarGeometry.unknown(2)):
        assert value == value and value != replace(value) and len({value, value}) == 1
    public = [getattr(superpoint_ros, name) for name in superpoint_ros.__all__]
    types = {each: " ".join(str(field.type) for field in fields(each)) for each in public if is_dataclass(each)}
    holders = [each for each, words in types.items() if "NDArray" in words or "Tensor" in words]
    assert len(holders) >= 8 and all(each.__eq__ is object.__eq__ for each in holders)
