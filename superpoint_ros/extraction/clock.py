"""Measure the stages of an extraction."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol


class Clock(Protocol):
    """A stopwatch for stages: `with clock.stage("network"): ...`."""

    def stage(self, name: str, again: bool = False) -> AbstractContextManager[Any]:
        """Time the block as one run of a stage; with `again`, add its time to the stage's last run."""


class NoClock:
    """A clock that measures nothing."""

    def stage(self, name: str, again: bool = False) -> AbstractContextManager[Any]:
        return nullcontext()
