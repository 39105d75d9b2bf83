"""The training loop: learning, safeguards, interruptions, settings, and the networks that it leaves."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("lightning", reason="training needs the Python package lightning")

from short_training import JOINT, SMALL, TINY

from superpoint_ros.extraction.network import Architecture
from superpoint_ros.training import config, loop, networks, stages
from superpoint_ros.training.config import JointConfig
from superpoint_ros.training.data import ShapesDataset
from superpoint_ros.training.homographies import HomographyRange
from superpoint_ros.training.monitor import draw_views
from superpoint_ros.training.objectives import ShapesObjective


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
