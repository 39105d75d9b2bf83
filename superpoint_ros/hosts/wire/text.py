"""Strings in messages that are not UTF-8, read as rclpy reads them: with U+FFFD for what cannot be decoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

_BAD, _REST = "\x1a", "\x19"
"""What stands for bytes that cannot be decoded, one for each, so that lengths and alignment stay: the first, others."""


def read_leniently(read: Callable[[memoryview], Any], data: bytes | memoryview) -> Any:
    """The message that `read` makes of `data`, whatever the bytes of its strings are.

    Raises:
        Exception: whatever else `read` raises.
    """
    try:
        return read(memoryview(data))
    except Exception as error:
        patched, failure = bytearray(data), _undecodable(error)
    while True:
        _patch(patched, failure)
        try:
            return _restored(read(memoryview(bytes(patched))))
        except Exception as error:
            failure = _undecodable(error)


def _undecodable(error: Exception) -> UnicodeDecodeError:
    """What lies behind an error of rosbags; raises the error itself where that is something else."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UnicodeDecodeError):
            return cause
        # Its readers of recordings raise theirs "from None", where the cause is a context only.
        cause = cause.__cause__ or cause.__context__
    raise error


def _patch(data: bytearray, error: UnicodeDecodeError) -> None:
    """Put characters that can be decoded in the place of the string in `data` that cannot."""
    text = error.object
    # A string lies behind its length, which counts a closing zero in ROS 2 and does not in ROS 1.
    lengths = [size.to_bytes(4, order) for size in (len(text) + 1, len(text)) for order in ("little", "big")]
    places = [place for length in lengths if (place := data.find(length + text)) >= 0]
    if not places:
        raise error
    start = min(places) + 4
    data[start : start + len(text)] = _decodable(text)


def _decodable(text: bytes) -> bytes:
    parts, rest = [], text
    while rest:
        try:
            rest.decode()
        except UnicodeDecodeError as error:
            bad = error.end - error.start
            parts += [rest[: error.start], (_BAD + _REST * (bad - 1)).encode()]
            rest = rest[error.end :]
        else:
            break
    return b"".join([*parts, rest])


def _restored(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace(_REST, "").replace(_BAD, "\ufffd")
    if isinstance(value, list):
        return [_restored(each) for each in value]
    if is_dataclass(value) and not isinstance(value, type):
        for one in fields(value):
            if one.init and one.name != "__msgtype__":
                setattr(value, one.name, _restored(getattr(value, one.name)))
    return value
