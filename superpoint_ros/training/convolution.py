"""Weight gradients of wide convolutions as matrix products, for processors where oneDNN's own kernel is slow.

With AVX2 alone, oneDNN computes the weight gradient of 64 -> 64 channels at 160 x 160 in channels-last order at a fifth
of the rate of the forward pass (measured: 13 against 71 GFLOP/s); nine matrix products take a third of that time.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEAST_CHANNELS, _LEAST_PIXELS = 64, 80 * 80


def worthwhile() -> bool:
    """Whether this processor has AVX2 and nothing wider."""
    return torch.backends.cpu.get_cpu_capability() == "AVX2"


class _Convolution(torch.autograd.Function):
    """3 x 3 convolution with padding 1; the same results as PyTorch's but for rounding."""

    @staticmethod
    def forward(context: Any, image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        context.save_for_backward(image, weight)
        return F.conv2d(image, weight, bias, padding=1)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        image, weight = context.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        to_image = None
        if context.needs_input_grad[0]:
            options = ([1, 1], [1, 1], [1, 1], False, [0, 0], 1)
            mask = [True, False, False]
            to_image = torch.ops.aten.convolution_backward(gradient, image, weight, None, *options, mask)[0]
        return to_image, weight_gradient(image, gradient), gradient.sum(dim=(0, 2, 3))


def weight_gradient(image: Tensor, gradient: Tensor) -> Tensor:
    """Gradient (O, I, 3, 3) of a 3 x 3 convolution's weights, from its input (B, I, H, W) and that of its output
    (B, O, H, W)."""
    width = image.shape[3] + 2
    # In rows of one width, with zeros at the margins, each shift of the kernel is a shift of the whole table.
    inputs = F.pad(image.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1)).flatten(0, 2)
    outputs = F.pad(gradient.permute(0, 2, 3, 1), (0, 0, 0, 2, 0, 2)).flatten(0, 2)
    count = len(inputs)
    result = torch.empty(3, 3, gradient.shape[1], image.shape[1])
    for row in range(3):
        for column in range(3):
            shift = row * width + column
            torch.mm(outputs[: count - shift].T, inputs[shift:], out=result[row, column])
    return result.permute(2, 3, 0, 1)


class _WideConv2d(nn.Conv2d):
    def forward(self, image: Tensor) -> Tensor:
        large = image.shape[2] * image.shape[3] >= _LEAST_PIXELS
        plain = image.dtype == torch.float32 and image.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
        if not (large and plain and self.training):
            return super().forward(image)
        assert self.bias is not None
        return _Convolution.apply(image, self.weight, self.bias)


def quicken(network: nn.Module) -> None:
    """Let the wide 3 x 3 convolutions of a network compute their weight gradients so; nothing else changes."""
    for parent in list(network.modules()):
        for name, module in list(parent.named_children()):
            if type(module) is not nn.Conv2d or module.kernel_size != (3, 3) or module.padding != (1, 1):
                continue
            if min(module.in_channels, module.out_channels) < _LEAST_CHANNELS:
                continue
            wide = _WideConv2d(module.in_channels, module.out_channels, 3, padding=1)
            wide.weight, wide.bias = module.weight, module.bias
            setattr(parent, name, wide)
