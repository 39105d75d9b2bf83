"""Run the network in OpenVINO, the fastest runtime on x86 and Arm CPUs."""

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
    """A `Runtime` whose one compiled model serves all shapes: on a CPU static shapes are no faster.

    The heat map is computed in the graph, in float32 whatever the precision. The maps are views of OpenVINO's memory:
    the next call from the same thread overwrites them.
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
        capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.device = device
        self.precision = choose_openvino_precision(precision, device, capabilities)
        if self.precision == "int8" and not ranges:
            raise RuntimeChoiceError(
                "precision 'int8' needs weights with activation ranges, create them with: "
                "superpoint-ros weights calibrate"
            )
        # Layers that are not quantised use the best other precision.
        rest = choose_openvino_precision("auto", device, capabilities) if self.precision == "int8" else self.precision
        settings = openvino_models.settings(_HINTS[rest], torch.get_num_threads())
        compiled = _compile(core, layers(network), settings, (ranges or {}) if self.precision == "int8" else {})
        self._run = openvino_models.Requests(compiled)

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        heat, descriptors = map(torch.from_numpy, self._run(images.numpy()))
        rows = images.shape[2] // CELL
        return heat.squeeze(1), descriptors.unflatten(1, (rows, -1)).permute(0, 3, 1, 2)


def choose_openvino_precision(name: str, device: torch.device, capabilities: list[str]) -> str:
    """Resolve a precision: auto, float32, bfloat16, float16 or int8, on a CPU with these OPTIMIZATION_CAPABILITIES.

    Raises:
        RuntimeChoiceError: if the precision is unknown or unavailable.
    """
    native_half = "FP16" in capabilities  # on Arm and with AVX-512 FP16
    if name == "auto":
        chosen = choose_precision(name, device)
        return "float16" if chosen == "float32" and native_half else chosen
    if name == "int8" or (name == "float16" and native_half):
        return name
    return choose_precision(name, device)


def _compile(
    core: Any, network_layers: Layers, settings: dict[str, Any], ranges: Mapping[str, tuple[float, float]]
) -> Any:
    convolutions = (*network_layers.encoder, *network_layers.detector, *network_layers.descriptor)
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
            pass  # from another build of OpenVINO; it is overwritten
    try:
        compiled = core.compile_model(model(network_layers, ranges), "CPU", settings)
    except RuntimeError as error:
        hint = settings["INFERENCE_PRECISION_HINT"]
        raise RuntimeChoiceError(
            f"OpenVINO cannot run the network in {hint} on this processor, try precision float32 or runtime pytorch"
        ) from error
    cache.write(name, compiled.export_model().getvalue())
    return compiled


def _bytes(array: np.ndarray) -> bytes:
    return repr(array.shape).encode() + array.tobytes()


def model(network_layers: Layers, ranges: Mapping[str, tuple[float, float]]) -> openvino.Model:
    """Build an OpenVINO model: (B, 1, H, W) uint8 -> heat map (B, 1, H, W) and descriptors (B, H/8 * W/8, D).

    A cell's descriptor is contiguous, as sampling reads it. Convolutions with given input ranges are quantised.

    It is built layer by layer: that takes milliseconds, whereas a conversion from PyTorch traces for seconds and sends
    telemetry.
    """
    images = ops.parameter([-1, 1, -1, -1], openvino.Type.u8, "images")
    encoded = ops.convert(images, "f32")
    for convolution in network_layers.encoder:
        encoded = _layer(encoded, convolution, ranges)
    logits = encoded
    for convolution in network_layers.detector:
        logits = _layer(logits, convolution, ranges)
    hidden, last = network_layers.descriptor
    descriptors = _matmul_layer(_layer(encoded, hidden, ranges), last, ranges)
    start, stop, step, axis = ([0], [CELL * CELL], [1], [1])
    probability = ops.slice(ops.softmax(logits, 1), *(ops.constant(value) for value in (start, stop, step, axis)))
    heat = ops.depth_to_space(probability, "blocks_first", CELL)
    return openvino.Model([ops.result(heat), ops.result(descriptors)], [images], "superpoint")


def _layer(x: Any, c: Convolution, ranges: Mapping[str, tuple[float, float]]) -> Any:
    pad = [c.weight.shape[-1] // 2] * 2
    x, weight = _operands(x, c.weight, ranges.get(c.name))
    x = _add_epilogue(ops.convolution(x, weight, [1, 1], pad, pad, [1, 1]), c, (1, -1, 1, 1))
    if c.pool:
        x = ops.max_pool(x, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2], "floor", "explicit").output(0)
    return x


def _matmul_layer(x: Any, c: Convolution, ranges: Mapping[str, tuple[float, float]]) -> Any:
    """Compute a final 1 x 1 convolution as a matrix product, (B, C, H, W) -> (B, H * W, D).

    Transposing a convolution's output takes OpenVINO as long as the whole head.
    """
    x, weight = _operands(x, c.weight[:, :, 0, 0], ranges.get(c.name))
    x = ops.reshape(x, ops.constant(np.array([0, c.weight.shape[1], -1])), special_zero=True)
    return _add_epilogue(ops.matmul(ops.transpose(x, ops.constant([0, 2, 1])), weight, False, True), c, (-1,))


def _add_epilogue(x: Any, c: Convolution, channels: tuple[int, ...]) -> Any:
    """Append bias, ReLU, scale and shift; `channels` is the broadcast shape of per-channel values."""
    x = ops.add(x, ops.constant(c.bias.reshape(channels)))
    if c.relu:
        x = ops.relu(x)
    if c.scale is not None and c.shift is not None:
        x = ops.multiply(x, ops.constant(c.scale.reshape(channels)))
        x = ops.add(x, ops.constant(c.shift.reshape(channels)))
    return x


def _operands(x: Any, weight: np.ndarray, limits: tuple[float, float] | None) -> tuple[Any, Any]:
    """Return a layer's input and weight, both quantised to 8 bits if the input's range is given."""
    constant = ops.constant(np.ascontiguousarray(weight))
    if limits is None:
        return x, constant
    low, high = (np.float32(limit) for limit in limits)
    largest = np.maximum(np.abs(weight).max(axis=tuple(range(1, weight.ndim)), keepdims=True), np.float32(1e-12))
    return _quantise(x, low, high, steps=256), _quantise(constant, -largest, largest, steps=255)


def _quantise(x: Any, low: Any, high: Any, steps: int) -> Any:
    bounds = [ops.constant(np.asarray(bound)) for bound in (low, high, low, high)]
    return ops.fake_quantize(x, *bounds, steps)
