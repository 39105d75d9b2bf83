"""Weights files: every supported layout, and errors for everything else."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from superpoint_ros.extraction import weights
from superpoint_ros.extraction.network import Architecture, SuperPointNet
from superpoint_ros.extraction.weights import WeightsError

WIDTHS = {"encoder": (4, 4, 6, 6, 8, 8, 8, 8), "detector": 12, "descriptor": 10, "descriptor_size": 16}
MAGIC_LEAP = [f"conv{name}.{kind}" for name in ("1a", "1b", "2a", "2b", "3a", "3b", "4a", "4b", "Pa", "Pb", "Da", "Db")
              for kind in ("weight", "bias")]  # fmt: skip


def outputs(network, size=(40, 56), channels=1):
    random = torch.Generator().manual_seed(1)
    with torch.inference_mode():
        return network.eval()(torch.rand(1, channels, *size, generator=random))


def assert_alike(first, second, tolerance):
    for a, b in zip(first, second, strict=True):
        assert b.std() > 0.05  # the comparison is not trivial
        assert torch.allclose(a, b, atol=tolerance, rtol=tolerance), float((a - b).abs().max())


def refusal(path):
    """Return the error message for a file."""
    with pytest.raises(WeightsError) as caught:
        weights.load(path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text and ". " not in text.replace(str(path), "") and len(text) < 1000
    return text


@pytest.mark.parametrize("norm", ["none", "before_relu", "after_relu"])
def test_a_saved_network_has_the_same_outputs(tmp_path, randomised, norm):
    network = randomised(SuperPointNet(Architecture(**WIDTHS, norm=norm)))
    path = tmp_path / "mine.safetensors"
    weights.save(network, path)
    loaded = weights.load(path)
    # Files hold float16, which has 11 bits.
    assert_alike(outputs(loaded.network), outputs(network), 2e-2)
    assert loaded.network.architecture.norm == ("after_relu" if norm == "after_relu" else "none")
    assert next(loaded.network.parameters()).dtype == torch.float32
    assert not loaded.network.training


def test_saving_twice_loses_no_further_precision(tmp_path, randomised):
    weights.save(randomised(SuperPointNet(Architecture(**WIDTHS))), tmp_path / "a.safetensors")
    first = weights.load(tmp_path / "a.safetensors")
    weights.save(first.network, tmp_path / "b.safetensors")
    assert_alike(outputs(weights.load(tmp_path / "b.safetensors").network), outputs(first.network), 0)


def test_a_file_is_identified_by_name_checksum_and_metadata(tmp_path, tiny_network):
    path = tmp_path / "harbour.safetensors"
    weights.save(tiny_network, path, {"steps": "123"})
    loaded, digest = weights.load(str(path)), hashlib.sha256(path.read_bytes()).hexdigest()
    assert (loaded.name, loaded.sha256, loaded.layout) == ("harbour", digest, "superpoint")
    assert loaded.label == f"harbour:{digest[:12]}"
    assert weights.metadata(path)["steps"] == "123"
    assert [entry.name for entry in tmp_path.iterdir()] == ["harbour.safetensors"]


def test_the_default_weights_are_the_papers_network():
    loaded = weights.load("default")
    assert loaded.label.startswith("default:")
    assert loaded.network.architecture == Architecture(ordered=True)


def test_magic_leaps_file_is_read_unchanged(tmp_path, randomised):
    source = randomised(SuperPointNet())
    state = {name.replace(".conv.", "."): tensor for name, tensor in source.state_dict().items()}
    assert list(state) == MAGIC_LEAP  # the names in superpoint_v1.pth
    torch.save(state, tmp_path / "superpoint_v1.pth")
    loaded = weights.load(tmp_path / "superpoint_v1.pth")
    assert loaded.name == "superpoint_v1"
    assert_alike(outputs(loaded.network), outputs(source), 0)


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict"])
def test_a_state_dict_inside_a_checkpoint_is_found(tmp_path, randomised, key):
    source = randomised(SuperPointNet(Architecture(**WIDTHS)))
    state = {f"module.{name.replace('.conv.', '.')}": tensor for name, tensor in source.state_dict().items()}
    torch.save({"epoch": 3, key: state}, tmp_path / "checkpoint.pth")
    assert_alike(outputs(weights.load(tmp_path / "checkpoint.pth").network), outputs(source), 0)


def _block(inputs, outputs, kernel, relu=True):
    parts = OrderedDict(conv=nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2))
    parts["activation"] = nn.ReLU() if relu else nn.Identity()
    parts["bn"] = nn.BatchNorm2d(outputs, eps=1e-3)
    return nn.Sequential(parts)


class RpautratsNetwork(nn.Module):
    """The structure of rpautrat's PyTorch port, implemented independently of this package."""

    def __init__(self, channels=(64, 64, 128, 128, 256), descriptor_size=256):
        super().__init__()
        widths, backbone = [1, *channels[:-1]], []
        for index in range(4):
            layers = [
                _block(widths[index], widths[index + 1], 3),
                _block(widths[index + 1], widths[index + 1], 3),
            ]
            backbone.append(nn.Sequential(*layers, *([nn.MaxPool2d(2, 2)] if index < 3 else [])))
        self.backbone = nn.Sequential(*backbone)
        last, head = channels[-2:]
        self.detector = nn.Sequential(_block(last, head, 3), _block(head, 65, 1, relu=False))
        self.descriptor = nn.Sequential(_block(last, head, 3), _block(head, descriptor_size, 1, relu=False))

    def forward(self, image):
        encoded = self.backbone(image)
        return self.detector(encoded), self.descriptor(encoded)


def test_rpautrats_file_has_rpautrats_outputs(tmp_path, randomised):
    source = randomised(RpautratsNetwork(), seed=2)
    torch.save(source.state_dict(), tmp_path / "superpoint_v6_from_tf.pth")
    loaded = weights.load(tmp_path / "superpoint_v6_from_tf.pth")
    assert loaded.layout == "rpautrat" and loaded.network.architecture.norm == "after_relu"
    assert_alike(outputs(loaded.network), outputs(source), 1e-4)


def test_a_transformers_folder_has_transformers_outputs(tmp_path, randomised):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    source = randomised(transformers.SuperPointForKeypointDetection(transformers.SuperPointConfig()))
    source.save_pretrained(tmp_path / "superpoint-folder")
    loaded = weights.load(tmp_path / "superpoint-folder")
    assert (loaded.name, loaded.layout) == ("superpoint-folder", "transformers")
    random = torch.Generator().manual_seed(1)
    image = torch.rand(1, 1, 40, 56, generator=random)
    with torch.inference_mode():
        encoded = source.encoder(image).last_hidden_state
        scores, descriptors = source.keypoint_decoder, source.descriptor_decoder
        logits = scores.conv_score_b(scores.conv_score_a(encoded).relu())
        described = descriptors.conv_descriptor_b(descriptors.conv_descriptor_a(encoded).relu())
    assert_alike(outputs(loaded.network), (logits, described), 1e-4)


class Payload:
    """Executes a command when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch '{self.marker}'",)


@pytest.mark.parametrize("form", ["pickle", "zip", "inside a table"])
def test_code_in_a_file_is_rejected_and_never_executed(tmp_path, form):
    marker, buffer = tmp_path / "executed", io.BytesIO()
    if form == "zip":
        torch.save({"conv1a.weight": Payload(marker)}, buffer)
    else:
        payload = Payload(marker)
        pickle.dump(payload if form == "pickle" else {"conv1a.weight": payload}, buffer, protocol=2)
    path = tmp_path / "evil.pth"
    path.write_bytes(buffer.getvalue())
    sentence = refusal(path)
    assert "weights_only" not in sentence  # no advice to execute it
    assert not marker.exists()
    pickle.loads(buffer.getvalue()) if form != "zip" else torch.load(path, weights_only=False)
    assert marker.exists()  # the payload works


def test_a_missing_file_is_named(tmp_path):
    assert "default" in refusal(tmp_path / "missing.pth")  # and the known keys


def test_an_unknown_name_is_rejected_with_the_known_ones():
    assert "default" in refusal("imaginary")


def test_a_folder_without_weights_is_named(tmp_path):
    assert "model.safetensors" in refusal(tmp_path)


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "content",
    [b"", b"hello, this is a text\nof two lines", b"<!DOCTYPE html>", b"PK\x03\x04 cut short", b"\x80\x02.", b"}q."],
    ids=["nothing", "text", "html", "half a zip", "empty pickle", "broken pickle"],
)
def test_a_file_of_another_kind_is_rejected(tmp_path, content, ending):
    path = tmp_path / f"text{ending}"
    path.write_bytes(content)
    assert "cannot be read" in refusal(path)


def test_any_malformed_file_is_an_error_of_one_sentence(tmp_path):
    random = np.random.default_rng(0)
    path = tmp_path / "noise.pth"
    for length in range(1, 120):
        path.write_bytes(random.bytes(length))
        refusal(path)


def test_a_table_without_tensors_is_rejected(tmp_path):
    save_file({}, tmp_path / "empty.safetensors")
    assert "no SuperPoint network" in refusal(tmp_path / "empty.safetensors")
    for name, value in {
        "list": [torch.zeros(1)],
        "numbers": {"conv1a.weight": 3},
        "integers": {0: torch.zeros(1)},
    }.items():
        torch.save(value, tmp_path / f"{name}.pth")
        assert "no table of tensors" in refusal(tmp_path / f"{name}.pth")


@pytest.fixture
def state(randomised):
    network = randomised(SuperPointNet(Architecture(**WIDTHS)))
    return {name.replace(".conv.", "."): tensor.clone() for name, tensor in network.state_dict().items()}


def test_tensors_of_the_wrong_shape_are_rejected_by_name(tmp_path, state):
    state["conv3a.weight"] = state["conv3a.weight"][:, :2].contiguous()
    save_file(state, tmp_path / "shape.safetensors")
    assert "conv3a" in refusal(tmp_path / "shape.safetensors")


def test_a_detector_without_65_bins_is_rejected(tmp_path, state):
    state["convPb.weight"], state["convPb.bias"] = (
        state["convPb.weight"][:64].clone(),
        state["convPb.bias"][:64].clone(),
    )
    save_file(state, tmp_path / "bins.safetensors")
    assert "convPb" in refusal(tmp_path / "bins.safetensors")


@pytest.mark.parametrize("layer", ["conv2b.weight", "convDb.weight", "conv4a.bias"])
def test_a_missing_layer_is_named(tmp_path, state, layer):
    del state[layer]
    save_file(state, tmp_path / "missing.safetensors")
    assert layer.split(".")[0] in refusal(tmp_path / "missing.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_numbers_are_rejected(tmp_path, state, value):
    state["conv4b.weight"][0, 0, 0, 0] = value
    save_file(state, tmp_path / "nan.safetensors")
    assert "not finite" in refusal(tmp_path / "nan.safetensors")
