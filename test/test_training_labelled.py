"""Training on labelled images: views of them in batches, and the stages that learn from them."""

from __future__ import annotations

import dataclasses
import shutil

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("lightning", reason="training needs the Python package lightning")

from short_training import JOINT, SMALL, TINY

from superpoint_ros.extraction import weights
from superpoint_ros.extraction.network import Architecture, SuperPointNet
from superpoint_ros.training import loop, networks, stages
from superpoint_ros.training.config import DetectorConfig, JointConfig
from superpoint_ros.training.data import LabelledImages, PairsDataset, ViewsDataset, is_held_out
from superpoint_ros.training.homographies import HomographyRange
from superpoint_ros.training.objectives import JointLoss, JointObjective
from superpoint_ros.training.views import project, warp


@pytest.fixture
def labelled(tmp_path, grey):
    """Write images below a folder, with labels on a grid."""
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    labels.mkdir()
    for i in range(5):
        picture = grey[10 * i : 10 * i + 150, 5 * i : 5 * i + 200]
        cv2.imwrite(str(images / f"{i}.png"), picture)
        x, y = np.meshgrid(np.arange(6, 200, 17), np.arange(7, 150, 19))
        points = np.column_stack((x.ravel(), y.ravel(), np.ones(x.size)))
        np.save(labels / f"{i}.png.npy", points.astype(np.float32))
    return images, labels


def always(path):
    return True


def test_labels_move_with_the_views_of_their_images(labelled):
    source = LabelledImages.read(*labelled, 160, always)
    data = PairsDataset(source, JointConfig(batch=3, size=(64, 80), ranges=HomographyRange(rotation=30)))
    batch = data[4]
    assert batch["sources"].shape == (3, 1, 160, 160)
    objective = JointObjective(SuperPointNet(Architecture(*dataclasses.astuple(TINY))), (64, 80))
    images, truth = objective.prepare(batch)
    assert images.shape == (6, 1, 64, 80)
    back = project(batch["to_source"].flatten(0, 1).float(), truth["points"])
    original = batch["labels"].repeat_interleave(2, dim=0)
    assert float((back - original)[truth["valid"]].abs().max()) < 0.01
    assert truth["valid"].sum() > 20


def test_views_of_small_crops_magnify_and_stay_inside_the_image(labelled):
    source = LabelledImages.read(*labelled, 160, always)
    upright = HomographyRange(rotation=0, scale_min=1.0, perspective=0, shear=0)
    data = ViewsDataset(source, DetectorConfig(batch=50, size=(64, 80), ranges=upright, crop_min=0.25))
    maps = data[0]["to_source"][:, 0]
    height, width = source.sizes[0]
    scale, corner = maps[:, 0, 0], maps[:, :2, 2]
    share = (scale * 63 + 1) / height  # the view's height is what the crop limits
    assert 0.24 < float(share.min()) < 0.3 and 0.9 < float(share.max()) <= 1
    assert float(corner.min()) >= -1e-6 and float((corner[:, 0] + 79 * scale).max()) <= width - 1 + 1e-6
    assert float(corner.std()) > 10


@pytest.mark.parametrize("close", [0.0, 1.0])
def test_the_views_of_a_pair_agree_with_their_homography(labelled, close):
    source = LabelledImages.read(*labelled, 160, always)
    ranges = HomographyRange(rotation=20, scale_min=0.8)
    config = JointConfig(batch=3, size=(64, 80), ranges=ranges, close=close)
    batch = PairsDataset(source, config)[0]
    maps = batch["to_source"]
    pictures = batch["sources"].float() / 255
    first, second = (warp(pictures, maps[:, i].float(), (64, 80)) for i in (0, 1))
    across = torch.linalg.inv(maps[:, 1]) @ maps[:, 0]
    again = warp(second, across.float(), (64, 80))
    seen = warp(torch.ones_like(second), across.float(), (64, 80)) > 0.999
    assert seen.float().mean() > 0.2
    assert float((again - first)[seen].abs().mean()) < 0.03


def test_close_second_views_are_within_the_first_with_the_requested_fraction(labelled):
    source = LabelledImages.read(*labelled, 160, always)
    batch = PairsDataset(source, JointConfig(batch=200, size=(64, 80), close=0.3))[0]
    maps = batch["to_source"]
    to_first = (torch.linalg.inv(maps[:, 0]) @ maps[:, 1]).float()
    corners = torch.tensor([[0.0, 0.0], [79.0, 0.0], [79.0, 63.0], [0.0, 63.0]]).expand(200, -1, -1)
    there = project(to_first, corners)
    size = torch.tensor([79.0, 63.0])
    within = ((there >= -1e-3) & (there <= size + 1e-3)).all(dim=2).all(dim=1)
    still = (there - corners).norm(dim=2).amax(dim=1) < 40
    assert 0.2 < float((within & still).float().mean()) < 0.45


def test_an_epoch_contains_every_image_once_for_any_number_of_processes(labelled):
    source = LabelledImages.read(*labelled, 160, always)
    for world in (1, 2):
        sets = [
            ViewsDataset(source, DetectorConfig(batch=2, size=(64, 80), seed=3), rank, world) for rank in range(world)
        ]
        shown = [i for step in range(5 // world * 2) for data in sets for i in data._batch_indices(step).tolist()]
        for epoch in range(len(shown) // 5):
            assert sorted(shown[5 * epoch : 5 * epoch + 5]) == list(range(5))


def test_held_out_images_are_always_the_same_and_not_read(tmp_path, labelled):
    images, labels = labelled
    source = LabelledImages.read(images, labels, 160, lambda path: path.stem != "3")
    assert len(source.sizes) == 4
    with pytest.raises(ValueError, match="holds no labels"):
        LabelledImages.read(images, tmp_path / "elsewhere", 160, always)
    aside = [i for i in range(2000) if is_held_out(images / f"{i}.jpg")]
    assert 20 < len(aside) < 90
    assert aside == [i for i in range(2000) if is_held_out(tmp_path / "other" / "images" / f"{i}.jpg")]


@pytest.mark.parametrize("descriptor", ["dual_softmax", "hinge"])
def test_joint_training_lowers_either_descriptor_loss(tmp_path, labelled, descriptor):
    stages.train_shapes(tmp_path / "shapes", SMALL)
    losses = []

    class Record:
        def scalars(self, step, values):
            losses.append(values["descriptor"])

        def image(self, step, objective, batch): ...

    settings = dataclasses.replace(
        JOINT, steps=25, log_every=1, learning_rate=3e-3, loss=JointLoss(descriptor=descriptor, correspondences=64)
    )
    source = LabelledImages.read(*labelled, 160, always)
    objective = JointObjective(networks.read(tmp_path / "shapes"), (64, 80), loss=settings.loss)
    data = PairsDataset(source, JointConfig(batch=2, size=(64, 80), ranges=HomographyRange(rotation=5, scale_min=0.9)))
    loop.run(objective, lambda rank, world: data, settings, tmp_path / "joint.ckpt", Record())
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_joint_training_starts_from_weights_with_folded_normalisation(tmp_path, labelled, tiny_weights):
    run = tmp_path / "joint"
    assert stages.train_joint(run, tiny_weights, *labelled, JOINT, always) == 3
    trained = networks.read(run)
    assert trained.architecture.norm == "before_relu"
    weights.save(trained, tmp_path / "w.safetensors")
    folded = weights.load(tmp_path / "w.safetensors").network
    images = torch.rand(1, 1, 64, 80)
    with torch.no_grad():
        for ours, theirs in zip(folded(images), trained(images), strict=True):
            torch.testing.assert_close(ours, theirs, atol=0.02, rtol=0.02)


def test_a_finished_stage_rereads_no_image_and_still_rejects_other_settings(tmp_path, labelled, tiny_weights):
    for train, run in ((stages.train_detector, tmp_path / "detector"), (stages.train_joint, tmp_path / "joint")):
        assert train(run, tiny_weights, *labelled, JOINT, always) == 3
    shutil.rmtree(labelled[1])
    for train, run in ((stages.train_detector, tmp_path / "detector"), (stages.train_joint, tmp_path / "joint")):
        before = (run / "checkpoint.ckpt").read_bytes()
        assert train(run, tiny_weights, *labelled, JOINT, always) == 3
        assert (run / "checkpoint.ckpt").read_bytes() == before
        with pytest.raises(ValueError, match="started with batch 2, not 3"):
            train(run, tiny_weights, *labelled, dataclasses.replace(JOINT, batch=3), always)
        with pytest.raises(ValueError, match="holds no labels"):
            train(run, tiny_weights, *labelled, dataclasses.replace(JOINT, steps=4), always)


def test_a_stage_without_labels_leaves_no_settings_behind(tmp_path, labelled, tiny_weights):
    run, images = tmp_path / "joint", labelled[0]
    with pytest.raises(ValueError, match="holds no labels"):
        stages.train_joint(run, tiny_weights, images, tmp_path / "elsewhere", JOINT, always)
    assert not run.exists()
