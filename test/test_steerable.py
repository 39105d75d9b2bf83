"""Steerable descriptors, which a quarter turn of the image permutes: their training and their basis."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("lightning", reason="training needs the Python package lightning")

from superpoint_ros.extraction import weights
from superpoint_ros.extraction.network import Architecture, SuperPointNet
from superpoint_ros.training import steering, views
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


def shift(size):
    """Return the (D, D) matrix that shifts four blocks by one."""
    return np.roll(np.eye(size), size // 4, axis=0)


def test_a_quarter_turn_that_is_a_shift_in_another_basis_is_found_exactly():
    random = np.random.default_rng(0)
    other, _ = np.linalg.qr(random.normal(size=(32, 32)))
    upright = random.normal(size=(500, 32)) * np.linspace(0.5, 2, 32)
    turned = upright @ (other.T @ shift(32) @ other).T
    basis = steering.block_basis(turned.T @ upright)
    np.testing.assert_allclose(basis @ basis.T, np.eye(32), atol=1e-9)
    np.testing.assert_allclose(turned @ basis.T, np.roll(upright @ basis.T, 8, axis=1), atol=1e-8)


@pytest.mark.parametrize("kind", ["rotation", "reflection", "of low rank", "identity"])
def test_a_basis_of_blocks_is_orthogonal_whatever_the_map(kind):
    random = np.random.default_rng(3)
    turn, _ = np.linalg.qr(random.normal(size=(32, 32)))
    turn[0] *= np.sign(np.linalg.det(turn)) * (-1 if kind == "reflection" else 1)
    covariance = {"of low rank": turn * (np.arange(32) < 9), "identity": np.eye(32)}.get(kind, turn)
    basis = steering.block_basis(covariance)
    np.testing.assert_allclose(basis @ basis.T, np.eye(32), atol=1e-9)


def test_a_change_of_basis_keeps_similarities_and_steers_the_network_s_descriptors(grey):
    before = weights.load("light").network
    scrambled, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(256, 256)))
    with torch.no_grad():
        for parameter in (before.convDb.conv.weight, before.convDb.conv.bias):
            parameter.copy_(torch.tensordot(torch.from_numpy(scrambled).float(), parameter, dims=1))
    pictures = [grey[y : y + 240, x : x + 240] for x in (0, 160, 320) for y in (0, 120)]
    after, found = steering.make_steerable(copy.deepcopy(before), pictures)
    assert found.points > 200 and found.before < 0.75 and found.after > 0.8
    image = torch.tensor(grey[None, None, :240, :240]).float() / 255
    one, other = (F.normalize(network(image)[1].detach().flatten(2), dim=1)[0] for network in (before, after))
    torch.testing.assert_close(one.T @ one, other.T @ other, atol=1e-4, rtol=0)


def test_images_without_keypoints_cannot_tell_how_descriptors_turn():
    with pytest.raises(ValueError, match="the images have no keypoints"):
        steering.make_steerable(SuperPointNet(Architecture((8,) * 8, 8, 8, 32)), [])
    with pytest.raises(ValueError, match="30 components, allowed for steering is a multiple of 4"):
        steering.make_steerable(SuperPointNet(Architecture((8,) * 8, 8, 8, 30)), [])


def test_components_are_ordered_by_energy_the_same_in_every_block():
    random = np.random.default_rng(0)
    other, _ = np.linalg.qr(random.normal(size=(32, 32)))
    table = random.normal(size=(4000, 32)) * np.tile(random.permutation(np.linspace(0.2, 2, 8)), 4) @ other
    basis = steering.ordered(other, table.T @ table)
    np.testing.assert_allclose(basis @ basis.T, np.eye(32), atol=1e-9)
    energy = ((table @ basis.T).reshape(-1, 4, 8) ** 2).sum(axis=(0, 1))
    assert (np.diff(energy) < 0).all()
    blocks = (basis @ other.T).reshape(4, 8, 4, 8)
    for k in range(4):
        np.testing.assert_allclose(blocks[k, :, k], blocks[0, :, 0], atol=1e-9)
