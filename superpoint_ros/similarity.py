"""Cosine similarities of descriptors on the processor.

OpenVINO, where it is installed, takes half of NumPy's time: its threads sleep between two products. Those of NumPy's
OpenBLAS wait busily, so that NumPy has to do with one (see `blas`).
"""

from __future__ import annotations

import functools
import threading

import numpy as np
import torch
from numpy.typing import NDArray

from superpoint_ros.blas import one_thread

Rows = NDArray[np.float32]

_SMALL = 200**2
"""So few pairs NumPy has done before OpenVINO's threads are awake."""


def similarities(a: Rows, b: Rows) -> NDArray[np.float32]:
    """(N, D) and (M, D) unit descriptors -> (N, M) cosines; they may be overwritten by the thread's next call."""
    openvino = _openvino_product(torch.get_num_threads()) if len(a) * len(b) >= _SMALL else None
    return _numpy_product(a, b) if openvino is None else openvino(a, b)


@one_thread()
def _numpy_product(a: Rows, b: Rows) -> NDArray[np.float32]:
    return np.asarray(a @ b.T)


@functools.cache
def _openvino_product(threads: int) -> _OpenVINOProduct | None:
    try:
        return _OpenVINOProduct(threads)
    except (ImportError, RuntimeError):  # it is not installed, or not fit for this machine
        return None


class _OpenVINOProduct:
    """a b^T of any sizes, compiled once."""

    def __init__(self, threads: int) -> None:
        import openvino
        from openvino import opset13 as ops

        a, b = (ops.parameter([-1, -1], openvino.Type.f32) for _ in range(2))
        model = openvino.Model([ops.result(ops.matmul(a, b, False, True))], [a, b], "similarities")
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,
        }
        self._compiled = openvino.Core().compile_model(model, "CPU", settings)
        self._own = threading.local()

    def __call__(self, a: Rows, b: Rows) -> NDArray[np.float32]:
        request = getattr(self._own, "request", None)
        if request is None:
            request = self._own.request = self._compiled.create_infer_request()
        # Descriptors of a received message need not be aligned.
        inputs = [np.require(rows, np.float32, ("C", "A")) for rows in (a, b)]
        request.infer(inputs, share_inputs=True, share_outputs=True)
        return np.asarray(request.get_output_tensor(0).data)
