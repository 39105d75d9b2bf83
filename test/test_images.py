"""Conversion of image messages to grey: every encoding against values computed by hand, and errors."""

from __future__ import annotations

import numpy as np
import pytest
from encoded_images import HEIGHT, WIDTH, example, message, noise

from superpoint_ros import ImageError
from superpoint_ros.node.images import ENCODINGS, grey_from_image

INTENSITY = [name for name in ENCODINGS if name != "16UC1"]
"""Encodings that are converted whatever the parameter intensity; `test_intensity` has the other."""


def test_the_encodings_are_the_documented_ones():
    colours = [f"{name}{bits}" for name in ("bgr", "rgb", "bgra", "rgba") for bits in (8, 16)]
    bayer = [f"bayer_{name}{bits}" for name in ("rggb", "bggr", "gbrg", "grbg") for bits in (8, 16)]
    others = ["mono8", "mono16", "yuv422", "yuv422_yuy2", "uyvy", "yuyv", "8UC1", "8UC3", "8UC4", "16UC1", "32FC1"]
    assert sorted(ENCODINGS) == sorted(colours + bayer + others)


@pytest.mark.parametrize("padding", [0, 8])
@pytest.mark.parametrize("encoding", INTENSITY)
def test_every_encoding_is_converted_to_the_correct_grey(encoding, padding):
    pixels, expected = example(encoding)
    found = grey_from_image(message(pixels, encoding, padding=padding))
    assert found.dtype == np.uint8 and found.shape == (HEIGHT, WIDTH) and found.flags.c_contiguous
    assert expected.shape == found.shape
    np.testing.assert_allclose(found, expected, atol=1.01)


@pytest.mark.parametrize("encoding", [name for name in INTENSITY if "16" in name or "32" in name])
def test_big_endian_images_are_converted_equally(encoding):
    pixels, _ = example(encoding)
    little, big = (message(pixels, encoding, bigendian, padding=4) for bigendian in (False, True))
    assert little.data != big.data
    np.testing.assert_array_equal(grey_from_image(big), grey_from_image(little))


def test_eight_bit_images_have_no_byte_order():
    pixels, _ = example("bgr8")
    little, big = (grey_from_image(message(pixels, "bgr8", bigendian)) for bigendian in (False, True))
    np.testing.assert_array_equal(big, little)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: np.frombuffer(data, np.uint8)])
def test_data_may_be_any_buffer_of_a_ros_library(kind):
    pixels, _ = example("mono8")
    image = message(pixels, "mono8", padding=3)
    image.data = kind(image.data)
    np.testing.assert_array_equal(grey_from_image(image), pixels)


def test_the_last_row_needs_no_padding():
    pixels, _ = example("mono16")
    image = message(pixels, "mono16", padding=6)
    image.data = image.data[:-6]
    np.testing.assert_allclose(grey_from_image(image), pixels / 257, atol=0.51)


def test_black_and_white_stay_black_and_white():
    for encoding, white in (("mono8", 255), ("mono16", 65535), ("32FC1", 1.0), ("bgr16", 65535)):
        dtype = np.dtype(ENCODINGS[encoding].dtype)
        pixels = np.zeros((HEIGHT, WIDTH, ENCODINGS[encoding].channels), dtype)
        pixels[9:] = white
        found = grey_from_image(message(pixels, encoding))
        assert found.min() == 0 and found.max() == 255 and (found[9:] == 255).all()


def test_cv_bridge_is_only_called_for_supported_encodings():
    asked = []

    def to_mono8(image):
        asked.append(image.encoding)
        return np.zeros((HEIGHT, WIDTH), np.uint8)

    for encoding in INTENSITY:
        grey_from_image(message(example(encoding)[0], encoding), to_mono8)
        if "16" in encoding:
            grey_from_image(message(example(encoding)[0], encoding, bigendian=True), to_mono8)
    assert asked == [name for name, entry in ENCODINGS.items() if entry.in_cv_bridge]
    assert {"bgr8", "mono16", "bayer_rggb8", "yuv422"} <= set(asked)
    assert not {"uyvy", "8UC3", "16UC1", "32FC1"} & set(asked)


def test_cv_bridge_never_receives_inconsistent_messages():
    image = message(example("bgr8")[0], "bgr8")
    image.data = image.data[:100]
    with pytest.raises(ImageError):
        grey_from_image(image, lambda _: pytest.fail("cv_bridge was asked"))


def with_value(value):
    pixels = np.full((HEIGHT, WIDTH), 0.5, np.float32)
    pixels[3, 4] = value
    return pixels


@pytest.mark.parametrize(
    ("pixels", "encoding", "changes", "words"),
    [
        (noise(18, 24), "jpeg2000", {}, ["'jpeg2000'", "mono8"]),
        (noise(18, 24), "", {}, ["''", "mono8"]),
        (noise(18, 24), "64FC1", {}, ["64FC1"]),
        (noise(18, 24), "mono8", {"height": 0}, ["24x0"]),
        (noise(18, 24), "mono8", {"width": 0}, ["0x18"]),
        (noise(15, 24), "mono8", {}, ["24x15", "16x16"]),
        (noise(18, 24), "mono8", {"step": 23}, ["23 bytes", "24 or more"]),
        (noise(18, 24), "mono8", {"step": 0}, ["0 bytes"]),
        (noise(18, 24, 3), "bgr8", {"step": 71}, ["71 bytes", "72 or more"]),
        (noise(18, 24, dtype=np.uint16), "mono16", {"step": 49}, ["49 bytes", "48 or more in multiples of 2"]),
        (with_value(0.5), "32FC1", {"step": 98}, ["98 bytes", "96 or more in multiples of 4"]),
        (noise(18, 24), "mono8", {"data": bytes(100)}, ["100 bytes", "432"]),
        (noise(18, 24), "mono8", {"data": b""}, ["0 bytes", "432"]),
        (noise(18, 24), "mono8", {"height": 4_000_000_000}, ["432 bytes", "4000000000 rows"]),
        (noise(18, 23, 2), "yuv422", {}, ["23 pixels wide", "even"]),
        (with_value(np.nan), "32FC1", {}, ["not finite"]),
        (with_value(np.inf), "32FC1", {}, ["not finite"]),
        (with_value(255), "32FC1", {}, ["255", "0 to 1"]),
        (with_value(-0.5), "32FC1", {}, ["-0.5", "0 to 1"]),
    ],
)
def test_an_invalid_message_is_an_error_that_names_the_value(pixels, encoding, changes, words):
    image = message(pixels, encoding)
    vars(image).update(changes)
    with pytest.raises(ImageError) as caught:
        grey_from_image(image)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)
