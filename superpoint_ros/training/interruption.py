"""What interruptions of a run may cost: signals wait for the end of a step, checkpoints are replaced whole."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning.fabric import Fabric

_log = logging.getLogger(__name__)


@contextmanager
def stoppable() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, so that a step is never torn; a second signal acts at once."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return

    def stop(number: int, frame: Any) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()

    old = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def save(fabric: Fabric, checkpoint: Path, state: dict[str, Any], step: int, required: bool) -> None:
    """Replace the checkpoint; if that fails, keep the old one, and raise only if `required`."""
    state["step"] = step
    partial = checkpoint.with_suffix(".partial")
    try:
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        fabric.save(partial, state)
        if fabric.is_global_zero:
            os.replace(partial, checkpoint)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        if required:
            raise OSError(f"checkpoint '{checkpoint}' cannot be written: {error}") from error
        _log.warning("checkpoint '%s' cannot be written, training goes on: %s", checkpoint, error)
