"""Measure this machine's peak throughput of matrix products, the upper bound for the network's arithmetic."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

Work = Callable[[], Any]


def matrix_product_ceiling(device: torch.device, seconds: float) -> dict[str, float]:
    """Measure the peak floating-point operations per second of square matrix products, by precision.

    On a CPU, several sizes are tried in PyTorch (as a product and as a 1 x 1 convolution) and in OpenVINO, since the
    fastest differs between processors. On CUDA, float32 may use TF32, as convolutions do.

    Args:
        seconds: duration of each measurement.
    """
    names = ("float32", "bfloat16", "float16") if device.type == "cuda" else ("float32", "bfloat16")
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        return {
            name: max(operations / _fastest(work, device, seconds) for operations, work in _products(device, name))
            for name in names
        }
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed


def _products(device: torch.device, precision: str) -> Iterator[tuple[int, Work]]:
    """Yield the number of operations and a function that executes them."""
    for side in (4096, 8192) if device.type == "cuda" else (512, 1024):
        a, b = (torch.randn(side, side, device=device).to(getattr(torch, precision)) for _ in range(2))
        yield 2 * side**3, partial(torch.mm, a, b)
        if device.type == "cpu":
            image = a.view(1, side, -1, 32).contiguous(memory_format=torch.channels_last)
            yield 2 * side**3, partial(F.conv2d, image, b[:, :, None, None].contiguous())
            if importlib.util.find_spec("openvino") is not None:
                # OpenVINO rejects bfloat16 on processors without it.
                with suppress(RuntimeError):
                    yield 2 * side**3, _openvino_product(side, precision)


def _openvino_product(side: int, precision: str) -> Work:
    import openvino
    from openvino import opset13 as ops

    random = np.random.default_rng(0)
    a, b = (random.standard_normal((side, side), dtype=np.float32) for _ in range(2))
    left = ops.parameter([side, side], openvino.Type.f32)
    model = openvino.Model([ops.result(ops.matmul(left, ops.constant(b), False, False))], [left], "product")
    settings = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    return lambda: request.infer([a], share_inputs=True, share_outputs=True)


@torch.inference_mode()
def _fastest(work: Work, device: torch.device, seconds: float) -> float:
    """Return the seconds of the fastest of many runs, the one least disturbed by other programs."""
    best, begin, count = float("inf"), time.perf_counter(), 0
    while count < 3 or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best, count = min(best, time.perf_counter() - start), count + 1
    return best
