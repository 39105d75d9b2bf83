"""How a camera fares, for /diagnostics."""

from __future__ import annotations

import statistics
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from superpoint_ros.frontend.frames import Counters

OK, WARNING, ERROR = 0, 1, 2
FRAMES = "frames left out"
"""Those that could not be used, and those whose stamp repeats."""


@dataclass(frozen=True)
class Diagnostics:
    """State of a camera: whose, level 0 (OK), 1 (warning) or 2 (error), one line, and named values."""

    name: str
    level: int
    message: str
    hardware_id: str
    values: Mapping[str, str]


class CameraHealth:
    """What happened to a camera since it was asked last, and what holds until it is put right; from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._before = (clock(), Counters())
        self._last_image: float | None = None
        self._started = clock()
        self._events: dict[str, list[str]] = {}
        self._totals: Counter[str] = Counter()
        self._standing: dict[str, str] = {}
        self._notes: dict[str, str] = {}
        self._ages: deque[float] = deque(maxlen=101)

    def happened(self, what: str, reason: str) -> None:
        """Count something that went wrong once, such as a frame left out."""
        with self._lock:
            self._events.setdefault(what, []).append(reason)
            self._totals[what] += 1

    def counts(self, what: str, count: int) -> None:
        """Have a sum shown that makes no warning."""
        with self._lock:
            self._totals[what] += count

    def holds(self, what: str, reason: str | None) -> None:
        """Note what is wrong until it is noted as None."""
        with self._lock:
            if reason is None:
                self._standing.pop(what, None)
            else:
                self._standing[what] = reason

    def notes(self, what: str, text: str) -> None:
        """Have a value shown that makes no warning."""
        with self._lock:
            self._notes[what] = text

    def answered(self, age: float) -> None:
        """Note the age of a result, in seconds."""
        self._ages.append(age)

    def state(self, counters: Counters, topic: str, timeout: float) -> tuple[int, str, dict[str, str]]:
        """Level, one line and values since the last call.

        Args:
            topic: where the images come from.
            timeout: seconds without an image after which that is an error; 0 for never.
        """
        now = self._clock()
        with self._lock:
            (then, before), self._before = self._before, (now, counters)
            events, self._events = self._events, {}
            standing, totals, notes = dict(self._standing), dict(self._totals), dict(self._notes)
        processed = counters.processed - before.processed
        failed = counters.failed - before.failed
        rate = processed / max(now - then, 1e-9)
        problems: list[tuple[int, str]] = []
        incompatible = standing.pop("image publisher", None)
        if counters.received > before.received:
            self._last_image = now
        else:
            problems.append(self._silence(now, topic, timeout, incompatible))
        for what, reasons in events.items():
            # A stamp that repeats now and then costs nothing; where all do, nothing is left.
            if what != FRAMES or failed or not processed:
                problems.append((WARNING, f"{len(reasons)} {what}: {reasons[-1]}"))
        problems += [(WARNING, f"{what}: {reason}") for what, reason in standing.items()]
        values = {
            "rate (Hz)": f"{rate:.2f}",
            **{f"{what}, in all": str(count) for what, count in totals.items() if count},
        }
        if incompatible:
            values["image publisher"] = incompatible
        values |= standing | notes
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
