"""Throttled warnings: at most one of each kind in five seconds, with the number suppressed in between."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

INTERVAL = 5.0
"""Minimum seconds between two warnings of one kind."""

_log = logging.getLogger(__name__)


class ThrottledWarnings:
    """Passes on at most one warning of each kind in `INTERVAL` seconds, from any thread.

    Args:
        warn: receives the warnings.
        clock: monotonic clock in seconds. With None, as when processing a recording, a warning is passed on if its
            reason differs from the previous one of its kind.
    """

    def __init__(self, warn: Callable[[str], None], clock: Callable[[], float] | None = time.monotonic) -> None:
        self._warn = warn
        self._clock = clock
        self._last: dict[str, tuple[float, int]] = {}
        self._reasons: dict[str, str] = {}

    def __call__(self, what: str, reason: str, error: BaseException | None = None) -> None:
        """Warn about `what` (the kind) with a reason; the traceback of `error` is logged at debug level."""
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


def format_error(error: BaseException) -> str:
    """Format an exception in one line: the text of a ValueError, the type and text of any other."""
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}".rstrip(": ")


def unexpected(error: Exception) -> Exception | None:
    """Return the error if its traceback may be useful, unlike that of a ValueError."""
    return None if isinstance(error, ValueError) else error
