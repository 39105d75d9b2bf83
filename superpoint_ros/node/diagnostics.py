"""The health of a camera, for /diagnostics."""

from __future__ import annotations

import statistics
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from superpoint_ros.frontend.frames import Counters

OK, WARNING, ERROR = 0, 1, 2
SKIPPED_FRAMES = "frames skipped"
"""Frames that cannot be used or repeat a stamp."""


@dataclass(frozen=True)
class Diagnostics:
    """State of a camera: name, level 0 (OK), 1 (warning) or 2 (error), summary in one line, and named values."""

    name: str
    level: int
    message: str
    hardware_id: str
    values: Mapping[str, str]


class CameraHealth:
    """Collects the problems of a camera: events since the last summary, and conditions until cleared. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._before = (clock(), Counters())
        self._last_image: float | None = None
        self._started = clock()
        self._events: dict[str, tuple[int, str]] = {}
        self._totals: Counter[str] = Counter()
        self._persistent: dict[str, str] = {}
        self._values: dict[str, str] = {}
        self._ages: deque[float] = deque(maxlen=101)

    def count_problem(self, what: str, reason: str) -> None:
        """Count an event, such as a skipped frame."""
        with self._lock:
            count, _ = self._events.get(what, (0, ""))
            self._events[what] = count + 1, reason
            self._totals[what] += 1

    def add_to_total(self, what: str, count: int) -> None:
        """Add to a total that is shown without a warning."""
        with self._lock:
            self._totals[what] += count

    def set_problem(self, what: str, reason: str | None) -> None:
        """Set a persistent problem; a reason of None clears it."""
        with self._lock:
            if reason is None:
                self._persistent.pop(what, None)
            else:
                self._persistent[what] = reason

    def set_value(self, what: str, text: str) -> None:
        """Set a value that is shown without a warning."""
        with self._lock:
            self._values[what] = text

    def record_age(self, age: float) -> None:
        """Record the age of a result, in seconds."""
        self._ages.append(age)

    def summarise(self, counters: Counters, topic: str, timeout: float) -> tuple[int, str, dict[str, str]]:
        """Return level, one-line summary and values since the last call.

        Args:
            topic: the image topic.
            timeout: seconds without an image that count as an error; 0 for never.
        """
        now = self._clock()
        with self._lock:
            (then, before), self._before = self._before, (now, counters)
            events, self._events = self._events, {}
            persistent, totals, shown = dict(self._persistent), dict(self._totals), dict(self._values)
        processed = counters.processed - before.processed
        failed = counters.failed - before.failed
        rate = processed / max(now - then, 1e-9)
        problems: list[tuple[int, str]] = []
        incompatible = persistent.pop("image publisher", None)
        if counters.received > before.received:
            self._last_image = now
        else:
            problems.append(self._silence(now, topic, timeout, incompatible))
        for what, (count, reason) in events.items():
            # An occasional repeated stamp is harmless; repeating all of them leaves no frames.
            if what != SKIPPED_FRAMES or failed or not processed:
                problems.append((WARNING, f"{count} {what}: {reason}"))
        problems += [(WARNING, f"{what}: {reason}") for what, reason in persistent.items()]
        values = {
            "rate (Hz)": f"{rate:.2f}",
            **{f"{what}, total": str(count) for what, count in totals.items() if count},
        }
        if incompatible:
            values["image publisher"] = incompatible
        values |= persistent | shown
        if self._ages:
            values["age of results, median (ms)"] = f"{statistics.median(list(self._ages)) * 1e3:.1f}"
        if not problems:
            return OK, f"{rate:.1f} frames per second", values
        problems.sort(key=lambda problem: -problem[0])
        return problems[0][0], "; ".join(text for _, text in problems), values

    def _silence(self, now: float, topic: str, timeout: float, incompatible: str | None) -> tuple[int, str]:
        since = self._started if self._last_image is None else self._last_image
        level = ERROR if timeout and now - since >= timeout else WARNING
        yet = " yet" if self._last_image is None else ""
        reason = f" ({incompatible})" if incompatible else ""
        return level, f"no image on {topic}{yet}, for {now - since:.0f} s{reason}"
