"""Packages that only one format needs."""

from __future__ import annotations

import importlib
from typing import Any


def load_optional(name: str, purpose: str, extra: str) -> Any:
    """Import a package of a pip extra.

    Args:
        purpose: what needs it, at the beginning of the sentence of the error.

    Raises:
        ModuleNotFoundError: in one sentence, if it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{purpose} need {name}, install it with: pip install 'superpoint_ros[{extra}]'", name=error.name
        ) from error
