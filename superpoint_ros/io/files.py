"""Atomic file writes: a file appears complete or not at all, however the writing program ends."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`, which replaces `path` on success and is deleted on failure.

    The temporary name is unique to the process, so several processes may write the same file at once. What cannot be
    replaced, such as a pipe or /dev/stdout, is yielded itself.

    Raises:
        OSError: if the file cannot be replaced; the previous one is kept.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        yield path
        return
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):  # must not hide the original error
            partial.unlink()
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write text as UTF-8, atomically.

    Raises:
        OSError: if it cannot be written.
    """
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_texts(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write text files by name to a folder, which is created if it is missing; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]
