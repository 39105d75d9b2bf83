"""Measuring the stages of an extraction."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol


class Clock(Protocol):
    """Measures stages: `with clock.stage("network"): ...`."""

    def stage(self, name: str, again: bool = False) -> AbstractContextManager[Any]:
        """Measures the block as a run of a stage; `again` as a part of the stage's last run."""


class NoClock:
    """Measures nothing."""

    def stage(self, name: str, again: bool = False) -> AbstractContextManager[Any]:
        return nullcontext()
