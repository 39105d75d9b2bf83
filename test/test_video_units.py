"""Frame numbers of H.264, read from units that are written here bit by bit."""

from __future__ import annotations

import pytest

from superpoint_ros.node.video_units import FrameNumbers, starts_decoding

PLAIN, HIGH = 66, 100


def golomb(value):
    """Write an unsigned Exp-Golomb code."""
    text = f"{value + 1:b}"
    return "0" * (len(text) - 1) + text


def unit(kind, bits, reference=1):
    """Write a unit with its start code, and with bytes that prevent others."""
    text = bits + "1"
    payload = bytes(int(text[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(text), 8))
    for following in (0, 1, 2, 3):
        payload = payload.replace(bytes((0, 0, following)), bytes((0, 0, 3, following)))
    return b"\0\0\0\1" + bytes([reference << 5 | kind]) + payload


def sequence(profile=PLAIN, number_bits=4, gaps=0, order=0, scaling=False, chroma=1):
    bits = f"{profile:08b}" + "0" * 8 + f"{30:08b}" + golomb(0)
    if profile == HIGH:
        bits += golomb(chroma) + ("0" if chroma == 3 else "") + golomb(0) + golomb(0) + "0" + str(int(scaling))
        if scaling:
            # A list with the values 9 to 24, one that ends at once, and others that are absent.
            bits += "1" + golomb(1) * 16 + "1" + golomb(16) + "0" * (6 if chroma != 3 else 10)
    bits += golomb(number_bits - 4) + golomb(order)
    bits += {0: golomb(2), 1: "0" + golomb(0) + golomb(0) + golomb(2) + golomb(1) * 2, 2: ""}[order]
    return unit(7, bits + golomb(1) + str(gaps) + golomb(19) + golomb(14), 3)


def frame(number, kind=1, number_bits=4, reference=1):
    return unit(kind, golomb(0) + golomb(5) + golomb(0) + f"{number:0{number_bits}b}" + "1010" * 9, reference)


SEQUENCES = {
    "baseline": {},
    "more bits": {"number_bits": 9},
    "high": {"profile": HIGH},
    "4:4:4": {"profile": HIGH, "chroma": 3},
    "scaling lists": {"profile": HIGH, "scaling": True},
    "scaling lists of 4:4:4": {"profile": HIGH, "scaling": True, "chroma": 3},
    "order by cycle": {"order": 1},
    "order of decoding": {"order": 2},
}


@pytest.mark.parametrize("options", SEQUENCES.values(), ids=SEQUENCES)
def test_a_gap_in_the_numbers_is_found_in_every_layout(options):
    bits = options.get("number_bits", 4)
    numbers = FrameNumbers()
    assert not numbers.missing(sequence(**options) + frame(0, kind=5, number_bits=bits))
    assert [numbers.missing(frame(number, number_bits=bits)) for number in (1, 2, 4, 5)] == [False, False, True, False]
    assert not numbers.missing(sequence(**options) + frame(0, kind=5, number_bits=bits))


def test_numbers_wrap_around():
    numbers = FrameNumbers()
    numbers.missing(sequence() + frame(0, kind=5))
    assert not any(numbers.missing(frame(number % 16)) for number in range(1, 40))
    assert numbers.missing(frame(41 % 16))


def test_frames_that_no_other_refers_to_do_not_count():
    numbers = FrameNumbers()
    numbers.missing(sequence() + frame(0, kind=5))
    order = [(1, 1), (2, 0), (2, 0), (2, 1), (3, 1)]
    assert not any(numbers.missing(frame(number, reference=reference)) for number, reference in order)


def test_gaps_that_the_encoder_announces_are_no_loss():
    numbers = FrameNumbers()
    numbers.missing(sequence(gaps=1) + frame(0, kind=5))
    assert not any(numbers.missing(frame(number)) for number in (2, 4, 6))


@pytest.mark.parametrize("data", [b"", b"\0\0\1", b"\0\0\1\x07", b"\0\0\1\x27\x42\0\x1e", b"\0\0\1\x41", bytes(50)])
def test_what_cannot_be_read_counts_as_right(data):
    numbers = FrameNumbers()
    assert not numbers.missing(data)
    numbers.missing(sequence() + frame(0, kind=5))
    assert not numbers.missing(data)


def test_decoding_starts_with_parameter_sets_or_intra_frames():
    assert starts_decoding(frame(0, kind=5), "h264") and starts_decoding(sequence(), "h264")
    assert not starts_decoding(frame(1), "h264")
    assert starts_decoding(b"\0\0\1\x26\1" + bytes(9), "hevc")  # IDR_W_RADL
    assert not starts_decoding(b"\0\0\1\x02\1" + bytes(9), "hevc")  # TRAIL_R
    assert not starts_decoding(b"", "h264")
