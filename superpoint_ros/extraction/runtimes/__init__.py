"""Runtimes execute the network: they turn uint8 images into heat maps and descriptor maps."""

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
"""Known runtimes. On a CPU `auto` selects openvino if it is installed, otherwise pytorch."""

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "int8": torch.int8}


@dataclass(frozen=True)
class ExtractedBatch:
    """Features of a batch, K entries per image; entries with score 0 are unused.

    Attributes:
        keypoints, scores, descriptors: (B, K, 2), (B, K), (B, K, D), all float32.
        on_device: the descriptors on the device, if they are still there.
        links: matches of each image with the previous batch, if the runtime computes them.
    """

    keypoints: NDArray[np.float32]
    scores: NDArray[np.float32]
    descriptors: NDArray[np.float32]
    on_device: Tensor | None = None
    links: Sequence[Link] | None = None


class Runtime(Protocol):
    """Executes one network on one device. If it includes decoding, it is also an `EndToEndRuntime`.

    Attributes:
        name: as the parameter `runtime` spells it.
        device: where inputs are copied to and outputs remain.
        precision: arithmetic of the convolutions, one of `PRECISIONS`.
    """

    name: str
    device: torch.device
    precision: str

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute heat maps (B, H, W) float32 and descriptors (B, D, H/8, W/8) of (B, 1, H, W) uint8 images.

        Images are on the device or in host memory, with sides that are multiples of 8. The next call may overwrite the
        results.
        """


@runtime_checkable
class EndToEndRuntime(Protocol):
    """A runtime that includes decoding."""

    def extract(
        self, images: Tensor, size: tuple[int, int], settings: Decoding, mask: Tensor | None = None
    ) -> ExtractedBatch:
        """Extract the features of (B, 1, H, W) uint8 images in host memory, padded beyond `size`.

        Args:
            mask: (B, *size) float32 in host memory, 0 for pixels without keypoints and 1 for the others.
        """


class RuntimeChoiceError(ValueError):
    """A device, runtime or precision is unknown or unavailable; the message is one sentence for the user."""


def create(
    network: SuperPointNet,
    device: str = "auto",
    runtime: str = "auto",
    precision: str = "auto",
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> Runtime:
    """Create a runtime; `auto` selects the fastest on this machine.

    `ranges` are those of `weights.Weights`, required by the precision int8.

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
        if not _is_installed(package):
            raise RuntimeChoiceError(
                f"runtime '{runtime}' needs the Python package {package}, "
                f"install it with: pip install 'superpoint_ros[{runtime}]'"
            )


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def choose_device(name: str) -> torch.device:
    """Return the device named auto, cpu, cuda or cuda:N.

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
    """Resolve a runtime, auto or one of `RUNTIMES`; `auto` selects the fastest installed one for the device.

    Raises:
        RuntimeChoiceError: if it is none of these.
    """
    if name == "auto":
        if device.type != "cpu":
            return "pytorch"
        if _is_installed("openvino"):
            return "openvino"
        warn_without_openvino()
        return "pytorch"
    if name not in RUNTIMES:
        raise RuntimeChoiceError(f"runtime '{name}' is unknown, allowed is one of auto, {', '.join(RUNTIMES)}")
    return name


@functools.cache
def warn_without_openvino() -> None:
    """Log, once per process, how much slower the network is without OpenVINO (see docs/performance.md)."""
    _log.warning(
        "OpenVINO is not installed: on this processor the network takes about twice as long without it, "
        "install it with: pip install openvino"
    )


def choose_precision(name: str, device: torch.device) -> str:
    """Resolve a precision: auto, float32, bfloat16 or float16; `auto` selects the fastest native one of the device."""
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
    # Emulated bfloat16 is slower than float32. PyTorch only queries the CPU, but oneDNN, which both PyTorch and
    # OpenVINO use, may be restricted to fewer instruction sets.
    allowed = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper()
    if allowed not in ("ALL", "DEFAULT") and not any(name in allowed for name in ("BF16", "FP16", "AMX", "AVX10")):
        return False
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(probe() for name in probes if (probe := getattr(torch.cpu, name, None)) is not None)
