"""Read messages with strings that are not UTF-8, as rclpy does: with U+FFFD for undecodable bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

_BAD, _REST = "\x1a", "\x19"
"""Placeholders for the first and the other bytes of an undecodable sequence; one each, so that lengths stay equal."""


def read_leniently(read: Callable[[memoryview], Any], data: bytes | memoryview) -> Any:
    """Deserialise `data` with `read`, whatever the bytes of its strings.

    Raises:
        Exception: any other error of `read`.
    """
    try:
        return read(memoryview(data))
    except Exception as error:
        patched, failure = bytearray(data), _find_decode_error(error)
    while True:
        _patch(patched, failure)
        try:
            return _restore(read(memoryview(bytes(patched))))
        except Exception as error:
            failure = _find_decode_error(error)


def _find_decode_error(error: Exception) -> UnicodeDecodeError:
    """Find the decoding error behind an error of rosbags, or raise the error if there is none."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UnicodeDecodeError):
            return cause
        # Its readers of recordings raise theirs "from None", where the cause is a context only.
        cause = cause.__cause__ or cause.__context__
    raise error


def _patch(data: bytearray, error: UnicodeDecodeError) -> None:
    """Replace the undecodable string in `data` by a decodable one of equal length."""
    text = error.object
    # A string follows its length, which includes a terminating zero in ROS 2 but not in ROS 1.
    lengths = [size.to_bytes(4, order) for size in (len(text) + 1, len(text)) for order in ("little", "big")]
    places = [place for length in lengths if (place := data.find(length + text)) >= 0]
    if not places:
        raise error
    start = min(places) + 4
    data[start : start + len(text)] = _replace_undecodable(text)


def _replace_undecodable(text: bytes) -> bytes:
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


def _restore(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace(_REST, "").replace(_BAD, "\ufffd")
    if isinstance(value, list):
        return [_restore(each) for each in value]
    if is_dataclass(value) and not isinstance(value, type):
        for one in fields(value):
            if one.init and one.name != "__msgtype__":
                setattr(value, one.name, _restore(getattr(value, one.name)))
    return value
