"""Long training runs: increasing ranges, averaged weights, measurements on development images, several folders."""

from __future__ import annotations

import dataclasses
import json

import cv2
import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("lightning", reason="training needs the Python package lightning")

from superpoint_ros.extraction import weights
from superpoint_ros.training import loop, networks, recipe, stages
from superpoint_ros.training.average import Average
from superpoint_ros.training.best import Best
from superpoint_ros.training.config import JointConfig, NetworkSizes, ShapesConfig
from superpoint_ros.training.data import LabelledImages, PairsDataset, held_out_of
from superpoint_ros.training.homographies import Curriculum, HomographyRange
from superpoint_ros.training.labels import LabelConfig, label_folders
from superpoint_ros.training.objectives import JointLoss

TINY = NetworkSizes((8, 8, 8, 8, 16, 16, 16, 16), 32, 32, 24)
SHAPES = ShapesConfig(
    steps=6, batch=2, size=(48, 64), warmup=2, accelerator="cpu", precision="32-true", network=TINY, average=0.9
)
JOINT = JointConfig(
    steps=3, batch=2, size=(64, 80), longer_side=160, warmup=1, accelerator="cpu", precision="32-true",
    loss=JointLoss(correspondences=64, ramp=1),
)  # fmt: skip


def always(path):
    return True


@pytest.fixture
def folders(tmp_path, grey):
    """Two folders with images of the same names, and a folder for their labels."""
    found = [tmp_path / "indoor", tmp_path / "outdoor"]
    for k, folder in enumerate(found):
        folder.mkdir()
        for i in range(2):
            cv2.imwrite(str(folder / f"{i}.png"), grey[10 * i : 10 * i + 150, 40 * k : 40 * k + 200])
    return found, tmp_path / "labels"


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_bfloat16_is_computed_in_float32_if_the_cpu_would_emulate_it(monkeypatch, native, expected):
    monkeypatch.setattr(networks, "native_bfloat16", lambda device: native)
    assert loop.launch(loop.Execution(accelerator="cpu"))._precision.precision == expected
    assert loop.launch(loop.Execution(accelerator="cpu", precision="64-true"))._precision.precision == "64-true"


def test_an_average_follows_at_its_decay_and_faster_at_first():
    module = nn.BatchNorm1d(1)
    average = Average(module, decay=0.9)
    expected = 0.0
    for step in range(200):
        value = float(step % 7)
        module.running_mean.fill_(value)
        module.num_batches_tracked.fill_(step)
        average.follow(module, step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
        assert float(average.module.running_mean) == pytest.approx(expected, abs=1e-4)
    assert int(average.module.num_batches_tracked) == 199
    assert not any(parameter.requires_grad for parameter in average.module.parameters())


def test_a_run_with_an_average_returns_the_average_and_resumes_with_it(tmp_path):
    constant = dataclasses.replace(SHAPES, decay=0.0)
    stages.train_shapes(tmp_path / "whole", constant)
    stages.train_shapes(tmp_path / "parts", dataclasses.replace(constant, steps=2))
    stages.train_shapes(tmp_path / "parts", constant)
    whole, parts = (torch.load(tmp_path / n / "checkpoint.ckpt", weights_only=True) for n in ("whole", "parts"))
    name = "network.conv4a.conv.weight"
    torch.testing.assert_close(whole["average"][name], parts["average"][name], rtol=0, atol=0)
    assert not torch.equal(whole["average"][name], whole["model"][name])
    given = networks.read(tmp_path / "whole").state_dict()["conv4a.conv.weight"]
    assert torch.equal(given, whole["average"][name])


def test_ranges_increase_from_the_first_to_the_last_and_stay_there():
    first = HomographyRange(rotation=30, scale_min=0.5, perspective=0.1)
    grown = Curriculum(start=100, steps=200, rotation=180, scale_min=0.125)
    assert grown.ranges(first, 0) == grown.ranges(first, 100) == first
    middle = grown.ranges(first, 200)
    assert (middle.rotation, middle.scale_min) == (pytest.approx(105), pytest.approx(0.25))
    last = HomographyRange(rotation=180, scale_min=0.125, perspective=0.1)
    assert grown.ranges(first, 300) == grown.ranges(first, 10_000) == last
    assert Curriculum().ranges(first, 10_000) == first


def test_a_curriculum_rotates_later_views_further_with_scales_down_to_a_third():
    source = LabelledImages(torch.zeros(4, 1, 160, 160, dtype=torch.uint8), np.full((4, 2), 160),
                              torch.zeros(4, 3, 2), torch.zeros(4, 3, dtype=torch.bool))  # fmt: skip
    config = JointConfig(
        batch=200, size=(80, 80), close=0.5, ranges=HomographyRange(10, 0.9, perspective=0, shear=0),
        close_ranges=HomographyRange(5, 0.9, perspective=0, shear=0), curriculum=Curriculum(100, 100),
    )  # fmt: skip
    data = PairsDataset(source, config)

    def spread(step):
        maps = data[step]["to_source"]
        across = (torch.linalg.inv(maps[:, 1]) @ maps[:, 0])[:, :2, :2]
        angle = torch.atan2(across[:, 1, 0], across[:, 0, 0]).rad2deg().abs()
        return float((angle > 90).float().mean()), float(torch.linalg.det(across).sqrt().max())

    turned, scale = spread(0)
    assert turned == 0 and scale < 1.5
    turned, scale = spread(200)
    assert 0.4 < turned < 0.6
    assert 2.3 < scale < 4.5


def test_the_best_network_and_all_measurements_are_kept(tmp_path):
    curves = []

    class Record:
        def scalars(self, step, values):
            curves.append((step, values))

    scores = {10: 0.3, 20: 0.5, 30: 0.4}
    for step, score in scores.items():  # a new object each time, as after an interruption
        Best(tmp_path, lambda path, score=score: {"score": score, "size": path.stat().st_size}, Record())(
            step, networks.create(seed=step)
        )
    assert weights.metadata(tmp_path / "best.safetensors")["step"] == "20"
    lines = [json.loads(line) for line in (tmp_path / "development.jsonl").read_text().splitlines()]
    assert [(line["step"], line["score"]) for line in lines] == list(scores.items())
    assert curves[1][0] == 20 and curves[1][1]["development/score"] == 0.5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.safetensors", "development.jsonl"]


def test_a_joint_stage_measures_the_average_at_intervals(tmp_path, folders, tiny_weights):
    images, labels = folders
    stages.label(tiny_weights, images, labels, LabelConfig(warps=1, threshold=0.0), loop.launch(JOINT))
    seen = []

    def measure(path):
        seen.append(weights.load(path).network.state_dict()["conv1a.conv.weight"].clone())
        return {"score": len(seen)}

    settings = dataclasses.replace(JOINT, steps=5, measure_every=2, average=0.5, learning_rate=0.01)
    stages.train_joint(tmp_path / "run", tiny_weights, images, labels, settings, always, measure)
    assert len(seen) == 2 and not torch.equal(*seen)
    assert weights.metadata(tmp_path / "run" / "best.safetensors")["step"] == "4"
    # Settings that do not affect the result may change.
    again = dataclasses.replace(settings, steps=6, measure_every=0)
    assert stages.train_joint(tmp_path / "run", tiny_weights, images, labels, again, always, measure) == 6
    assert len(seen) == 2


def test_several_folders_are_labelled_and_read_together(folders, tiny_weights):
    images, labels = folders
    done = stages.label(tiny_weights, images, labels, LabelConfig(warps=1, threshold=0.0), loop.launch(JOINT))
    assert done == 4
    assert {path.relative_to(labels).as_posix() for path in labels.rglob("*.npy")} == {
        f"{folder}/{i}.png.npy" for folder in ("indoor", "outdoor") for i in range(2)
    }
    both = LabelledImages.read(images, labels, 160, always)
    assert len(both.sizes) == 4
    one = LabelledImages.read(images[1], labels / "outdoor", 160, always)
    assert torch.equal(both.images[2:], one.images) and torch.equal(both.points[2:], one.points)


def test_folders_of_the_same_name_are_rejected(tmp_path):
    with pytest.raises(ValueError, match="two folders 'same', allowed are folders of different names"):
        label_folders([tmp_path / "a" / "same", tmp_path / "b" / "same"], tmp_path)


def test_held_out_images_of_several_folders_are_those_of_each(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(120):
            (tmp_path / name / f"{i}.png").touch()
    each = [held_out_of(tmp_path / name) for name in ("a", "b")]
    assert held_out_of([tmp_path / "a", tmp_path / "b"]) == each[0] + each[1]
    assert 0 < len(each[0]) < 15


def test_a_recipe_accepts_several_folders_and_rejects_a_missing_one(tmp_path, folders):
    images, _ = folders
    stage = {"joint": {"kind": "joint", "start_from": "light", "labels": "l", "steps": 1}}
    change = {"images": [str(images[0]), str(tmp_path / "missing")], "out": str(tmp_path / "run"),
              "stages": {"l": {"kind": "label", "start_from": "light"}, **stage}}  # fmt: skip
    (tmp_path / "r.yaml").write_text("stages: {}\nimages: ''\nout: ''\n")
    with pytest.raises(ValueError, match="missing' is no folder"):
        recipe.run(recipe.read(tmp_path / "r.yaml", change))
