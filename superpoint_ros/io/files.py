"""Files that appear whole or not at all, whatever ends the program that writes them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A name beside `path` to write to: its file takes the place of `path` where the block ends well, else it goes.

    Processes that write the same file at once do not meet, as each has a name of its own until it is done.

    Raises:
        OSError: if the file cannot take its place; what was there before stays.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):  # what went wrong first is what counts
            partial.unlink()
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write text as UTF-8, whole.

    Raises:
        OSError: if it cannot be written.
    """
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")
