"""Compute cosine similarities of descriptors on a CPU.

OpenVINO, if installed, takes half of NumPy's time: its threads sleep between products. Those of NumPy's OpenBLAS spin,
so NumPy is limited to one (see `blas`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from superpoint_ros.compute import openvino_models
from superpoint_ros.compute.blas import one_thread

Rows = NDArray[np.float32]

_SMALL = 200**2
"""Number of pairs that NumPy computes before OpenVINO's threads wake up."""


def similarities(a: Rows, b: Rows) -> NDArray[np.float32]:
    """Compute the (N, M) cosines of (N, D) and (M, D) unit descriptors; the thread's next call may overwrite them."""
    openvino = _openvino_product(torch.get_num_threads()) if len(a) * len(b) >= _SMALL else None
    return _numpy_product(a, b) if openvino is None else openvino(a, b)


def mutual_nearest_rows(cosines: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Find the nearest column of each row of an (N, M) table, and which of them have that row as their nearest."""
    # NumPy is four times slower along columns.
    forward, backward = cosines.argmax(axis=1), cv2.transpose(cosines).argmax(axis=1)
    return forward, backward[forward] == np.arange(len(cosines))


@one_thread()
def _numpy_product(a: Rows, b: Rows) -> NDArray[np.float32]:
    return np.asarray(a @ b.T)


@functools.cache
def _openvino_product(threads: int) -> Callable[[Rows, Rows], Rows] | None:
    try:
        import openvino
        from openvino import opset13 as ops

        a, b = (ops.parameter([-1, -1], openvino.Type.f32) for _ in range(2))
        model = openvino.Model([ops.result(ops.matmul(a, b, False, True))], [a, b], "similarities")
        compiled = openvino.Core().compile_model(model, "CPU", openvino_models.settings("f32", threads))
    except (ImportError, RuntimeError):  # not installed, or unusable on this machine
        return None
    run = openvino_models.Requests(compiled)

    def product(a: Rows, b: Rows) -> Rows:
        # Descriptors of a received message may be unaligned.
        return run(*(np.require(rows, np.float32, ("C", "A")) for rows in (a, b)))[0]

    return product
