"""Errors of the hosts without ROS 2."""

from __future__ import annotations


class StandaloneError(ValueError):
    """A setting, name or type is wrong, or a package is missing; the message is one sentence for the user."""
