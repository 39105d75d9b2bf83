"""Inspect encoded images without decoding them: their size, and whether a JPEG is complete."""

from __future__ import annotations

import re
import struct
from typing import BinaryIO

_HEAD = 65536
"""Number of bytes read first; only JPEG and TIFF may have their size further on."""

_START_OF_FRAME = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
_MARKER = re.compile(rb"\xff[^\x00\xff]")
_PNM = re.compile(rb"P[1-6](?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)")


def encoded_size(file: BinaryIO) -> tuple[int, int] | None:
    """Read (height, width) from the header of a PNG, JPEG, TIFF, BMP, WebP, JPEG 2000, GIF or PNM; None if it is
    another format or damaged."""
    head = file.read(_HEAD)
    try:
        return _size(head, file)
    except (struct.error, ValueError, OverflowError):
        return None


def _size(head: bytes, file: BinaryIO) -> tuple[int, int] | None:
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return _reversed(struct.unpack_from(">II", head, 16))
    if head.startswith(b"\xff\xd8"):
        return _jpeg(file)
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _tiff(head[:8], file)
    if head.startswith(b"BM"):
        if struct.unpack_from("<I", head, 14)[0] == 12:
            return _reversed(struct.unpack_from("<HH", head, 18))
        width, height = struct.unpack_from("<ii", head, 18)
        return abs(height), abs(width)  # rows from top to bottom have a negative height
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _webp(head)
    if head.startswith(b"\0\0\0\x0cjP  "):
        return _after(head, b"ihdr", ">II", 0)
    if head.startswith(b"\xff\x4f\xff\x51"):
        right, bottom, left, top = struct.unpack_from(">IIII", head, 8)
        return bottom - top, right - left
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return _reversed(struct.unpack_from("<HH", head, 6))
    found = _PNM.match(head)
    return (int(found[2]), int(found[1])) if found else None


def is_truncated_jpeg(data: memoryview) -> bool:
    """Tell whether this is a JPEG without its end-of-image marker. OpenCV 4 fills what is missing with grey."""
    if data[:2] != b"\xff\xd8":
        return False
    place = 2
    while found := _MARKER.search(data, place):
        marker, place = found[0][1], found.end()
        if marker == 0xD9:
            return False
        if marker not in _WITHOUT_LENGTH:
            # Skip the segment, since a thumbnail in it has its own end-of-image marker.
            place += int.from_bytes(data[place : place + 2], "big")
    return True


def _reversed(size: tuple[int, ...]) -> tuple[int, int]:
    return size[1], size[0]


def _after(head: bytes, mark: bytes, layout: str, skip: int) -> tuple[int, int] | None:
    place = head.find(mark)
    if place < 0:
        return None
    first, second = struct.unpack_from(layout, head, place + len(mark) + skip)
    return first, second


def _jpeg(file: BinaryIO) -> tuple[int, int] | None:
    file.seek(2)
    while True:
        byte = file.read(1)
        while byte and byte != b"\xff":  # decoders skip bytes between segments
            byte = file.read(1)
        while byte == b"\xff":
            byte = file.read(1)
        if not byte:
            return None
        if byte[0] in _WITHOUT_LENGTH or byte[0] == 0:
            continue
        (length,) = struct.unpack(">H", file.read(2))
        if byte[0] in _START_OF_FRAME:
            _, height, width = struct.unpack(">BHH", file.read(5))
            return height, width
        if byte[0] == 0xDA or length < 2:
            return None
        file.seek(length - 2, 1)


def _tiff(head: bytes, file: BinaryIO) -> tuple[int, int] | None:
    """Read the size of the file's first image, which is the one that OpenCV decodes."""
    order = "<" if head[:2] == b"II" else ">"
    big = 43 in head[2:4]
    file.seek(8 if big else 4)
    (place,) = struct.unpack(f"{order}{'Q' if big else 'I'}", file.read(8 if big else 4))
    file.seek(place)
    (count,) = struct.unpack(f"{order}{'Q' if big else 'H'}", file.read(8 if big else 2))
    sides = {}
    for _ in range(min(count, 4096)):
        entry = file.read(20 if big else 12)
        tag, kind = struct.unpack_from(f"{order}HH", entry)
        if tag in (256, 257) and kind in (1, 3, 4, 16):
            letter = {1: "B", 3: "H", 4: "I", 16: "Q"}[kind]
            (sides[tag],) = struct.unpack_from(f"{order}{letter}", entry, 12 if big else 8)
    return (sides[257], sides[256]) if len(sides) == 2 else None


def _webp(head: bytes) -> tuple[int, int] | None:
    kind = head[12:16]
    if kind == b"VP8 " and head[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", head, 26)
        return height & 0x3FFF, width & 0x3FFF
    if kind == b"VP8L" and head[20] == 0x2F:
        (bits,) = struct.unpack_from("<I", head, 21)
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if kind == b"VP8X":
        width, height = (int.from_bytes(head[place : place + 3], "little") + 1 for place in (24, 27))
        return height, width
    return None
