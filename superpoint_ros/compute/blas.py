"""Matrix products of NumPy and OpenCV on the thread that wants them.

The other threads of OpenBLAS wait busily for the next product, each on a processor that the network could have: a
product of three milliseconds made the next image's network take fifty longer.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_TAKEN = threading.Lock()
"""Held by the block that has set the threads."""


@contextmanager
def one_thread() -> Iterator[None]:
    """While a block or a decorated function runs, BLAS libraries keep to the calling thread; then all is as before.

    Of blocks that are nested or overlap in several threads only the first does anything, so that none restores what
    another has set. Without the package threadpoolctl nothing changes.
    """
    controller = _controller()
    if controller is None or not _TAKEN.acquire(blocking=False):
        yield
        return
    try:
        with controller.limit(limits=1):
            yield
    finally:
        _TAKEN.release()


@functools.cache
def _controller() -> Any:
    """Of the BLAS libraries of this process; finding them takes milliseconds."""
    try:
        import threadpoolctl
    except ImportError:
        return None
    return threadpoolctl.ThreadpoolController().select(user_api="blas")
