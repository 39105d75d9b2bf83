"""The program around the detector, as the detector sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Host(Protocol):
    """What the detector needs of the program that runs it; every host implements it."""

    def subscriber_count(self, key: str, camera: str) -> int:
        """Return the number of subscribers of a camera's output topic."""

    def publish(self, key: str, camera: str, header: Any, fields: Mapping[str, Any]) -> None:
        """Publish a message of the topic's type; `header` is the image's."""

    def now(self) -> int:
        """Return the time in nanoseconds of the clock that stamps images."""

    def warn(self, text: str) -> None:
        """Log a warning."""

    def header(self, stamp: Any, frame_id: str) -> Any:
        """Create the header of an image whose message has none; `stamp` is a builtin_interfaces/Time."""

    def image_topic(self, camera: str) -> str:
        """Return the full name of a camera's image topic."""
