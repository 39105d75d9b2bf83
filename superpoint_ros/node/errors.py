"""What can go wrong in the standalone host, as one sentence for the user."""

from __future__ import annotations


class StandaloneError(ValueError):
    """A setting, name or type is wrong, or a package is missing; the message is one sentence for the user."""
