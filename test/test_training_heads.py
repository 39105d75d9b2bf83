"""Which parts of the network a joint stage trains, and what the stages after it make of the result."""

from __future__ import annotations

import dataclasses
from functools import partial

import cv2
import pytest
import torch
import yaml

pytest.importorskip("lightning", reason="training needs the Python package lightning")

from superpoint_ros.extraction import weights
from superpoint_ros.extraction.network import ENCODER, HEADS
from superpoint_ros.training import loop, networks, stages
from superpoint_ros.training.config import JointConfig
from superpoint_ros.training.data import LabelledImages, PairsDataset
from superpoint_ros.training.labels import LabelConfig
from superpoint_ros.training.motion import PAIR_KEYS
from superpoint_ros.training.objectives import JointLoss, JointObjective
from superpoint_ros.training.replay import Memory
from superpoint_ros.training.steering import SteerConfig
from superpoint_ros.training.upper_layers import DescriptorObjective, UpperObjective

JOINT = JointConfig(
    steps=4, batch=2, size=(64, 80), longer_side=160, warmup=1, accelerator="cpu", precision="32-true",
    learning_rate=0.01, loss=JointLoss(correspondences=64, ramp=1),
)  # fmt: skip


def always(path):
    return True


@pytest.fixture
def labelled(tmp_path, grey, tiny_weights):
    """Two images with labels."""
    images = tmp_path / "images"
    images.mkdir()
    for i in range(2):
        cv2.imwrite(str(images / f"{i}.png"), grey[10 * i : 10 * i + 150, :200])
    stages.label(tiny_weights, images, tmp_path / "labels", LabelConfig(warps=1, threshold=0.0), loop.launch(JOINT))
    return images, tmp_path / "labels"


def changed_layers(before, after):
    """Layers of two networks in the paper's form whose weights differ by more than rounding."""
    other = after.state_dict()
    return {
        name.split(".")[0].removeprefix("conv")
        for name, value in before.state_dict().items()
        if name.endswith("weight") and float((value - other[name]).norm()) > 2e-3 * float(value.norm())
    }


@pytest.mark.parametrize(
    ("heads", "expected"), [("both", {"Pa", "Pb", "Db"}), ("detector", {"Pa", "Pb"}), ("descriptor", {"Db"})]
)
def test_a_joint_stage_trains_the_heads_it_names(tmp_path, labelled, tiny_weights, heads, expected):
    run, target = tmp_path / "run", tmp_path / "trained.safetensors"
    stages.train_joint(run, tiny_weights, *labelled, dataclasses.replace(JOINT, heads=heads), always)
    weights.save(networks.read(run), target)
    changed = changed_layers(weights.load(tiny_weights).network, weights.load(target).network)
    # Not Da, into which batch statistics are folded: they change with the encoder.
    assert changed & {"Pa", "Pb", "Db"} == expected
    assert ("4b" in changed) == (heads != "descriptor"), "the encoder is trained with the detector"


def test_training_the_descriptor_head_alone_leaves_detections_as_they_are(tmp_path, labelled, tiny_weights, grey):
    run, found = tmp_path / "run", []

    def measure(path):
        found.append(weights.load(path).network)
        return {"score": 1.0}

    settings = dataclasses.replace(JOINT, heads="descriptor", average=0.5, measure_every=2)
    stages.train_joint(run, tiny_weights, *labelled, settings, always, measure)
    assert len(found) == 2 and (run / "best.safetensors").exists()
    image = torch.from_numpy(grey[:160, :200].copy())[None, None].float() / 255
    with torch.no_grad():
        expected, other = weights.load(tiny_weights).network(image), found[-1](image)
    torch.testing.assert_close(expected[0], other[0], atol=0.02, rtol=0.02)
    assert not torch.allclose(expected[1], other[1], atol=0.02, rtol=0.02)


def test_the_hinge_loss_has_no_foregrounds(tmp_path, labelled, tiny_weights):
    settings = dataclasses.replace(JOINT, occlusion=0.5, loss=JointLoss(descriptor="hinge"))
    with pytest.raises(ValueError, match=r"occlusion is 0.5, allowed with loss.descriptor hinge is 0"):
        stages.train_joint(tmp_path / "run", tiny_weights, *labelled, settings, always)


def test_the_order_of_components_is_that_of_the_last_stage(tmp_path, labelled, tiny_weights):
    images, labels = labelled
    steer, joint, again = (tmp_path / name for name in ("steer", "joint", "again"))
    config = SteerConfig(images=2, longer_side=160)
    assert stages.steer(steer, [tiny_weights], images, config, always)
    assert networks.read(steer).architecture.ordered
    stages.train_joint(joint, steer, images, labels, JOINT, always)
    assert not networks.read(joint).architecture.ordered, "training changes the components"
    assert stages.steer(again, [joint], images, config, always)
    first = networks.read(again).state_dict()["convDb.conv.weight"]
    assert stages.steer(again, [joint], images, config, always) is None
    stages.train_joint(joint, steer, images, labels, dataclasses.replace(JOINT, steps=6), always)
    assert stages.steer(again, [joint], images, config, always), "the network has been trained further"
    assert not torch.equal(first, networks.read(again).state_dict()["convDb.conv.weight"])


def test_a_run_of_a_version_without_a_setting_is_not_continued(tmp_path, labelled, tiny_weights):
    run = tmp_path / "run"
    stages.train_joint(run, tiny_weights, *labelled, JOINT, always)
    settings = yaml.safe_load((run / "config.yaml").read_text())
    del settings["heads"]
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(ValueError, match="started by a version without the setting heads: use another folder"):
        stages.train_joint(run, tiny_weights, *labelled, JOINT, always)


@pytest.mark.parametrize(
    ("create", "trained"),
    [
        (JointObjective, {f"conv{name}" for name in ENCODER + HEADS}),
        (DescriptorObjective, {"convDa", "convDb"}),
        (partial(UpperObjective, frozen=6), {"conv4a", "conv4b", "convPa", "convPb", "convDa", "convDb"}),
    ],
)
def test_a_step_of_joint_training_changes_every_layer_that_it_should_and_no_other(
    labelled, tiny_network, create, trained
):
    source = LabelledImages.read(*labelled, 160, always)
    config = JointConfig(batch=3, size=(64, 80))
    network = networks.create(tiny_network.architecture).requires_grad_(True)
    objective = create(network, (64, 80))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images, truth = objective.prepare(PairsDataset(source, config)[600])
    objective.module.train()
    objective.losses(objective.module(images), truth)["loss"].backward()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    changed = {
        name.split(".")[0] for name, value in network.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == trained


@pytest.mark.parametrize("frozen", [0, 4, 6, 8])
def test_pairs_of_earlier_steps_are_learnt_anew_from_what_the_frozen_layers_made_of_them(
    labelled, tiny_network, frozen
):
    """With 0, all but the descriptor head is frozen."""
    source = LabelledImages.read(*labelled, 160, always)
    network = networks.create(tiny_network.architecture)
    shared = {"loss": JointLoss(detections=9), "replay": 5, "capacity": 4}
    if frozen:
        objective = UpperObjective(network, (64, 80), **shared, frozen=frozen)
        lower, upper = ENCODER[:frozen], ENCODER[frozen:]
    else:
        objective = DescriptorObjective(network, (64, 80), **shared)
        lower, upper = ENCODER, ()
    trained = [*upper, "Pa", "Pb", "Da", "Db"] if frozen else ["Da", "Db"]
    dataset = PairsDataset(source, JointConfig(batch=2, size=(64, 80), occlusion=0.5))
    objective.module.train()
    encoded, places = [], []
    for step in range(4):
        images, truth = objective.prepare(dataset[step])
        logits, descriptors, where = objective.module(images)
        assert len(descriptors) == 2 * len(where) == (4 if step == 0 else 14)
        assert len(logits) == (len(descriptors) if frozen else 4), "a frozen detector is needed for new pairs alone"
        assert torch.isfinite(objective.losses((logits, descriptors, where), truth)["loss"])
        encoded.append(network.encode(images, lower).detach().unflatten(0, (-1, 2)))
        places.append(where)
        # Batch statistics are those of all pairs of the step, so the same layers are asked in evaluation.
        kept = [(s, i) for s in range(step + 1) for i in range(2)][-4:]
        of_place = {int(places[s][i]): encoded[s][i] for s, i in kept}
        for name in trained:
            network.get_submodule(f"conv{name}").eval()
        above = network.encode(torch.cat([of_place[int(place)] for place in where]), upper)
        objective.module._replay, rest = FixedPlaces(where), objective.module._replay
        again = objective.module(images)
        torch.testing.assert_close(again[1], network.describe(above), atol=2e-3, rtol=2e-3)
        if frozen:
            torch.testing.assert_close(again[0], network.detect(above), atol=2e-3, rtol=2e-3)
        objective.module._replay = rest
        objective.module.train()
    assert {int(place) for where in places for place in where[2:]} == {0, 1, 2, 3}


def test_earlier_pairs_are_learnt_with_their_own_labels_images_and_geometry(labelled, tiny_network):
    source = LabelledImages.read(*labelled, 160, always)
    network = networks.create(tiny_network.architecture).eval()
    loss = JointLoss(localisation=0.5, repetition=0.5, ramp=1)
    objective = UpperObjective(network, (64, 80), loss=loss, frozen=6, replay=2, capacity=2)
    dataset = PairsDataset(source, JointConfig(batch=1, size=(64, 80), occlusion=0.5))
    (early, before), (late, truth) = objective.prepare(dataset[3]), objective.prepare(dataset[4])
    objective.losses((*network(early), torch.tensor([0])), before)
    outputs = network(torch.cat((late, early)))
    found = objective.losses((*outputs, torch.tensor([1, 0])), truth)
    together = {name: torch.cat((truth[name], before[name])) for name in (*PAIR_KEYS, "points", "valid", "images")}
    expected = JointObjective(network, (64, 80), loss=loss).losses(outputs, {**truth, **together})
    assert set(found) == set(expected) == {"loss", "detector", "descriptor", "localisation", "repeated"}
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-3, rtol=1e-3)


class FixedPlaces:
    """Stands for the random choice."""

    def __init__(self, where):
        self.where = where

    def places(self, count):
        return self.where


def test_the_geometry_of_earlier_pairs_is_kept_with_them(labelled, tiny_network):
    source = LabelledImages.read(*labelled, 160, always)
    memory = Memory(3)
    dataset = PairsDataset(source, JointConfig(batch=2, size=(64, 80), occlusion=0.5))
    batches = [dataset[step] for step in range(2)]
    memory.exchange({"to_source": batches[0]["to_source"]}, torch.tensor([0, 1]))
    found = memory.exchange({"to_source": batches[1]["to_source"]}, torch.tensor([2, 0, 1, 1, 2]))["to_source"]
    new, old = batches[1]["to_source"], batches[0]["to_source"]
    torch.testing.assert_close(found, torch.stack((new[0], new[1], old[1], old[1], new[0])))
    assert set(PAIR_KEYS) <= batches[0].keys()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"replay": 3}, "replay is 3, allowed without frozen layers is 0"),
        ({"frozen": 9}, "frozen is 9, allowed is 0 to 8"),
        ({"replay": -1, "heads": "descriptor"}, "replay is -1, allowed is at least 0"),
        ({"replay_capacity": 1, "heads": "descriptor"}, "replay_capacity is 1, allowed is at least batch, 2"),
    ],
)
def test_a_replay_that_cannot_be_is_refused_in_one_sentence(tmp_path, labelled, tiny_weights, settings, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        stages.train_joint(tmp_path / "run", tiny_weights, *labelled, dataclasses.replace(JOINT, **settings), always)


@pytest.mark.parametrize(
    ("changes", "layer"), [({"heads": "descriptor"}, "convDb"), ({"frozen": 6}, "conv4a"), ({"frozen": 8}, "convPb")]
)
def test_training_with_replay_learns_and_resumes(tmp_path, labelled, tiny_weights, changes, layer):
    settings = dataclasses.replace(JOINT, **changes, replay=4, replay_capacity=6, average=0.5)
    run = tmp_path / "run"
    assert stages.train_joint(run, tiny_weights, *labelled, settings, always) == 4
    first = networks.read(run).state_dict()[f"{layer}.conv.weight"].clone()
    assert stages.train_joint(run, tiny_weights, *labelled, dataclasses.replace(settings, steps=8), always) == 8
    assert not torch.equal(first, networks.read(run).state_dict()[f"{layer}.conv.weight"])
