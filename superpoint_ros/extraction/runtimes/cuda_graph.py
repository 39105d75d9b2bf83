"""Extract features, and match them with the previous frame, in one CUDA graph per shape.

The graph is the only launch per call. Transfers use pinned memory on a separate stream, and each call synchronises
once, at its end.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple

import torch
from torch import Tensor

from superpoint_ros.extraction.decoding import Decoding
from superpoint_ros.extraction.fixed import FixedExtractor
from superpoint_ros.extraction.network import SuperPointNet
from superpoint_ros.extraction.runtimes import PRECISIONS, ExtractedBatch
from superpoint_ros.extraction.runtimes.pytorch import PyTorchRuntime
from superpoint_ros.features import Link
from superpoint_ros.two_view.matching import mutual_nearest_fixed

_log = logging.getLogger(__name__)

_Run = Callable[[], tuple[Tensor, ...]]

_MAX_RECOMPILATIONS = 200
_MAX_GRAPHS = 8  # each graph keeps the memory of its activations
_WARM_UP = 3


class Step:
    """The recorded computation: one batch from `images` and `mask` to the results, in static buffers.

    Calling it returns keypoints, scores, descriptors, count (see `FixedExtractor`), and forward, best and second (see
    `matching.mutual_nearest_fixed`) of the matches from the previous batch to this one.
    """

    def __init__(self, module: FixedExtractor, shape: Sequence[int], device: torch.device) -> None:
        self._module = module
        batch, places = shape[0], min(module.settings.max_keypoints, module.size[0] * module.size[1])
        self.images = torch.zeros(*shape, dtype=torch.uint8, device=device)
        self.mask = torch.ones(batch, *module.size, device=device)
        size = module.network.architecture.descriptor_size
        self._descriptors = torch.zeros(batch, places, size, device=device)
        self._count = torch.zeros(batch, dtype=torch.int64, device=device)

    def __call__(self) -> tuple[Tensor, ...]:
        keypoints, scores, descriptors, count = self._module(self.images, self.mask)
        matches = mutual_nearest_fixed(self._descriptors, self._count, descriptors, count)
        self._descriptors.copy_(descriptors)
        self._count.copy_(count)
        return keypoints, scores, descriptors, count, *matches

    def reset(self) -> None:
        """Forget the previous batch."""
        self._count.zero_()


class CudaGraphRuntime:
    """A `Runtime` whose `extract` replays a CUDA graph; calling it computes only the maps.

    `compiled` has PyTorch's compiler fuse the operations between convolutions into few kernels (Triton). That takes up
    to a minute for every new shape and needs a C compiler; if it fails, the graph is recorded without fusion.

    On a CPU, which has no graphs, the same operations run one by one; that is for tests.
    """

    def __init__(
        self, network: SuperPointNet, device: torch.device, precision: str = "auto", compiled: bool = False
    ) -> None:
        self.name = "cuda_graph_compiled" if compiled else "cuda_graph"
        self.device = device
        self._compiled = compiled
        self._maps = PyTorchRuntime(network, device, precision)
        self.precision = self._maps.precision
        self._dtype = PRECISIONS[self.precision]
        self._network = network
        self._recorded_steps: OrderedDict[object, _RecordedStep] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self._maps(images)

    @torch.inference_mode()
    def extract(
        self, images: Tensor, size: tuple[int, int], settings: Decoding, mask: Tensor | None = None
    ) -> ExtractedBatch:
        """See `EndToEndRuntime.extract`."""
        decoding = Decoding(*astuple(settings)[: len(Decoding.__dataclass_fields__)])
        key = (*images.shape, *size, decoding)
        with self._lock:
            frame = self._recorded_steps.get(key)
            if frame is None:
                module = FixedExtractor(self._network, decoding, size, self._dtype).to(self.device)
                step = Step(module, images.shape, self.device)
                frame = self._recorded_steps[key] = _RecordedStep(step, self.device, self._compiled)
                if len(self._recorded_steps) > _MAX_GRAPHS:
                    self._recorded_steps.popitem(last=False)
            self._recorded_steps.move_to_end(key)
            return frame.run(images, mask)


class _RecordedStep:
    """A recorded step with its transfers."""

    def __init__(self, step: Step, device: torch.device, compiled: bool) -> None:
        self._step = step
        self._own: list[object] | None = None
        self._masked = False
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._replay, self._outputs = _record(step, self._stream, compiled)
        pinned = self._stream is not None
        self._input = torch.zeros(step.images.shape, dtype=torch.uint8, pin_memory=pinned)
        self._host = [torch.zeros(out.shape, dtype=out.dtype, pin_memory=pinned) for out in self._outputs]

    def run(self, images: Tensor, mask: Tensor | None) -> ExtractedBatch:
        self._input.copy_(images)
        if self._stream is None:
            self._step.images.copy_(self._input)
            self._set_mask(mask)
            outputs = self._replay()
            for host, out in zip(self._host, outputs, strict=True):
                host.copy_(out)
            kept = None
        else:
            with torch.cuda.stream(self._stream):
                self._step.images.copy_(self._input, non_blocking=True)
                self._set_mask(mask)
                outputs = self._replay()
                for host, out in zip(self._host, outputs, strict=True):
                    host.copy_(out, non_blocking=True)
                kept = outputs[2].clone()  # the next frame overwrites the graph's output
                # The only synchronisation per frame.
                self._stream.synchronize()
        return self._results(kept)

    def _set_mask(self, mask: Tensor | None) -> None:
        if mask is not None:
            self._step.mask.copy_(mask)
        elif self._masked:
            self._step.mask.fill_(1)
        self._masked = mask is not None

    def _results(self, on_device: Tensor | None) -> ExtractedBatch:
        keypoints, scores, descriptors, _, *matches = (host.numpy().copy() for host in self._host)
        own: list[object] = [object() for _ in range(len(keypoints))]
        before = self._own or [None] * len(own)
        links = [Link(own[i], before[i], *(found[i] for found in matches)) for i in range(len(own))]
        self._own = own
        return ExtractedBatch(keypoints, scores, descriptors, on_device, links)


def _record(step: Step, stream: torch.cuda.Stream | None, compiled: bool) -> tuple[_Run, tuple[Tensor, ...]]:
    """Record a step; return a function that replays it, and outputs of its shapes."""
    if stream is None:
        run = _fuse(step) if compiled else step
        outputs = run()
        step.reset()
        return run, outputs
    with torch.cuda.stream(stream), _cudnn_benchmark():
        run = _fuse(step) if compiled else step
        for _ in range(_WARM_UP):
            run()  # libraries select kernels and allocate memory before the recording
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the GPU in the meantime.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            outputs = run()
        step.reset()
        stream.synchronize()

    def replay() -> tuple[Tensor, ...]:
        graph.replay()
        return outputs

    return replay, outputs


def _fuse(step: Step) -> _Run:
    """Fuse the step into fewer kernels, or return it unchanged if the compiler fails."""
    try:
        import torch._dynamo.config as compiler

        fused: _Run = torch.compile(step, fullgraph=True, dynamic=False)
        # All steps are the same function to the compiler, which by default stops after eight recompilations.
        with compiler.patch(recompile_limit=_MAX_RECOMPILATIONS):
            fused()
    except Exception as error:  # the compiler's many parts raise anything
        reason = " ".join(str(error).split())[:200]
        _log.warning("kernels are not fused, %s: %s", type(error).__name__, reason)
        return step
    return fused


@contextmanager
def _cudnn_benchmark() -> Iterator[None]:
    """Let cuDNN benchmark its algorithms, which pays off because shapes never change."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
