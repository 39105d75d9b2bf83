"""Export weights as models for other programs: image in, features out, with decoding inside the graph.

Input `images` is (B, 1, H, W) grey uint8. Outputs are `keypoints` (B, K, 2) float32 as (x, y) in pixels, `scores` (B,
K) float32 descending, `descriptors` (B, K, D) float32 of unit length, and `count` (B,) int64: only the first `count`
entries of each image are used. B, H, W and K are fixed.
"""

from __future__ import annotations

import inspect
import os
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from superpoint_ros.extraction.decoding import Decoding
from superpoint_ros.extraction.fixed import FixedExtractor
from superpoint_ros.extraction.network import SuperPointNet

NAMES = ("keypoints", "scores", "descriptors", "count")

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torchscript": ".pt", "tensorrt": ".ts"}
"""File suffixes by format. OpenVINO writes a second file next to it, with suffix .bin."""

_OPSET = 17
_MIN_SIDE = 16


class ExportError(ValueError):
    """An export is impossible; the message is one sentence for the user."""


@dataclass(frozen=True)
class Shape:
    """The fixed sizes and settings of an exported model.

    Attributes:
        height, width: of the images, in pixels.
        batch: number of images per call.
        decoding: how keypoints are selected.
    """

    height: int = 480
    width: int = 640
    batch: int = 1
    decoding: Decoding = field(default_factory=Decoding)


def export(network: SuperPointNet, out: str | Path, to: str, shape: Shape | None = None) -> None:
    """Write a network in one of the formats of `SUFFIXES`, atomically.

    Raises:
        ExportError: if the format is unknown or needs a missing package or device, the file has the wrong suffix, or
            a size is too small.
    """
    shape, out = shape or Shape(), Path(out)
    _check(out, to, shape)
    module = FixedExtractor(network, shape.decoding, (shape.height, shape.width)).eval()
    example = torch.zeros(shape.batch, 1, shape.height, shape.width, dtype=torch.uint8)
    write: dict[str, Callable[[FixedExtractor, torch.Tensor, Path], None]] = {
        "onnx": _onnx,
        "openvino": _openvino,
        "torchscript": _torchscript,
        "tensorrt": _tensorrt,
    }
    with tempfile.TemporaryDirectory(dir=out.absolute().parent, prefix=".export-") as folder, torch.no_grad():
        partial = Path(folder) / out.name
        write[to](module, example, partial)
        # Move the file that refers to the others last.
        for path in sorted(Path(folder).iterdir(), key=lambda path: path == partial):
            os.replace(path, out.absolute().with_name(path.name))


def _check(out: Path, to: str, shape: Shape) -> None:
    if to not in SUFFIXES:
        raise ExportError(f"format '{to}' is unknown, allowed is one of {', '.join(SUFFIXES)}")
    if out.suffix != SUFFIXES[to]:
        raise ExportError(f"output '{out}' is not allowed, for {to} its name must end in {SUFFIXES[to]}")
    if not out.absolute().parent.is_dir():
        raise ExportError(f"output '{out}' is not allowed, there is no folder '{out.parent}'")
    limits = {"height": _MIN_SIDE, "width": _MIN_SIDE, "batch": 1}
    for name, least in limits.items():
        if getattr(shape, name) < least:
            raise ExportError(f"{name} is {getattr(shape, name)}, allowed is {least} or more")
    if shape.decoding.max_keypoints < 1:
        raise ExportError(f"max_keypoints is {shape.decoding.max_keypoints}, allowed is 1 or more")


def _torchscript(module: FixedExtractor, example: torch.Tensor, path: Path) -> None:
    with _without_warnings():
        traced = torch.jit.trace(module, (example,), check_trace=False)
        torch.jit.save(torch.jit.freeze(traced), str(path))


def _onnx(module: FixedExtractor, example: torch.Tensor, path: Path) -> None:
    _require("onnx", "onnxruntime")
    # The tracing exporter needs no package but onnx, and every PyTorch since 2.1 has it.
    tracing = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    with _without_warnings():
        torch.onnx.export(
            module,
            (example,),
            str(path),
            input_names=["images"],
            output_names=list(NAMES),
            opset_version=_OPSET,
            **tracing,  # type: ignore[arg-type]
        )


def _openvino(module: FixedExtractor, example: torch.Tensor, path: Path) -> None:
    _require("openvino", "openvino")
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        # Unlike OpenVINO's conversion from PyTorch, reading ONNX sends no telemetry.
        between = Path(folder) / "model.onnx"
        _onnx(module, example, between)
        openvino.save_model(openvino.Core().read_model(between), path, compress_to_fp16=False)


def _tensorrt(module: FixedExtractor, example: torch.Tensor, path: Path) -> None:
    if not torch.cuda.is_available():
        raise ExportError("format 'tensorrt' needs a CUDA device, and PyTorch sees none")
    try:
        import torch_tensorrt
    except ImportError as error:
        raise ExportError("format 'tensorrt' needs the Python package torch-tensorrt, install it with pip") from error
    with _without_warnings():
        traced = torch.jit.trace(module.cuda(), (example.cuda(),), check_trace=False)
    inputs = [torch_tensorrt.Input(example.shape, dtype=torch.uint8)]
    engine = torch_tensorrt.compile(traced, ir="ts", inputs=inputs, truncate_long_and_double=True)
    torch.jit.save(engine, str(path))


def _require(package: str, extra: str) -> None:
    try:
        __import__(package)
    except ImportError as error:
        raise ExportError(
            f"this format needs the Python package {package}, install it with: pip install 'superpoint_ros[{extra}]'"
        ) from error


def _without_warnings() -> warnings.catch_warnings:
    # PyTorch warns that sizes become constants, which is intended, and about deprecated formats.
    return warnings.catch_warnings(record=True)
