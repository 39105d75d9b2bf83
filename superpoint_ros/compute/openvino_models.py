"""Shared by all OpenVINO models of the package: CPU settings, and an inference request per thread."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray


def settings(precision: str, threads: int) -> dict[str, Any]:
    """Return settings for sequential inputs; `precision` is OpenVINO's name, such as "f32"."""
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        # Camera driver and subscribers share the cores; a pinned thread would have to wait for them.
        "ENABLE_CPU_PINNING": False,
    }


class Requests:
    """A compiled model that may be called from any thread.

    Results are views of OpenVINO's memory, which the next call from the same thread overwrites.
    """

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._local = threading.local()

    def __call__(self, *inputs: NDArray[Any]) -> list[NDArray[Any]]:
        request = getattr(self._local, "request", None)
        if request is None:
            request = self._local.request = self._compiled.create_infer_request()
        request.infer(list(inputs), share_inputs=True, share_outputs=True)
        return [np.asarray(tensor.data) for tensor in request.output_tensors]
