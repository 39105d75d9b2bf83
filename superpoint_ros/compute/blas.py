"""Run matrix products of NumPy and OpenCV on the calling thread alone.

The worker threads of OpenBLAS spin while they wait for the next product, and occupy cores that the network needs: a
product of three milliseconds delayed the network on the next image by fifty.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_TAKEN = threading.Lock()
"""Held while a block limits the number of threads."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit BLAS libraries to the calling thread while a block or a decorated function runs.

    If blocks are nested or overlap in several threads, only the first one takes effect, so that none restores the
    setting of another. Without the package threadpoolctl there is no limit.
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
    """Return the controller of this process's BLAS libraries; finding them takes milliseconds."""
    try:
        import threadpoolctl
    except ImportError:
        return None
    return threadpoolctl.ThreadpoolController().select(user_api="blas")
