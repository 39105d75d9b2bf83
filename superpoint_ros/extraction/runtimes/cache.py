"""Cache compiled models on disk, so that the next start need not compile."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

_log = logging.getLogger(__name__)


def folder() -> Path:
    """Return the cache folder: `$XDG_CACHE_HOME/superpoint_ros` or `~/.cache/superpoint_ros`."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "superpoint_ros"


def key(parts: Iterable[bytes | str]) -> str:
    """Compute a file name that depends on all parts."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:40]


def read(name: str) -> bytes | None:
    """Read the data cached under this name, or None."""
    try:
        data = (folder() / name).read_bytes()
    except (OSError, RuntimeError):
        return None
    # The checksum keeps truncated files, from a full disk for example, from the library.
    return data[32:] if hashlib.sha256(data[32:]).digest() == data[:32] else None


def write(name: str, data: bytes) -> None:
    """Cache data under this name, or do nothing if the folder is not writable."""
    try:
        folder().mkdir(parents=True, exist_ok=True)
        number, partial = tempfile.mkstemp(dir=folder(), suffix=".partial")
        try:
            with open(number, "wb") as file:
                file.write(hashlib.sha256(data).digest() + data)
            os.replace(partial, folder() / name)
        except OSError:
            os.unlink(partial)
            raise
    except (OSError, RuntimeError) as error:
        _log.debug("the compiled model is not cached: %s", error)
