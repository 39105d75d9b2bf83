"""The refinement of matches on a device: on a GPU as one CUDA graph per size, which needs a single launch.

All inputs lie in one buffer and all outputs in another, so that each is a single transfer through pinned memory. The
number of points is padded to a multiple, so that a few graphs serve all frames.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from superpoint_ros.two_view.refinement import (
    FARTHEST,
    Floats,
    Refine,
    Refined,
    Templates,
    patch_offsets,
    refine_points,
)
from superpoint_ros.two_view.refinement_tensor import refine_fixed

_log = logging.getLogger(__name__)

MULTIPLE = 256
"""The number of points is padded to a multiple of this."""

_KEPT = 16  # combinations of image size and padded number of points
_WARM_UP = 3
_SAMPLES = patch_offsets().shape[1]
_ROW = {"layers": (3, _SAMPLES), "contrast": (), "inverse": (3,), "usable": (), "start": (2,), "warps": (2, 2)}
"""Shapes of the inputs for each point: the fields of `Templates` and arguments of `refine_points`."""
_RESULTS = 7


def refiner(device: torch.device) -> Refine:
    """Return the fastest refinement for a network on this device.

    On a CPU that is NumPy with OpenCV, which drops points as they converge.
    """
    return refine_points if device.type == "cpu" else TensorRefiner(device)


class TensorRefiner:
    """Computes `refine_points` on a device. Calls from several threads are serialised.

    On a GPU, a CUDA graph is recorded at the first use of a size. If that fails, and on a CPU, the same operations are
    executed one by one.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._searches: OrderedDict[tuple[int, ...], _Search] = OrderedDict()
        self._lock = threading.Lock()

    @torch.inference_mode()
    def __call__(
        self,
        templates: Templates,
        image: Floats,
        start: NDArray[np.floating],
        warps: NDArray[np.floating],
        farthest: float = FARTHEST,
    ) -> Refined:
        """See `refine_points`."""
        start = np.asarray(start, np.float32).reshape(-1, 2)
        if not len(start):
            return refine_points(templates, image, start, warps, farthest)
        size, places = image.shape, -(-len(start) // MULTIPLE) * MULTIPLE
        key = (*size, places)
        with self._lock:
            search = self._searches.get(key)
            if search is None:
                search = self._searches[key] = _Search(Step(size, places, self.device), self.device)
                if len(self._searches) > _KEPT:
                    self._searches.popitem(last=False)
            self._searches.move_to_end(key)
            return search.run(templates, image, start, warps, farthest)


class Step:
    """The operations that a graph records, from the static buffer `input` to (N, 7) points, covariance, correlation and
    whether they were found."""

    def __init__(self, size: tuple[int, ...], places: int, device: torch.device) -> None:
        self.places = places
        shapes = {"image": size, **{name: (places, *row) for name, row in _ROW.items()}, "farthest": ()}
        self._parts = {name: torch.Size(shape) for name, shape in shapes.items()}
        self.input = torch.zeros(sum(shape.numel() for shape in self._parts.values()), device=device)
        self._views = self.views(self.input)

    def views(self, buffer: Tensor) -> dict[str, Tensor]:
        """The parts of a buffer of the input's size, by name."""
        parts = buffer.split([shape.numel() for shape in self._parts.values()])
        return {name: part.view(shape) for part, (name, shape) in zip(parts, self._parts.items(), strict=True)}

    def __call__(self) -> Tensor:
        points, covariance, found, correlation = refine_fixed(**{**self._views, "usable": self._views["usable"] > 0})
        return torch.cat((points, covariance, correlation[:, None], found[:, None].to(points.dtype)), dim=1)


class _Search:
    """A recorded step with its transfers between host and device."""

    def __init__(self, step: Step, device: torch.device) -> None:
        self._step = step
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        pinned = self._stream is not None
        self._input = torch.zeros(step.input.shape, pin_memory=pinned)
        self._parts = {name: part.numpy() for name, part in step.views(self._input).items()}
        self._output = torch.zeros(step.places, _RESULTS, pin_memory=pinned)
        self._run = _prepared(step, self._stream)

    def run(
        self,
        templates: Templates,
        image: Floats,
        start: Floats,
        warps: NDArray[np.floating],
        farthest: float,
    ) -> Refined:
        count, parts = len(start), self._parts
        parts["image"][:], parts["farthest"][()] = image, farthest
        given = {name: getattr(templates, name) for name in ("layers", "contrast", "inverse", "usable")}
        for name, value in {**given, "start": start, "warps": warps}.items():
            parts[name][:count] = value
        parts["usable"][count:] = False
        if self._stream is None:
            self._step.input.copy_(self._input)
            self._output.copy_(self._run())
        else:
            with torch.cuda.stream(self._stream):
                self._step.input.copy_(self._input, non_blocking=True)
                self._output.copy_(self._run(), non_blocking=True)
                self._stream.synchronize()
        points, covariance, correlation, found = np.split(self._output.numpy()[:count], (2, 5, 6), axis=1)
        return Refined(points.copy(), covariance.copy(), found[:, 0] > 0, correlation[:, 0].copy())


def _prepared(step: Step, stream: torch.cuda.Stream | None) -> Callable[[], Tensor]:
    """Return a function that runs the step: its recording on a stream, or the step itself."""
    if stream is not None:
        try:
            return _recorded(step, stream)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            _log.debug("matches are refined without a CUDA graph, %s: %s", type(error).__name__, reason)
    return step


def _recorded(step: Step, stream: torch.cuda.Stream) -> Callable[[], Tensor]:
    stream.wait_stream(torch.cuda.current_stream(stream.device))
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UP):
            step()  # kernels are loaded and memory is allocated outside of the recording
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the GPU in the meantime.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            output = step()

    def replay() -> Tensor:
        graph.replay()
        return output

    return replay
