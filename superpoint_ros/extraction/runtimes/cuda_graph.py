"""Everything from pixels to features, and the matches with the frame before, as one CUDA graph per shape.

The graph leaves the processor nothing to launch but the graph itself. Transfers go through pinned memory on a stream of
their own, and each call waits for the GPU once, at its end.
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
from superpoint_ros.extraction.runtimes import PRECISIONS, Extracted
from superpoint_ros.extraction.runtimes.pytorch import PyTorchRuntime
from superpoint_ros.features import Link
from superpoint_ros.two_view.matching import mutual_nearest_fixed

_log = logging.getLogger(__name__)

_Run = Callable[[], tuple[Tensor, ...]]

_SHAPES = 200
_KEPT = 8  # each graph holds the memory of its activations
_WARM_UP = 3


class Step:
    """What a graph records: one batch from `images` to the results, with buffers that stay where they are.

    Calling it gives keypoints, scores, descriptors, count (see `FixedExtractor`), and forward, best and second (see
    `matching.mutual_nearest_fixed`) of the matches from the batch before to this one.
    """

    def __init__(self, module: FixedExtractor, shape: Sequence[int], device: torch.device) -> None:
        self._module = module
        batch, places = shape[0], min(module.settings.max_keypoints, module.size[0] * module.size[1])
        self.images = torch.zeros(*shape, dtype=torch.uint8, device=device)
        size = module.network.architecture.descriptor_size
        self._descriptors = torch.zeros(batch, places, size, device=device)
        self._count = torch.zeros(batch, dtype=torch.int64, device=device)

    def __call__(self) -> tuple[Tensor, ...]:
        keypoints, scores, descriptors, count = self._module(self.images)
        matches = mutual_nearest_fixed(self._descriptors, self._count, descriptors, count)
        self._descriptors.copy_(descriptors)
        self._count.copy_(count)
        return keypoints, scores, descriptors, count, *matches

    def forget(self) -> None:
        """Let the next batch have no batch before."""
        self._count.zero_()


class CudaGraphRuntime:
    """See `Runtime`; `extract` is the fast way, calling it gives the maps alone.

    `compiled` has PyTorch's compiler fuse what lies between the convolutions into few kernels (Triton). That takes up
    to a minute for every new shape, and needs a C compiler; where it fails, the steps are recorded as they are.

    On the processor, where there are no graphs, the same steps run one by one; that is for tests.
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
        self._frames: OrderedDict[object, _Frame] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self._maps(images)

    @torch.inference_mode()
    def extract(self, images: Tensor, size: tuple[int, int], settings: Decoding) -> Extracted:
        """(B, 1, H, W) uint8 on the processor -> features of the first `size` (height, width) of it."""
        decoding = Decoding(*astuple(settings)[: len(Decoding.__dataclass_fields__)])
        key = (*images.shape, *size, decoding)
        with self._lock:
            frame = self._frames.get(key)
            if frame is None:
                module = FixedExtractor(self._network, decoding, size, self._dtype).to(self.device)
                step = Step(module, images.shape, self.device)
                frame = self._frames[key] = _Frame(step, self.device, self._compiled)
                if len(self._frames) > _KEPT:
                    self._frames.popitem(last=False)
            self._frames.move_to_end(key)
            return frame.run(images)


class _Frame:
    """A recorded step with its transfers."""

    def __init__(self, step: Step, device: torch.device, compiled: bool) -> None:
        self._step = step
        self._own: list[object] | None = None
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._replay, self._outputs = _recorded(step, self._stream, compiled)
        pinned = self._stream is not None
        self._input = torch.zeros(step.images.shape, dtype=torch.uint8, pin_memory=pinned)
        self._host = [torch.zeros(out.shape, dtype=out.dtype, pin_memory=pinned) for out in self._outputs]

    def run(self, images: Tensor) -> Extracted:
        self._input.copy_(images)
        if self._stream is None:
            self._step.images.copy_(self._input)
            outputs = self._replay()
            for host, out in zip(self._host, outputs, strict=True):
                host.copy_(out)
            kept = None
        else:
            with torch.cuda.stream(self._stream):
                self._step.images.copy_(self._input, non_blocking=True)
                outputs = self._replay()
                for host, out in zip(self._host, outputs, strict=True):
                    host.copy_(out, non_blocking=True)
                kept = outputs[2].clone()  # the next frame overwrites the graph's own
                # The one wait of a frame.
                self._stream.synchronize()
        return self._results(kept)

    def _results(self, on_device: Tensor | None) -> Extracted:
        keypoints, scores, descriptors, _, *matches = (host.numpy().copy() for host in self._host)
        own: list[object] = [object() for _ in range(len(keypoints))]
        before = self._own or [None] * len(own)
        links = [Link(own[i], before[i], *(found[i] for found in matches)) for i in range(len(own))]
        self._own = own
        return Extracted(keypoints, scores, descriptors, on_device, links)


def _recorded(step: Step, stream: torch.cuda.Stream | None, compiled: bool) -> tuple[_Run, tuple[Tensor, ...]]:
    """A function that runs the step again, and outputs of the shapes that it gives."""
    if stream is None:
        run = _fused(step) if compiled else step
        outputs = run()
        step.forget()
        return run, outputs
    with torch.cuda.stream(stream), _fastest_convolutions():
        run = _fused(step) if compiled else step
        for _ in range(_WARM_UP):
            run()  # libraries choose their kernels and take their memory outside of the recording
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            outputs = run()
        step.forget()
        stream.synchronize()

    def replay() -> tuple[Tensor, ...]:
        graph.replay()
        return outputs

    return replay, outputs


def _fused(step: Step) -> _Run:
    """The step in fewer kernels, or as it is where the compiler lacks something."""
    try:
        import torch._dynamo.config as compiler

        fused: _Run = torch.compile(step, fullgraph=True, dynamic=False)
        # All steps are one function to the compiler, which by itself gives up after eight of them.
        with compiler.patch(recompile_limit=_SHAPES):
            fused()
    except Exception as error:  # whatever a compiler's many parts let out
        reason = " ".join(str(error).split())[:200]
        _log.warning("kernels are not fused, %s: %s", type(error).__name__, reason)
        return step
    return fused


@contextmanager
def _fastest_convolutions() -> Iterator[None]:
    """cuDNN tries its algorithms and remembers the quickest, which pays where shapes never change."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
