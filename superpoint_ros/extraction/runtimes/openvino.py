"""The network in OpenVINO, which is the fastest on x86 and Arm processors."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import openvino
import torch
from openvino import opset13 as ops
from torch import Tensor

from superpoint_ros.compute import openvino_models
from superpoint_ros.extraction.network import CELL, SuperPointNet
from superpoint_ros.extraction.runtimes import RuntimeChoiceError, cache, choose_precision
from superpoint_ros.extraction.runtimes.layers import Convolution, Layers, layers

_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


class OpenVINORuntime:
    """See `Runtime`. One compiled model serves every shape: on the processor fixed shapes are no faster.

    The heat map is computed in the graph, in float32 whatever the precision. The maps lie in OpenVINO's memory: the
    next call of the same thread overwrites them.
    """

    name = "openvino"

    def __init__(
        self,
        network: SuperPointNet,
        device: torch.device,
        precision: str = "auto",
        ranges: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        if device.type != "cpu":
            raise RuntimeChoiceError(f"runtime 'openvino' is for the device cpu, not for '{device}'")
        core = openvino.Core()
        abilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.device = device
        self.precision = choose_openvino_precision(precision, device, abilities)
        if self.precision == "int8" and not ranges:
            raise RuntimeChoiceError(
                "precision 'int8' needs weights that hold activation ranges, write such ones with: "
                "superpoint-ros weights calibrate"
            )
        # What int8 leaves over is computed in the machine's next best.
        rest = choose_openvino_precision("auto", device, abilities) if self.precision == "int8" else self.precision
        settings = openvino_models.settings(_HINTS[rest], torch.get_num_threads())
        compiled = _compiled(core, layers(network), settings, (ranges or {}) if self.precision == "int8" else {})
        self._run = openvino_models.Requests(compiled)

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        heat, descriptors = map(torch.from_numpy, self._run(images.numpy()))
        rows = images.shape[2] // CELL
        return heat.squeeze(1), descriptors.unflatten(1, (rows, -1)).permute(0, 3, 1, 2)


def choose_openvino_precision(name: str, device: torch.device, abilities: list[str]) -> str:
    """Return the precision called auto, float32, bfloat16, float16 or int8 on a processor that OpenVINO says computes
    natively in `abilities` (its OPTIMIZATION_CAPABILITIES).

    Raises:
        RuntimeChoiceError: if the precision is unknown or not to be had there.
    """
    native_half = "FP16" in abilities  # as vector units of Arm and AVX-512 FP16 do
    if name == "auto":
        chosen = choose_precision(name, device)
        return "float16" if chosen == "float32" and native_half else chosen
    if name == "int8" or (name == "float16" and native_half):
        return name
    return choose_precision(name, device)


def _compiled(core: Any, numbers: Layers, settings: dict[str, Any], ranges: Mapping[str, tuple[float, float]]) -> Any:
    convolutions = (*numbers.encoder, *numbers.detector, *numbers.descriptor)
    arrays = (array for c in convolutions for array in (c.weight, c.bias, c.scale, c.shift) if array is not None)
    processor = core.get_property("CPU", "FULL_DEVICE_NAME"), str(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    parts = (
        openvino.__version__,
        "descriptors by cell, as a product",
        *processor,
        repr((sorted(settings.items()), sorted(ranges.items()))),
        *(_bytes(array) for array in arrays),
    )
    name = f"openvino-{cache.key(parts)}.blob"
    if kept := cache.read(name):
        try:
            return core.import_model(io.BytesIO(kept), "CPU", settings)
        except RuntimeError:
            pass  # from another build of OpenVINO; it is written anew
    try:
        compiled = core.compile_model(model(numbers, ranges), "CPU", settings)
    except RuntimeError as error:
        hint = settings["INFERENCE_PRECISION_HINT"]
        raise RuntimeChoiceError(
            f"OpenVINO cannot run the network in {hint} on this processor, try precision float32 or runtime pytorch"
        ) from error
    cache.write(name, compiled.export_model().getvalue())
    return compiled


def _bytes(array: np.ndarray) -> bytes:
    return repr(array.shape).encode() + array.tobytes()


def model(numbers: Layers, ranges: Mapping[str, tuple[float, float]]) -> openvino.Model:
    """The network as an OpenVINO model: (B, 1, H, W) uint8 -> heat map (B, 1, H, W) and descriptors (B, H/8 * W/8, D).

    A cell's descriptor lies in one piece, as sampling reads it. Convolutions whose inputs' ranges are given are
    computed in 8 bits.

    It is built layer by layer: that takes milliseconds, where a conversion from PyTorch traces for seconds and reports
    its use to OpenVINO's makers.
    """
    images = ops.parameter([-1, 1, -1, -1], openvino.Type.u8, "images")
    encoded = ops.convert(images, "f32")
    for convolution in numbers.encoder:
        encoded = _layer(encoded, convolution, ranges)
    logits = encoded
    for convolution in numbers.detector:
        logits = _layer(logits, convolution, ranges)
    hidden, last = numbers.descriptor
    descriptors = _product(_layer(encoded, hidden, ranges), last, ranges)
    start, stop, step, axis = ([0], [CELL * CELL], [1], [1])
    probability = ops.slice(ops.softmax(logits, 1), *(ops.constant(value) for value in (start, stop, step, axis)))
    heat = ops.depth_to_space(probability, "blocks_first", CELL)
    return openvino.Model([ops.result(heat), ops.result(descriptors)], [images], "superpoint")


def _layer(x: Any, c: Convolution, ranges: Mapping[str, tuple[float, float]]) -> Any:
    pad = [c.weight.shape[-1] // 2] * 2
    x, weight = _operands(x, c.weight, ranges.get(c.name))
    x = _finished(ops.convolution(x, weight, [1, 1], pad, pad, [1, 1]), c, (1, -1, 1, 1))
    if c.pool:
        x = ops.max_pool(x, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2], "floor", "explicit").output(0)
    return x


def _product(x: Any, c: Convolution, ranges: Mapping[str, tuple[float, float]]) -> Any:
    """A last convolution of 1 x 1 as a matrix product, (B, C, H, W) -> (B, H * W, D): the transposed output of a
    convolution takes OpenVINO as long as the whole head."""
    x, weight = _operands(x, c.weight[:, :, 0, 0], ranges.get(c.name))
    x = ops.reshape(x, ops.constant(np.array([0, c.weight.shape[1], -1])), special_zero=True)
    return _finished(ops.matmul(ops.transpose(x, ops.constant([0, 2, 1])), weight, False, True), c, (-1,))


def _finished(x: Any, c: Convolution, channels: tuple[int, ...]) -> Any:
    """Sums of products with what follows them; `channels` is the shape in which numbers per channel are added."""
    x = ops.add(x, ops.constant(c.bias.reshape(channels)))
    if c.relu:
        x = ops.relu(x)
    if c.scale is not None and c.shift is not None:
        x = ops.multiply(x, ops.constant(c.scale.reshape(channels)))
        x = ops.add(x, ops.constant(c.shift.reshape(channels)))
    return x


def _operands(x: Any, weight: np.ndarray, limits: tuple[float, float] | None) -> tuple[Any, Any]:
    """A layer's input and weight; where the input's range is given both in 8 bits."""
    constant = ops.constant(np.ascontiguousarray(weight))
    if limits is None:
        return x, constant
    low, high = (np.float32(limit) for limit in limits)
    largest = np.maximum(np.abs(weight).max(axis=tuple(range(1, weight.ndim)), keepdims=True), np.float32(1e-12))
    return _in_steps(x, low, high, steps=256), _in_steps(constant, -largest, largest, steps=255)


def _in_steps(x: Any, low: Any, high: Any, steps: int) -> Any:
    bounds = [ops.constant(np.asarray(bound)) for bound in (low, high, low, high)]
    return ops.fake_quantize(x, *bounds, steps)
