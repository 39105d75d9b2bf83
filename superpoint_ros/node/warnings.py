"""Warnings that do not fill the log: one of each kind in five seconds, with the number of those in between."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

INTERVAL = 5.0
"""Seconds between two warnings of one kind."""

_log = logging.getLogger(__name__)


class Warnings:
    """Hands on at most one warning of each kind in `INTERVAL` seconds; from any thread.

    Args:
        warn: where they go.
        clock: seconds that only grow; None: time does not count, as where a recording is worked through, and a warning
            is handed on where its reason differs from the one before of its kind.
    """

    def __init__(self, warn: Callable[[str], None], clock: Callable[[], float] | None = time.monotonic) -> None:
        self._warn = warn
        self._clock = clock
        self._last: dict[str, tuple[float, int]] = {}
        self._reasons: dict[str, str] = {}

    def __call__(self, what: str, reason: str, error: BaseException | None = None) -> None:
        """Warn of `what` (the kind) because of `reason`; the traceback of `error` is for those who log at debug."""
        if error is not None:
            _log.debug("%s", what, exc_info=error)
        if self._clock is None:
            if self._reasons.get(what) != reason:
                self._reasons[what] = reason
                self._warn(f"{what}: {reason}")
            return
        now = self._clock()
        last, count = self._last.get(what, (-INTERVAL, 0))
        if now - last < INTERVAL:
            self._last[what] = (last, count + 1)
            return
        more = f" ({count} more since the last warning)" if count else ""
        self._last[what] = (now, 0)
        self._warn(f"{what}: {reason}{more}")


def sentence(error: BaseException) -> str:
    """An exception in one line: what a ValueError says, the kind and the text of any other."""
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}".rstrip(": ")
