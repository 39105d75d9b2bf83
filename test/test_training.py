"""The training loop and its stages: learning, safeguards, and interruptions."""

from __future__ import annotations

import dataclasses
import shutil

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("lightning", reason="training needs the Python package lightning")

from superpoint_ros.extraction import weights
from superpoint_ros.extraction.network import Architecture, SuperPointNet
from superpoint_ros.training import config, loop, networks, stages
from superpoint_ros.training.config import DetectorConfig, JointConfig, NetworkSizes, ShapesConfig
from superpoint_ros.training.data import LabelledImages, PairsDataset, ShapesDataset, ViewsDataset, is_held_out
from superpoint_ros.training.homographies import HomographyRange
from superpoint_ros.training.monitor import draw_views
from superpoint_ros.training.objectives import JointLoss, JointObjective, ShapesObjective
from superpoint_ros.training.views import project, warp

TINY = NetworkSizes((8, 8, 8, 8, 16, 16, 16, 16), 32, 32, 24)
SMALL = ShapesConfig(
    steps=6, batch=2, size=(48, 64), warmup=2, accelerator="cpu", precision="32-true", network=TINY, log_every=1
)


def state(run):
    """Read all tensors of a run's checkpoint."""
    return torch.load(run / "checkpoint.ckpt", weights_only=True)["model"]


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_training_is_reproducible_by_its_seed(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert stages.train_shapes(tmp_path / name, dataclasses.replace(SMALL, seed=seed)) == 6
    assert same(state(tmp_path / "a"), state(tmp_path / "b"))
    assert not same(state(tmp_path / "a"), state(tmp_path / "c"))


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    constant = dataclasses.replace(SMALL, decay=0.0)
    stages.train_shapes(tmp_path / "whole", constant)
    assert stages.train_shapes(tmp_path / "parts", dataclasses.replace(constant, steps=2)) == 2
    assert stages.train_shapes(tmp_path / "parts", constant) == 6
    assert same(state(tmp_path / "whole"), state(tmp_path / "parts"))


def test_a_finished_stage_is_not_trained_again(tmp_path):
    stages.train_shapes(tmp_path, SMALL)
    before = (tmp_path / "checkpoint.ckpt").stat().st_mtime_ns
    assert stages.train_shapes(tmp_path, SMALL) == 6
    assert (tmp_path / "checkpoint.ckpt").stat().st_mtime_ns == before


def test_resuming_with_other_settings_is_rejected_but_more_steps_are_allowed(tmp_path):
    stages.train_shapes(tmp_path, SMALL)
    with pytest.raises(ValueError, match="started with batch 2, not 3"):
        stages.train_shapes(tmp_path, dataclasses.replace(SMALL, batch=3))
    assert stages.train_shapes(tmp_path, dataclasses.replace(SMALL, steps=8)) == 8


class Spoilt:
    """An objective with NaN images at some steps."""

    def __init__(self, inner, steps):
        self.inner, self.steps, self.module = inner, steps, inner.module

    def prepare(self, batch):
        images, truth = self.inner.prepare(batch)
        return (images * float("nan") if int(batch["step"]) in self.steps else images), truth

    def losses(self, outputs, truth):
        return self.inner.losses(outputs, truth)


def spoilt_run(tmp_path, steps, total):
    network = networks.create(Architecture(TINY.encoder, 32, 32, 24))
    objective = Spoilt(ShapesObjective(network, SMALL.size), steps)
    settings = dataclasses.replace(SMALL, steps=total)
    ranges = HomographyRange()
    reached = loop.run(
        objective, lambda rank, world: ShapesDataset(SMALL.size, 2, ranges, 0, rank), settings, tmp_path / "x.ckpt"
    )
    return reached, network


def test_a_non_finite_step_is_skipped_without_effect(tmp_path, caplog):
    reached, network = spoilt_run(tmp_path / "a", {3}, 4)
    assert reached == 4
    assert "step 3" in caplog.text
    assert all(bool(torch.isfinite(tensor).all()) for tensor in network.state_dict().values())
    _, until_then = spoilt_run(tmp_path / "b", set(), 3)
    left, right = network.state_dict(), until_then.state_dict()
    # The learning rates of three and four steps differ, so only the statistics are identical.
    assert all(left[name] == right[name] for name in left if "num_batches" in name)
    assert torch.load(tmp_path / "a" / "x.ckpt", weights_only=True)["skipped"] == 1


def test_persistently_non_finite_losses_stop_the_run_with_a_sentence(tmp_path):
    with pytest.raises(loop.DivergenceError, match="50 consecutive steps"):
        spoilt_run(tmp_path, set(range(100)), 100)
    assert torch.load(tmp_path / "x.ckpt", weights_only=True)["step"] < 100


def test_the_rate_rises_stays_and_falls_to_zero():
    settings = loop.LoopConfig(steps=100, warmup=10, decay=0.5, learning_rate=1.0)
    rates = [loop.scheduled_rate(step, settings) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert all(rate == pytest.approx(1) for rate in rates[9:51])
    assert (np.diff(rates[51:]) < 0).all()
    assert rates[100] == pytest.approx(0)


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


JOINT = JointConfig(
    steps=3, batch=2, size=(64, 80), longer_side=160, warmup=1, accelerator="cpu", precision="32-true",
    loss=JointLoss(correspondences=64, ramp=1),
)  # fmt: skip


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


def test_restored_normalisation_changes_no_result(tiny_network):
    images = torch.rand(4, 1, 64, 80)
    again = networks.with_batch_normalisation(tiny_network, images)
    with torch.no_grad():
        for ours, theirs in zip(again(images), tiny_network(images), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)
        # Training mode uses the statistics of the batch, with which it was calibrated.
        for ours, theirs in zip(again.train()(images), tiny_network(images), strict=True):
            torch.testing.assert_close(ours, theirs, atol=5e-2, rtol=1e-2)


def test_a_file_that_is_not_a_checkpoint_is_named(tmp_path):
    (tmp_path / "bad.ckpt").write_text("nothing")
    with pytest.raises(ValueError, match=r"bad\.ckpt"):
        networks.read(tmp_path / "bad.ckpt")
    with pytest.raises(ValueError, match=r"bad\.ckpt"):
        networks.checkpoint_step(tmp_path / "bad.ckpt")
    assert networks.checkpoint_step(tmp_path / "missing.ckpt") == 0
    with pytest.raises(ValueError, match=r"missing\.ckpt' does not exist"):
        networks.read(tmp_path / "missing.ckpt")


def test_tensorboard_receives_curves_and_images_of_a_run(tmp_path):
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs the Python package tensorboard"
    )
    stages.train_shapes(tmp_path, dataclasses.replace(SMALL, picture_every=3))
    events = event_accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4, 5, 6]
    assert events.Scalars("learning_rate")[-1].value < 1e-3
    assert [event.step for event in events.Images("views")] == [3, 6]
    encoded = np.frombuffer(events.Images("views")[0].encoded_image_string, np.uint8)
    assert cv2.imdecode(encoded, cv2.IMREAD_COLOR).shape == (96, 2 * 128, 3)


def test_the_image_of_a_batch_shows_its_labels_in_green():
    objective = ShapesObjective(networks.create(Architecture(*dataclasses.astuple(TINY))), (48, 64))
    batch = ShapesDataset((48, 64), 6, HomographyRange(), 0)[0]
    picture = draw_views(objective, batch)
    green = (picture[..., 1] > 200) & (picture[..., 0] < 80) & (picture[..., 2] < 80)
    assert green.any()


def test_settings_accept_every_known_key_and_reject_others_with_a_sentence():
    built = config.build(
        JointConfig, config.parse_overrides(["steps=7", "ranges.rotation=30", "loss.descriptor=hinge"])
    )
    assert (built.steps, built.ranges.rotation, built.loss.descriptor) == (7, 30.0, "hinge")
    for word, message in {
        "stepz=1": "setting 'stepz' is unknown, allowed is one of steps, batch",
        "ranges.turn=1": "setting 'ranges.turn' is unknown, allowed is one of rotation, scale_min",
        "steps=many": "setting 'steps' is 'many': input should be a valid integer",
        "loss.descriptor=triplet": "setting 'loss.descriptor' is 'triplet': input should be 'dual_softmax' or 'hinge'",
        "steps": "override 'steps' is not of the form KEY=VALUE",
        "size=[1": "override 'size=\\[1' is not valid YAML",
    }.items():
        with pytest.raises(ValueError, match=message):
            config.build(JointConfig, config.parse_overrides([word]))


def test_settings_survive_yaml():
    settings = dataclasses.replace(JOINT, ranges=HomographyRange(rotation=33))
    import yaml

    assert config.build(JointConfig, yaml.safe_load(config.to_yaml(settings))) == settings


def test_the_weights_of_a_mean_network_are_the_means_of_its_networks(tmp_path):
    for seed in (1, 2, 3):
        stages.train_shapes(tmp_path / str(seed), dataclasses.replace(SMALL, seed=seed))
    found = networks.average([tmp_path / "1", tmp_path / "2", tmp_path / "3"]).state_dict()
    parts = [networks.read(tmp_path / str(seed)).state_dict() for seed in (1, 2, 3)]
    for name, value in found.items():
        torch.testing.assert_close(value.double(), sum(part[name].double() for part in parts) / 3, atol=1e-6, rtol=0)
    assert not same(found, parts[0])


def test_networks_of_different_layers_have_no_mean(tmp_path, tiny_weights):
    stages.train_shapes(tmp_path, SMALL)
    with pytest.raises(ValueError, match="differ in their layers"):
        networks.average([tmp_path, tiny_weights])
