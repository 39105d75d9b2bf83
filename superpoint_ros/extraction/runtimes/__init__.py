"""How the network is executed. A runtime turns uint8 images into heat maps and descriptor maps."""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from superpoint_ros.extraction.decoding import Decoding
from superpoint_ros.extraction.network import SuperPointNet
from superpoint_ros.features import Link

_log = logging.getLogger(__name__)

RUNTIMES = ("openvino", "onnxruntime", "pytorch", "cuda_graph", "cuda_graph_compiled")
"""Known runtimes. `auto` takes openvino on the processor where it is installed, and else pytorch."""

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "int8": torch.int8}


@dataclass(frozen=True)
class Extracted:
    """Features of a batch at a fixed number K of places; places with score 0 are unused.

    Attributes:
        keypoints, scores, descriptors: (B, K, 2), (B, K), (B, K, D), all float32.
        on_device: the descriptors on the device, where they are still there.
        links: for each image the matches with the batch before, where the runtime has them.
    """

    keypoints: NDArray[np.float32]
    scores: NDArray[np.float32]
    descriptors: NDArray[np.float32]
    on_device: Tensor | None = None
    links: Sequence[Link] | None = None


class Runtime(Protocol):
    """Executes one network on one device. Where decoding is part of it, there is also `extract`, as in `WholeRuntime`.

    Attributes:
        name: as the parameter `runtime` spells it.
        device: where inputs are taken to and outputs are left.
        precision: arithmetic of the convolutions, one of `PRECISIONS`.
    """

    name: str
    device: torch.device
    precision: str

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, H, W) uint8 on the device or the processor, sides multiples of 8 -> heat map (B, H, W) float32 and the
        network's descriptors (B, D, H/8, W/8). Both may be overwritten by the next call."""


@runtime_checkable
class WholeRuntime(Protocol):
    """A runtime that goes all the way to features."""

    def extract(self, images: Tensor, size: tuple[int, int], settings: Decoding) -> Extracted:
        """(B, 1, H, W) uint8 on the processor -> features of the first `size` (height, width) of it."""


class RuntimeChoiceError(ValueError):
    """A device, runtime or precision is unknown or not to be had here; one sentence for the user."""


def create(
    network: SuperPointNet,
    device: str = "auto",
    runtime: str = "auto",
    precision: str = "auto",
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> Runtime:
    """The runtime for these choices; `auto` takes the fastest that this machine has.

    `ranges` are those of `weights.Weights`, which the precision int8 needs.

    Raises:
        RuntimeChoiceError: if a choice is unknown or not available on this machine.
    """
    chosen = choose_device(device)
    runtime = choose_runtime(runtime, chosen)
    if runtime.startswith("cuda_graph"):
        if chosen.type != "cuda":
            raise RuntimeChoiceError(f"runtime '{runtime}' is for the device cuda, not for '{chosen}'")
        from superpoint_ros.extraction.runtimes.cuda_graph import CudaGraphRuntime

        return CudaGraphRuntime(network, chosen, precision, compiled=runtime == "cuda_graph_compiled")
    if runtime == "openvino":
        _require("openvino", "openvino")
        from superpoint_ros.extraction.runtimes.openvino import OpenVINORuntime

        return OpenVINORuntime(network, chosen, precision, ranges)
    if runtime == "onnxruntime":
        _require("onnxruntime", "onnx", "onnxruntime")
        from superpoint_ros.extraction.runtimes.onnxruntime import ONNXRuntime

        return ONNXRuntime(network, chosen, precision)
    from superpoint_ros.extraction.runtimes.pytorch import PyTorchRuntime

    return PyTorchRuntime(network, chosen, precision)


def _require(runtime: str, *packages: str) -> None:
    for package in packages:
        if not _installed(package):
            raise RuntimeChoiceError(
                f"runtime '{runtime}' needs the Python package {package}, "
                f"install it with: pip install 'superpoint_ros[{runtime}]'"
            )


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def choose_device(name: str) -> torch.device:
    """The device called auto, cpu, cuda or cuda:N.

    Raises:
        RuntimeChoiceError: if it is none of these, or not in this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise RuntimeChoiceError(f"device '{name}' is unknown, allowed is auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise RuntimeChoiceError(f"device '{name}' is not in this machine, PyTorch sees {count} CUDA devices")
    return device


def choose_runtime(name: str, device: torch.device) -> str:
    """The runtime called auto or one of `RUNTIMES`; `auto` takes the fastest that is installed for the device.

    Raises:
        RuntimeChoiceError: if it is none of these.
    """
    if name == "auto":
        if device.type != "cpu":
            return "pytorch"
        if _installed("openvino"):
            return "openvino"
        advise_openvino()
        return "pytorch"
    if name not in RUNTIMES:
        raise RuntimeChoiceError(f"runtime '{name}' is unknown, allowed is one of auto, {', '.join(RUNTIMES)}")
    return name


@functools.cache
def advise_openvino() -> None:
    """Log what the missing OpenVINO costs (see docs/performance.md), once in a process."""
    _log.warning(
        "OpenVINO is not installed: on this processor the network takes about twice as long without it, "
        "install it with: pip install openvino"
    )


def choose_precision(name: str, device: torch.device) -> str:
    """The precision called auto, float32, bfloat16 or float16; `auto` takes what the device computes natively."""
    if name == "auto":
        if device.type == "cuda":
            return "float16"
        return "bfloat16" if _native_bfloat16() else "float32"
    if name not in PRECISIONS:
        raise RuntimeChoiceError(f"precision '{name}' is unknown, allowed is one of auto, {', '.join(PRECISIONS)}")
    if name == "int8":
        raise RuntimeChoiceError("precision 'int8' is for the runtime openvino on the device cpu")
    if name == "float16" and device.type == "cpu":
        raise RuntimeChoiceError("precision 'float16' needs a CUDA device, allowed on cpu is auto, float32 or bfloat16")
    return name


def _native_bfloat16() -> bool:
    # Without native instructions bfloat16 is emulated, which is slower than float32. PyTorch asks the processor alone,
    # but oneDNN, which computes here and in OpenVINO, may have been told to do without some of its instructions.
    allowed = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper()
    if allowed not in ("ALL", "DEFAULT") and not any(name in allowed for name in ("BF16", "FP16", "AMX", "AVX10")):
        return False
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(probe() for name in probes if (probe := getattr(torch.cpu, name, None)) is not None)
