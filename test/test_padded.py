"""Padded batches: the same features as tensors of one shape."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from superpoint_ros import ImageError, PaddedFeatures, SuperPoint


@pytest.fixture
def images(photograph, grey):
    """Images of different sizes and types, and one without keypoints."""
    return [photograph[:96, :128], grey[200:300, 100:217], grey[:16, :16], grey[40:136, 60:188]]


@pytest.fixture
def superpoint(superpoint):
    superpoint.configure(border=8)  # so that there are no keypoints in 16 x 16 pixels
    return superpoint


def assert_same(padded, expected):
    assert len(padded) == len(expected)
    counts = [len(each) for each in expected]
    size = padded.descriptors.shape[2]
    shape = (len(expected), max(counts, default=0))
    assert padded.keypoints.shape == (*shape, 2) and padded.scores.shape == padded.mask.shape == shape
    assert padded.mask.dtype == torch.bool and padded.mask.sum(dim=1).tolist() == counts
    assert {padded.keypoints.dtype, padded.scores.dtype, padded.descriptors.dtype} == {torch.float32}
    assert padded.image_sizes.tolist() == [list(each.image_size) for each in expected]
    for index, each in enumerate(expected):
        taken = padded.mask[index]
        assert taken[: len(each)].all()
        for name in ("keypoints", "scores", "descriptors"):
            tensor = getattr(padded, name)[index]
            np.testing.assert_array_equal(tensor[taken].cpu().numpy(), getattr(each, name))
            assert not tensor[~taken].any()
        assert each.descriptors.shape[1] == size


def test_padded_equals_unpadded_for_mixed_sizes_and_for_no_keypoints(superpoint, images):
    expected = superpoint.extract_batch(images)
    counts = [len(each) for each in expected]
    assert counts[2] == 0 and len(set(counts)) >= 3
    padded = superpoint.extract_batch(images, padded=True)
    assert isinstance(padded, PaddedFeatures)
    assert_same(padded, expected)


def test_a_batch_without_any_keypoint_and_a_batch_without_images_keep_their_shapes(superpoint):
    blank = [np.zeros((16, 16), np.uint8)] * 2
    padded = superpoint.extract_batch(blank, padded=True)
    assert_same(padded, superpoint.extract_batch(blank))
    assert padded.descriptors.shape == (2, 0, superpoint.descriptor_size)
    none = superpoint.extract_batch([], padded=True)
    assert none.keypoints.shape == (0, 0, 2) and none.image_sizes.shape == (0, 2)
    assert none.descriptors.shape == (0, 0, superpoint.descriptor_size)


def test_the_tensors_can_be_trained_on(superpoint, images):
    padded = superpoint.extract_batch(images, padded=True)
    layer = torch.nn.Linear(superpoint.descriptor_size, 1)
    (layer(padded.descriptors).squeeze(-1) * padded.mask).sum().backward()
    assert layer.weight.grad.abs().sum() > 0


def test_a_list_is_returned_by_default(superpoint, images):
    assert isinstance(superpoint.extract_batch(images, padded=False), list)


def test_an_invalid_image_is_rejected_either_way(superpoint, images):
    for padded in (False, True):
        with pytest.raises(ImageError, match="8x8 pixels"):
            superpoint.extract_batch([*images, np.zeros((8, 8), np.uint8)], padded=padded)


@pytest.mark.cuda
def test_the_tensors_are_on_the_network_s_device(tiny_weights, images):
    superpoint = SuperPoint(tiny_weights, device="cuda", precision="float32")
    padded = superpoint.extract_batch(images, padded=True)
    tensors = (padded.keypoints, padded.scores, padded.descriptors, padded.mask, padded.image_sizes)
    assert {tensor.device.type for tensor in tensors} == {"cuda"}
    assert_same(padded, superpoint.extract_batch(images))
