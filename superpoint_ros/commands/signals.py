"""What Ctrl-C and a request to terminate do while a command works."""

from __future__ import annotations

import signal
from collections.abc import Callable


def on_signal(function: Callable[[], object]) -> None:
    """Call a function at SIGINT and SIGTERM from now on."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: function())
