"""Run the network in ONNX Runtime, in float32 on a CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from superpoint_ros.extraction.network import CELL, SuperPointNet
from superpoint_ros.extraction.runtimes import PRECISIONS, RuntimeChoiceError
from superpoint_ros.extraction.runtimes.layers import Convolution, Layers, layers

_OPSET = 17
_IR_VERSION = 8  # supported since ONNX Runtime 1.14


class ONNXRuntime:
    """A `Runtime` whose one session serves all shapes and any number of threads."""

    name = "onnxruntime"

    def __init__(self, network: SuperPointNet, device: torch.device, precision: str = "auto") -> None:
        if device.type != "cpu":
            raise RuntimeChoiceError(f"runtime 'onnxruntime' is for the device cpu here, not for '{device}'")
        if precision not in ("auto", "float32"):
            known = precision in PRECISIONS
            fault = "is not available with runtime 'onnxruntime'" if known else "is unknown"
            raise RuntimeChoiceError(f"precision '{precision}' {fault}, allowed is auto or float32")
        self.device = device
        self.precision = "float32"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        # Threads that spin until the next image would occupy a core each.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        model = graph(layers(network)).SerializeToString()
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        heat, descriptors = self._session.run(None, {"images": images.numpy()})
        return torch.from_numpy(heat).squeeze(1), torch.from_numpy(descriptors)


def graph(network_layers: Layers) -> Any:
    """Build an ONNX model: (B, 1, H, W) uint8 -> heat map (B, 1, H, W) and descriptors (B, D, H/8, W/8)."""
    nodes: list[Any] = []
    constants: list[Any] = []

    def constant(name: str, value: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(value, name))
        return name

    def add(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], output, **attributes))
        return output

    def layer(x: str, c: Convolution) -> str:
        name, pad = f"conv{c.name}", c.weight.shape[-1] // 2
        inputs = [x, constant(f"{name}.weight", c.weight), constant(f"{name}.bias", c.bias)]
        x = add("Conv", inputs, name, pads=[pad] * 4)
        if c.relu:
            x = add("Relu", [x], f"{name}.relu")
        if c.scale is not None and c.shift is not None:
            x = add("Mul", [x, constant(f"{name}.scale", c.scale.reshape(1, -1, 1, 1))], f"{name}.scaled")
            x = add("Add", [x, constant(f"{name}.shift", c.shift.reshape(1, -1, 1, 1))], f"{name}.shifted")
        return add("MaxPool", [x], f"{name}.pool", kernel_shape=[2, 2], strides=[2, 2]) if c.pool else x

    encoded = add("Cast", ["images"], "grey", to=TensorProto.FLOAT)
    for convolution in network_layers.encoder:
        encoded = layer(encoded, convolution)
    logits, descriptors = encoded, encoded
    for convolution in network_layers.detector:
        logits = layer(logits, convolution)
    for convolution in network_layers.descriptor:
        descriptors = layer(descriptors, convolution)
    bounds = [constant(f"bins.{i}", np.array([value], np.int64)) for i, value in enumerate((0, CELL * CELL, 1))]
    probability = add("Slice", [add("Softmax", [logits], "probability", axis=1), *bounds], "bins")
    heat = add("DepthToSpace", [probability], "heat", blocksize=CELL, mode="DCR")
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 1, "height", "width"])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in (heat, descriptors)]
    whole = helper.make_graph(nodes, "superpoint", [images], outputs, constants)
    return helper.make_model(whole, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
