"""A part of another image in front of the views of a pair: parallax and hidden points with exact ground truth."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("lightning", reason="training needs the Python package lightning")

from superpoint_ros.extraction.network import Architecture, SuperPointNet
from superpoint_ros.training.config import JointConfig
from superpoint_ros.training.data import LabelledImages, PairsDataset
from superpoint_ros.training.homographies import HomographyRange
from superpoint_ros.training.motion import Foreground, Motion, correspondences, motion_of
from superpoint_ros.training.objectives import JointObjective
from superpoint_ros.training.photometric import Photometric
from superpoint_ros.training.views import inside, project

SIZE = (96, 128)
TINY = Architecture((8, 8, 8, 8, 16, 16, 16, 16), detector=32, descriptor=16, descriptor_size=24)
PLAIN = Photometric(light=0, dark=0, shade=0, blur=0, motion=0, noise=0, jpeg=0)


@pytest.fixture(scope="module")
def source(grey, tmp_path_factory):
    """Five smooth crops of the photograph, with labels on a grid."""
    images, labels = (tmp_path_factory.mktemp(name) for name in ("images", "labels"))
    smooth = cv2.GaussianBlur(grey, (0, 0), 2.0)
    for i in range(5):
        cv2.imwrite(str(images / f"{i}.png"), smooth[60 * i : 60 * i + 240, 40 * i : 40 * i + 320])
        x, y = np.meshgrid(np.arange(6, 320, 17), np.arange(7, 240, 19))
        np.save(labels / f"{i}.png.npy", np.column_stack((x.ravel(), y.ravel(), np.ones(x.size))).astype(np.float32))
    return LabelledImages.read(images, labels, 320, lambda path: True)


def config(occlusion, **options):
    ranges = HomographyRange(rotation=5, scale_min=0.7, perspective=0.05, shear=0.02)
    return JointConfig(batch=5, size=SIZE, ranges=ranges, occlusion=occlusion, **options)


@pytest.fixture
def prepared(source):
    """Views, ground truth and motion of a batch, without augmentation."""

    def prepare(occlusion=1.0, step=0):
        batch = PairsDataset(source, config(occlusion))[step]
        network = SuperPointNet(TINY)
        images, truth = JointObjective(network, SIZE, PLAIN).prepare(batch)
        return images.unflatten(0, (-1, 2))[:, :, 0], truth, motion_of(batch)

    return prepare


def brightness(images, points):
    """Sample (B, H, W) images at (B, N, 2) points."""
    place = (points + 0.5) / torch.tensor([SIZE[1], SIZE[0]]) * 2 - 1
    return torch.nn.functional.grid_sample(images[:, None], place[:, None], align_corners=False)[:, 0, 0]


def anywhere(count, seed=0):
    return 4 + torch.rand(5, count, 2, generator=torch.Generator().manual_seed(seed)) * torch.tensor([119.0, 87.0])


@pytest.mark.parametrize("way", ["forward", "backward"])
def test_visible_points_look_the_same_in_both_views_and_hidden_ones_do_not(prepared, way):
    images, _, motion = prepared()
    points = anywhere(2000)
    moved, visible = getattr(motion, way)(points)
    here, there = images.unbind(dim=1) if way == "forward" else images.flip(1).unbind(dim=1)
    seen = inside(moved - 4, (SIZE[0] - 8, SIZE[1] - 8))
    front = motion.foreground
    where = (points, moved) if way == "forward" else (moved, points)
    alphas = torch.stack((front.coverage(where[0]), front.coverage_in_second(where[1])))
    edge = torch.stack([front.coverage(where[0] + torch.tensor(d)) for d in ((3.0, 0), (-3.0, 0), (0, 3.0), (0, -3.0))])
    flat = (edge.amax(dim=0) == edge.amin(dim=0)) & (alphas == alphas.round()).all(dim=0) & seen
    difference = (brightness(here, points) - brightness(there, moved)).abs()
    assert (visible & flat).sum() > 1000 and (~visible & flat).sum() > 50
    assert float(difference[visible & flat].median()) < 0.01
    assert float(difference[~visible & flat].median()) > 0.08


def test_points_of_the_foreground_come_back_and_move_otherwise_than_the_background(prepared):
    _, _, motion = prepared()
    points = anywhere(800)
    covered = motion.foreground.coverage(points) > 0.5
    moved, visible = motion.forward(points)
    assert 0.05 < float(covered.float().mean()) < 0.5
    assert visible[covered].all(), "nothing is in front of the foreground"
    again, _ = motion.backward(moved)
    torch.testing.assert_close(again[visible], points[visible], atol=0.02, rtol=0)
    parallax = (moved - project(motion.first_to_second, points)).norm(dim=2)[covered]
    assert float(parallax.median()) > 3


def test_labels_are_those_of_what_is_in_front(prepared):
    _, truth, motion = prepared()
    count = truth["labels"].shape[1]
    points, valid = (truth[name].unflatten(0, (-1, 2)) for name in ("points", "valid"))
    for view, coverage in enumerate((motion.foreground.coverage, motion.foreground.coverage_in_second)):
        covered = coverage(points[:, view]) > 0.5
        assert not (valid[:, view, :count] & ~covered[:, :count]).any()
        assert not (valid[:, view, count:] & covered[:, count:]).any()
        assert inside(points[:, view], SIZE)[valid[:, view]].all()
    assert valid[:, 0, :count].any() and valid[:, 1, :count].any() and valid[:, 0, count:].any()
    first, second, used = correspondences(
        points[:, 0], valid[:, 0], motion, SIZE, 64, torch.Generator().manual_seed(0), 48
    )
    assert used.all() and inside(second, SIZE).all()
    in_front = motion.foreground.coverage(first) > 0.5
    assert 0.1 < float(in_front.float().mean()) < 0.9, "correspondences are on both sides"
    torch.testing.assert_close(project(motion.foreground.to_second, first)[in_front], second[in_front])
    torch.testing.assert_close(project(motion.first_to_second, first)[~in_front], second[~in_front])


def test_without_occlusion_batches_are_what_they_were(source, prepared):
    plain, some = (PairsDataset(source, config(share))[3] for share in (0.0, 0.5))
    assert "foreground_shown" not in plain and 0 < int(some["foreground_shown"].sum()) < 5
    for name, value in plain.items():
        torch.testing.assert_close(some[name], value, rtol=0, atol=0)
    images, _, _ = prepared(0.5, step=3)
    flat, _, motion = prepared(0.0, step=3)
    assert motion.foreground is None
    shown = some["foreground_shown"]
    torch.testing.assert_close(images[~shown], flat[~shown], rtol=0, atol=0)
    assert all(not torch.equal(images[i], flat[i]) for i in shown.nonzero().flatten().tolist())


def test_the_loss_with_a_foreground_reaches_both_heads_with_finite_gradients(source):
    batch = PairsDataset(source, config(1.0))[0]
    torch.manual_seed(0)
    network = SuperPointNet(TINY)
    objective = JointObjective(network, SIZE)
    images, truth = objective.prepare(batch)
    objective.losses(network(images), truth)["loss"].backward()
    for layer in (network.convPb, network.convDb):
        gradient = layer.conv.weight.grad
        assert torch.isfinite(gradient).all() and float(gradient.abs().sum()) > 0


def test_an_outline_of_no_lobes_is_a_circle():
    nothing = torch.zeros(1, 3, 2)
    front = Foreground(
        torch.tensor([True]), torch.tensor([[50.0, 40.0]]), torch.tensor([20.0]), nothing, torch.eye(3)[None]
    )
    points = torch.tensor([[[50.0, 40.0], [69.0, 40.0], [70.0, 40.0], [50.0, 61.0], [0.0, 0.0]]])
    assert front.coverage(points)[0].tolist() == [1, 1, 0.5, 0, 0]
    assert Motion(torch.eye(3)[None], front).forward(points)[1].all()
