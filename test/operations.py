"""Which operations PyTorch executes, to tell on a CPU whether a CUDA graph could record them."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode

UNRECORDABLE = {"lift_fresh", "lift_fresh_copy", "_local_scalar_dense", "nonzero", "masked_select", "unique"}
"""Those that copy from the host, synchronise, or have data-dependent shapes."""


class Operations(TorchDispatchMode):
    """Records the names of all operations."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))
