"""Shorter descriptors: the leading components of each of four blocks."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from superpoint_ros import SuperPoint, match
from superpoint_ros.cli import main
from superpoint_ros.extraction import weights
from superpoint_ros.extraction.network import SuperPointNet
from superpoint_ros.extraction.shortening import shorten
from superpoint_ros.node.settings import superpoint_from_parameters
from superpoint_ros.two_view.geometry import project


@pytest.fixture
def ordered(tiny_network) -> SuperPointNet:
    """The small random network, its 24 components declared as ordered."""
    network = SuperPointNet(replace(tiny_network.architecture, ordered=True)).eval()
    network.load_state_dict(tiny_network.state_dict())
    return network


def test_short_descriptors_are_the_leading_components_of_each_block(ordered):
    image = torch.rand(1, 1, 64, 80, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        (logits, long), (same_logits, short) = ordered(image), shorten(ordered, 8)(image)
    torch.testing.assert_close(short, long[:, [0, 1, 6, 7, 12, 13, 18, 19]])
    torch.testing.assert_close(same_logits, logits)
    assert ordered.architecture.descriptor_size == 24, "the network itself has not changed"


@pytest.mark.parametrize("size", [0, 24])
def test_all_components_are_allowed_with_any_weights(tiny_network, size):
    assert shorten(tiny_network, size) is tiny_network


@pytest.mark.parametrize("size", [10, 28, -4])
def test_sizes_that_the_blocks_cannot_have_are_rejected_in_a_sentence(ordered, size):
    with pytest.raises(ValueError, match=f"descriptor_size is {size}, .* is 0 or a multiple of 4 up to 24"):
        shorten(ordered, size)


def test_components_in_no_order_are_not_shortened(tiny_weights):
    with pytest.raises(ValueError, match="descriptor_size is 8, allowed with these weights is 0 or 24"):
        SuperPoint(tiny_weights, descriptor_size=8)


def test_the_order_is_kept_in_the_file_and_by_convert(ordered, tmp_path, capsys):
    whole, short = tmp_path / "whole.safetensors", tmp_path / "short.safetensors"
    weights.save(ordered, whole, {"license": "CC0-1.0"})
    assert main(["weights", "convert", str(whole), str(short), "--descriptor-size", "16", "--json"]) == 0
    capsys.readouterr()
    assert main(["weights", "info", str(short), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["descriptor"], found["descriptor_order"], found["license"]) == (16, "energy", "CC0-1.0")
    direct, again = weights.load(whole, 8).network, weights.load(short, 8).network
    torch.testing.assert_close(direct.convDb.conv.weight, again.convDb.conv.weight)


def test_the_node_s_parameter_sets_the_size(ordered, tmp_path, grey):
    path = tmp_path / "ordered.safetensors"
    weights.save(ordered, path)
    superpoint = superpoint_from_parameters({"weights": str(path), "descriptor_size": 12})
    features = superpoint.extract(grey)
    assert superpoint.descriptor_size == 12 and features.descriptors.shape == (len(features), 12) and len(features)
    np.testing.assert_allclose(np.linalg.norm(features.descriptors, axis=1), 1, atol=1e-3)


@pytest.mark.parametrize("name", ["default", "light"])
@pytest.mark.parametrize(("size", "share"), [(128, 0.95), (64, 0.9)])
def test_known_weights_match_nearly_as_well_with_half_and_a_quarter_of_the_components(name, size, share, grey):
    centre = (np.array(grey.shape[::-1]) - 1) / 2
    turn = np.vstack([cv2.getRotationMatrix2D(centre, 20, 0.8), [0, 0, 1]])
    other = cv2.warpPerspective(grey, turn, grey.shape[::-1])

    def right(components):
        superpoint = SuperPoint(name, descriptor_size=components)
        first, second = superpoint.extract(grey), superpoint.extract(other)
        pairs = match(first, second).indices
        error = project(turn, first.keypoints[pairs[:, 0]]) - second.keypoints[pairs[:, 1]]
        return int((np.linalg.norm(error, axis=1) < 3).sum())

    assert right(size) >= share * right(0) > 50


@pytest.mark.parametrize("name", ["default", "light"])
def test_leading_components_of_known_weights_hold_most_of_the_energy_and_steer(name, grey):
    network, square = weights.load(name).network, np.ascontiguousarray(grey[:480, :480])
    images = np.stack([np.rot90(square, -quarters) for quarters in range(2)])[:, None]
    with torch.no_grad():
        upright, turned = F.normalize(network(torch.from_numpy(images).float() / 255)[1], dim=1)
    energy = (upright.unflatten(0, (4, 64)) ** 2).mean(dim=(0, 2, 3))
    assert energy[:32].sum() > 0.85 * energy.sum() and energy[:8].mean() > 5 * energy[32:].mean()
    leading = torch.rot90(turned.unflatten(0, (4, 64)), 1, dims=(2, 3))[:, :16].roll(-1, dims=0)
    similarity = F.cosine_similarity(leading.flatten(0, 1), upright.unflatten(0, (4, 64))[:, :16].flatten(0, 1), dim=0)
    assert similarity.mean() > 0.75
