"""What all of the package's OpenVINO models have in common: settings for the processor, and a request per thread."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray


def settings(precision: str, threads: int) -> dict[str, Any]:
    """For one input after another; `precision` as OpenVINO spells it, such as "f32"."""
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        # Camera and subscribers share the cores; threads tied to one would wait for them.
        "ENABLE_CPU_PINNING": False,
    }


class Requests:
    """A compiled model, to be called in any thread. Results lie in OpenVINO's memory: the next call of the same thread
    overwrites them."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._own = threading.local()

    def __call__(self, *inputs: NDArray[Any]) -> list[NDArray[Any]]:
        request = getattr(self._own, "request", None)
        if request is None:
            request = self._own.request = self._compiled.create_infer_request()
        request.infer(list(inputs), share_inputs=True, share_outputs=True)
        return [np.asarray(tensor.data) for tensor in request.output_tensors]
