"""Weight gradients as matrix products, equal to PyTorch's."""

from __future__ import annotations

import copy

import pytest
import torch

pytest.importorskip("lightning", reason="training needs the Python package lightning")

from superpoint_ros.extraction.network import Architecture, SuperPointNet
from superpoint_ros.training import convolution


def test_the_weight_gradient_is_that_of_pytorch():
    generator = torch.Generator().manual_seed(0)
    image, gradient = (torch.randn(2, c, 13, 9, generator=generator, dtype=torch.float32) for c in (5, 7))
    weight = torch.zeros(7, 5, 3, 3)
    expected = torch.ops.aten.convolution_backward(
        gradient, image, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [False, True, False]
    )[1]
    torch.testing.assert_close(convolution.weight_gradient(image, gradient), expected, rtol=1e-4, atol=1e-4)


def test_an_accelerated_network_has_the_same_outputs_gradients_and_names(monkeypatch):
    monkeypatch.setattr(convolution, "_LEAST_PIXELS", 16)
    used = []
    real = convolution.weight_gradient
    monkeypatch.setattr(convolution, "weight_gradient", lambda *a: used.append(1) or real(*a))
    torch.manual_seed(1)
    plain = SuperPointNet(Architecture((8, 64, 64, 64, 64, 64, 64, 64), 64, 64, 64, "before_relu"))
    quick = copy.deepcopy(plain)
    convolution.quicken(quick)
    assert list(quick.state_dict()) == list(plain.state_dict())
    image = torch.rand(2, 1, 32, 40)
    for network in (plain, quick):
        network.train().to(memory_format=torch.channels_last)
        sum(output.square().mean() for output in network(image)).backward()
    assert len(used) == 8  # all but the first two of the encoder, and both heads
    for (name, ours), theirs in zip(quick.named_parameters(), plain.parameters(), strict=True):
        if name.endswith("conv.bias") and "b.conv" not in name[4:]:
            continue  # before a normalisation: nothing but rounding
        scale = float(theirs.grad.abs().max())
        assert float((ours.grad - theirs.grad).abs().max()) <= 2e-3 * scale + 1e-6, name
    before = len(used)
    with torch.no_grad():
        for ours, theirs in zip(quick.eval()(image), plain.eval()(image), strict=True):
            torch.testing.assert_close(ours, theirs)
    assert len(used) == before
