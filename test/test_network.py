"""The network: its shapes, its layers, and folding batch normalisation away."""

from __future__ import annotations

import pytest
import torch

from superpoint_ros.extraction.network import CELL, Architecture, SuperPointNet, fold_batch_norm

LAYERS = ["conv1a", "conv1b", "conv2a", "conv2b", "conv3a", "conv3b", "conv4a", "conv4b",
          "convPa", "convPb", "convDa", "convDb"]  # fmt: skip
WIDTHS = {"encoder": (4, 5, 6, 7, 8, 9, 10, 11), "detector": 12, "descriptor": 13, "descriptor_size": 14}


def test_the_papers_network_has_the_papers_layers_and_parameter_count():
    network = SuperPointNet()
    assert [name for name, _ in network.named_children() if name.startswith("conv")] == LAYERS
    # Weights and biases of table 1 of the paper's network, counted by hand from its layer sizes.
    encoder = [(1, 64), (64, 64), (64, 64), (64, 64), (64, 128), (128, 128), (128, 128), (128, 128)]
    expected = sum(9 * i * o + o for i, o in [*encoder, (128, 256), (128, 256)]) + 257 * 65 + 257 * 256
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


@pytest.mark.parametrize("size", [(16, 16), (24, 40), (120, 160)])
def test_both_heads_give_one_vector_per_cell(size):
    network = SuperPointNet(Architecture(**WIDTHS)).eval()
    height, width = size
    logits, descriptors = network(torch.rand(2, 1, height, width))
    assert logits.shape == (2, 65, height // CELL, width // CELL)
    assert descriptors.shape == (2, 14, height // CELL, width // CELL)


def test_the_three_ways_to_run_the_network_agree(tiny_network):
    image = torch.rand(1, 1, 32, 48)
    with torch.inference_mode():
        logits, descriptors = tiny_network(image)
        encoded = tiny_network.encode(image)
        assert torch.equal(tiny_network.detect(encoded), logits)
        assert torch.equal(tiny_network.describe(encoded), descriptors)


@pytest.mark.parametrize(
    ("norm", "normalised"),
    [
        ("none", set()),
        ("before_relu", set(LAYERS) - {"convPb", "convDb"}),
        ("after_relu", set(LAYERS)),
    ],
)
def test_every_norm_is_at_the_position_of_its_name(norm, normalised):
    network = SuperPointNet(Architecture(**WIDTHS, norm=norm))
    names = set(network.state_dict())
    assert {layer for layer in LAYERS if f"{layer}.norm.running_var" in names} == normalised
    assert {f"{layer}.conv.weight" for layer in LAYERS} <= names


def test_each_kind_of_norm_computes_in_its_own_order(randomised):
    x = torch.rand(1, 1, 16, 16) - 0.5
    for norm in ("before_relu", "after_relu"):
        layer = randomised(SuperPointNet(Architecture(**WIDTHS, norm=norm))).conv1a
        bn = layer.norm

        def normalise(y, bn=bn):
            shape = (1, -1, 1, 1)
            scaled = (y - bn.running_mean.view(shape)) / torch.sqrt(bn.running_var.view(shape) + 1e-3)
            return scaled * bn.weight.view(shape) + bn.bias.view(shape)

        with torch.inference_mode():
            y = torch.nn.functional.conv2d(x, layer.conv.weight, layer.conv.bias, padding=1)
            expected = normalise(y).clamp_min(0) if norm == "before_relu" else normalise(y.clamp_min(0))
            assert torch.allclose(layer(x), expected, atol=1e-5)


def test_folding_batch_norm_before_the_relu_is_exact(randomised):
    network = randomised(SuperPointNet(Architecture(**WIDTHS, norm="before_relu")), seed=5)
    plain = fold_batch_norm(network)
    assert plain.architecture == Architecture(**WIDTHS)
    assert not any("norm" in name for name in plain.state_dict())
    with torch.inference_mode():
        image = torch.rand(1, 1, 64, 80)
        for mine, theirs in zip(plain(image), network(image), strict=True):
            assert theirs.std() > 0.1  # the comparison is not trivial
            assert torch.allclose(mine, theirs, atol=1e-5, rtol=1e-5)


def test_folding_does_not_modify_the_original(randomised):
    network = randomised(SuperPointNet(Architecture(**WIDTHS, norm="before_relu")))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    fold_batch_norm(network)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_folding_is_rejected_if_the_norm_follows_the_relu():
    with pytest.raises(ValueError, match="after the ReLU cannot be folded"):
        fold_batch_norm(SuperPointNet(Architecture(**WIDTHS, norm="after_relu")))
