"""Sizes of encoded images from their headers, for every format that OpenCV writes here."""

from __future__ import annotations

import io
import struct

import cv2
import numpy as np
import pytest

from superpoint_ros.io.headers import encoded_size

HEIGHT, WIDTH = 37, 53
PICTURE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
FORMATS = {
    ".png": [],
    ".jpg": [],
    ".tif": [],
    ".bmp": [],
    ".webp": [cv2.IMWRITE_WEBP_QUALITY, 80],
    ".jp2": [],
    ".ppm": [],
    ".pgm": [],
    ".gif": [],
}


def encoded(ending, options=()):
    try:
        picture = PICTURE[..., 0] if ending == ".pgm" else PICTURE
        good, data = cv2.imencode(ending, picture, list(options))
    except cv2.error:
        good = False
    if not good:
        pytest.skip(f"this OpenCV does not write {ending}")
    return data.tobytes()


def size(data):
    return encoded_size(io.BytesIO(data))


@pytest.mark.parametrize("ending", FORMATS)
def test_the_header_has_the_size_of_the_decoded_image(ending):
    data = encoded(ending, FORMATS[ending])
    assert size(data) == cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[:2] == (HEIGHT, WIDTH)


def test_the_size_of_a_lossless_webp_is_read():
    assert size(encoded(".webp", [cv2.IMWRITE_WEBP_QUALITY, 101])) == (HEIGHT, WIDTH)


def test_the_size_of_an_extended_webp_is_read():
    chunk = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (299).to_bytes(3, "little") + (199).to_bytes(3, "little")
    assert size(b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk) == (200, 300)


def test_the_size_of_a_jpeg_with_a_late_frame_header_is_read():
    data = encoded(".jpg")
    profile = b"\xff\xe2" + struct.pack(">H", 65535) + bytes(65533)
    assert size(data[:2] + profile * 3 + b"\xff\xff" + data[2:]) == (HEIGHT, WIDTH)


def test_the_size_of_a_progressive_jpeg_is_read():
    assert size(encoded(".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])) == (HEIGHT, WIDTH)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("big", [False, True])
def test_the_size_of_every_kind_of_tiff_is_read(order, big):
    mark = b"II" if order == "<" else b"MM"
    place, number = ("Q", "Q") if big else ("I", "H")
    head = mark + struct.pack(f"{order}H", 43 if big else 42) + (struct.pack(f"{order}HH", 8, 0) if big else b"")
    start = len(head) + struct.calcsize(f"{order}{place}") + 6
    head += struct.pack(f"{order}{place}", start) + bytes(6)
    entries = b""
    for tag, value in ((256, 300), (257, 200), (259, 1)):
        entries += struct.pack(f"{order}HH{place}", tag, 3, 1) + struct.pack(f"{order}H", value).ljust(
            8 if big else 4, b"\0"
        )
    assert size(head + struct.pack(f"{order}{number}", 3) + entries) == (200, 300)


def test_the_size_of_a_top_down_bitmap_is_read():
    data = bytearray(encoded(".bmp"))
    struct.pack_into("<i", data, 22, -HEIGHT)
    assert size(bytes(data)) == (HEIGHT, WIDTH)


def test_a_claimed_giant_size_is_reported(giant_png):
    assert size(giant_png) == (2**18, 2**18)


@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif", ".bmp", ".webp", ".jp2", ".ppm"])
def test_a_header_truncated_anywhere_raises_nothing(ending):
    data = encoded(ending, FORMATS[ending])
    for length in [*range(200), len(data) - 10]:
        assert size(data[:length]) in (None, (HEIGHT, WIDTH)) or ending == ".ppm"


def test_random_bytes_after_a_signature_raise_nothing():
    random = np.random.default_rng(0)
    for signature in (b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"II*\0", b"MM\0+", b"BM", b"RIFF0000WEBP", b"P5 "):
        for _ in range(200):
            encoded_size(io.BytesIO(signature + random.bytes(300)))


@pytest.mark.parametrize("data", [b"", b"this is no picture", b"P5\n"])
def test_data_that_is_not_an_image_has_no_size(data):
    assert size(data) is None
