"""Steerable descriptors, which a quarter turn of the image permutes: their training."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("lightning", reason="training needs the Python package lightning")

from superpoint_ros.extraction.network import Architecture, SuperPointNet
from superpoint_ros.training import views
from superpoint_ros.training.objectives import JointLoss, JointObjective
from superpoint_ros.two_view.steering import steered_back


def turning(degrees, size, scale=1.0):
    """Create the homography that rotates a view of (height, width) `size` about its centre, x towards y."""
    angle = math.radians(degrees)
    x, y = (size[1] - 1) / 2, (size[0] - 1) / 2
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    return torch.tensor([[c, -s, x - c * x + s * y], [s, c, y - s * x - c * y], [0, 0, 1]])


@pytest.mark.parametrize("degrees", [0, 40, 50, 90, -40, -50, 179, -170])
def test_the_rotation_is_found_at_any_scale_and_mild_perspective(degrees):
    tilt = torch.tensor([[1.0, 0.05, 0.0], [0.0, 1.0, 0.0], [2e-4, -1e-4, 1.0]])
    maps = torch.stack([turning(degrees, (64, 96)), turning(degrees, (64, 96), 0.3), turning(degrees, (64, 96)) @ tilt])
    found = torch.rad2deg(views.rotation(maps, (64, 96)))
    torch.testing.assert_close(found[:2], torch.full((2,), float(degrees)), atol=0.01, rtol=0)
    assert abs(found[2] - degrees) < 3


def test_steering_back_undoes_a_shift_of_the_four_blocks():
    upright = F.normalize(torch.rand(4, 5, 24), dim=2)
    turned = torch.stack([upright[k].roll(6 * k, dims=1) for k in range(4)])
    torch.testing.assert_close(steered_back(turned, 2 * torch.arange(4)), upright)


def test_half_a_quarter_turn_is_the_mean_of_both():
    table = F.normalize(torch.rand(2, 5, 24), dim=2)
    both = table + table.roll(-6, dims=2), table.roll(-18, dims=2) + table
    expected = torch.stack([F.normalize(mean[k], dim=1) for k, mean in enumerate(both)])
    torch.testing.assert_close(steered_back(table, torch.tensor([1, 7])), expected)


def ideal_pair(turns):
    """Create the maps of a perfectly steerable network for an image and its quarter turns, with the ground truth."""
    cells, channels = 10, 32
    upright = torch.randn(channels, cells, cells, generator=torch.Generator().manual_seed(0))
    turned = torch.rot90(upright, -turns, dims=(1, 2)).roll(turns * channels // 4, dims=0)  # clockwise
    size = (8 * cells, 8 * cells)
    to_picture = torch.stack((torch.eye(3), torch.linalg.inv(turning(90 * turns, size)))).double()[None]
    points = torch.rand(2, 30, 2, generator=torch.Generator().manual_seed(1)) * 79
    truth = {"points": points, "valid": torch.ones(2, 30, dtype=torch.bool), "to_source": to_picture,
             "seed": torch.tensor(3), "step": torch.tensor(0)}  # fmt: skip
    return (torch.zeros(2, 65, cells, cells), torch.stack((upright, turned))), truth, size


@pytest.mark.parametrize("turns", range(4))
def test_the_loss_of_a_perfectly_steerable_network_is_small_for_every_quarter_turn(turns):
    outputs, truth, size = ideal_pair(turns)
    network = SuperPointNet(Architecture((8,) * 8, 8, 8, 32))

    def descriptor_loss(steerable):
        loss = JointLoss(localisation=0, repetition=0, correspondences=40, steerable=steerable)
        return float(JointObjective(network, size, loss=loss).losses(outputs, truth)["descriptor"])

    assert descriptor_loss(True) < 0.05
    if turns:
        assert descriptor_loss(False) > 1


@pytest.mark.parametrize(
    ("loss", "size", "message"),
    [
        ({"steerable": True, "descriptor": "hinge"}, 32, "loss.steerable is true, allowed is that only with"),
        ({"steerable": True}, 30, "descriptors have 30 components, allowed for loss.steerable is a multiple of 4"),
        ({"steerable": True, "eighths": 50}, 32, "loss.eighths is 50, allowed is 0 to 1"),
        ({"eighths": 0.5}, 32, "loss.eighths is 0.5, allowed without loss.steerable is 0"),
        ({"at_keypoints": -0.5}, 32, "loss.at_keypoints is -0.5, allowed is 0 to 1"),
        ({"temperature": 0.01}, 32, "loss.temperature is 0.01, allowed is at least 0.025"),
    ],
)
def test_settings_of_the_loss_that_do_not_fit_are_rejected_in_a_sentence(loss, size, message):
    network = SuperPointNet(Architecture((8,) * 8, 8, 8, size))
    with pytest.raises(ValueError, match=message):
        JointObjective(network, (64, 64), loss=JointLoss(**loss))
