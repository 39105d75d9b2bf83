"""Read the units of H.264 and H.265 in Annex B format as far as needed to know where decoding can start and goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_START_CODE = b"\0\0\1"
_KEY_UNITS = {"h264": frozenset({5, 7}), "hevc": frozenset(range(16, 24))}
"""Types of units with which decoding can start: IDR slices and sequence parameter sets, which encoders without IDR
slices repeat where they recover; random access points of H.265."""
_SLICE, _IDR, _SEQUENCE = 1, 5, 7
_HEADER_BYTES = 512
"""Number of leading bytes that contain all that is read here."""
_WITH_CHROMA_FORMAT = frozenset({44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244})
"""Profiles whose sequence parameter sets have fields for the chroma format and scaling lists."""


def starts_decoding(data: bytes, codec: str) -> bool:
    """Tell whether decoding can start with a message; `codec` is FFmpeg's name."""
    return any((unit[0] & 31 if codec == "h264" else unit[0] >> 1 & 63) in _KEY_UNITS[codec] for unit in _units(data))


class FrameNumbers:
    """The frame numbers of an H.264 video, which tell that reference frames are missing; FFmpeg conceals that.

    Numbers that cannot be read count as right.
    """

    def __init__(self) -> None:
        self._sequence: _Sequence | None = None
        self._previous: int | None = None

    def missing(self, data: bytes) -> bool:
        """Tell whether reference frames are missing before the one of a message."""
        try:
            return self._missing(data)
        except IndexError:
            return False

    def _missing(self, data: bytes) -> bool:
        for unit in _units(data):
            kind = unit[0] & 31
            if kind == _SEQUENCE:
                self._sequence = _read_sequence(_Bits(unit[1:]))
            elif kind in (_SLICE, _IDR) and self._sequence is not None:
                bits = _Bits(unit[1:])
                for _ in ("first macroblock", "slice type", "picture parameter set"):
                    bits.golomb()
                bits.read(2 if self._sequence.separate_planes else 0)
                number, previous = bits.read(self._sequence.number_bits), self._previous
                if unit[0] >> 5 & 3:  # others refer to this frame
                    self._previous = number
                if kind == _IDR or previous is None or self._sequence.gaps_allowed:
                    return False
                return number not in (previous, (previous + 1) % (1 << self._sequence.number_bits))
        return False


@dataclass(frozen=True)
class _Sequence:
    """What is needed of a sequence parameter set."""

    number_bits: int
    gaps_allowed: bool
    separate_planes: bool


def _read_sequence(bits: _Bits) -> _Sequence:
    """Read a sequence parameter set (ITU-T H.264, 7.3.2.1.1)."""
    profile, separate = bits.read(8), False
    bits.read(16)
    bits.golomb()
    if profile in _WITH_CHROMA_FORMAT:
        chroma = bits.golomb()
        separate = chroma == 3 and bool(bits.read(1))
        bits.golomb()
        bits.golomb()
        bits.read(1)
        if bits.read(1):
            for index in range(8 if chroma != 3 else 12):
                if bits.read(1):
                    _skip_scaling_list(bits, 16 if index < 6 else 64)
    number_bits = bits.golomb() + 4
    order = bits.golomb()
    if order == 0:
        bits.golomb()
    elif order == 1:
        bits.read(1)
        bits.golomb()
        bits.golomb()
        for _ in range(bits.golomb()):
            bits.golomb()
    bits.golomb()
    return _Sequence(number_bits, bool(bits.read(1)), separate)


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = 8
    for _ in range(size):
        code = bits.golomb()
        last = (last + (code + 1 >> 1 if code & 1 else -(code >> 1))) % 256
        if last == 0:  # the rest repeats the last value
            return


class _Bits:
    """Reads bits, most significant first, without the bytes that prevent start codes; IndexError at the end."""

    def __init__(self, data: bytes) -> None:
        plain = data[:_HEADER_BYTES].replace(b"\0\0\3", b"\0\0")
        self._text = "".join(f"{byte:08b}" for byte in plain)
        self._at = 0

    def read(self, count: int) -> int:
        if self._at + count > len(self._text):
            raise IndexError("the unit ends")
        text, self._at = self._text[self._at : self._at + count], self._at + count
        return int(text or "0", 2)

    def golomb(self) -> int:
        """Read an unsigned Exp-Golomb code."""
        zeros = self._text.index("1", self._at) - self._at if "1" in self._text[self._at :] else len(self._text)
        self.read(zeros)
        return self.read(zeros + 1) - 1


def _units(data: bytes) -> Iterator[bytes]:
    """Yield the beginning of every unit, from its header on."""
    place = data.find(_START_CODE)
    while 0 <= place < len(data) - 3:
        yield data[place + 3 : place + 3 + _HEADER_BYTES]
        place = data.find(_START_CODE, place + 3)
