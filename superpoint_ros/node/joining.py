"""Join messages of several topics by their stamp."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class StampJoiner:
    """Collects the messages of a moment until all needed ones are there; incomplete moments before it are dropped.

    Args:
        needed: keys of the topics that make a moment complete.
        most: maximum number of incomplete moments.
    """

    def __init__(self, needed: Iterable[str], most: int = 20) -> None:
        self._needed, self._most = frozenset(needed), most
        self._pending: dict[int, dict[str, Any]] = {}

    def add(self, key: str, stamp: int, message: Any) -> dict[str, Any] | None:
        """Add a message; return all of its moment by key if it is complete.

        Raises:
            ValueError: in one sentence, if a moment is given up because there are too many incomplete ones.
        """
        parts = self._pending.setdefault(stamp, {})
        parts[key] = message
        if self._needed <= set(parts):
            self._pending = {other: found for other, found in self._pending.items() if other > stamp}
            return parts
        if len(self._pending) > self._most:
            # The one that arrived first: the newest stamp may be the smallest, if the clock was set back.
            missing = self._needed - set(self._pending.pop(next(iter(self._pending))))
            raise ValueError(f"no {' and no '.join(sorted(missing))} of its stamp arrived")
        return None
