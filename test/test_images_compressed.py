"""Conversion of compressed image messages to grey: formats, orientation, truncated data, limits, and errors."""

from __future__ import annotations

import re
import struct
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from encoded_images import HEIGHT, WIDTH, example, luma, message, mosaic, noise

from superpoint_ros import ImageError
from superpoint_ros.io.headers import is_truncated_jpeg
from superpoint_ros.node.images import ENCODINGS, grey_from_compressed, grey_from_image


def compressed(data, name="jpeg"):
    return SimpleNamespace(format=name, data=data)


@pytest.mark.parametrize(("ending", "mean", "most"), [(".jpg", 3, 12), (".png", 1, 1)])
def test_compressed_photographs_are_decoded_to_grey(photograph, ending, mean, most):
    data = cv2.imencode(ending, photograph)[1]
    expected = cv2.cvtColor(photograph, cv2.COLOR_BGR2GRAY)
    for kind in (data, data.tobytes()):
        found = grey_from_compressed(compressed(kind))
        assert found.dtype == np.uint8 and found.shape == expected.shape
        error = np.abs(found.astype(int) - expected)
        assert error.mean() < mean and np.quantile(error, 0.99) <= most


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"no image at all", bytes(1000), "giant"])
def test_compressed_data_that_is_not_an_image_is_an_error_with_format_and_size(data, giant_png):
    data = giant_png if data == "giant" else data
    for name, words in (("jpeg", "jpeg"), ("", "without a format")):
        with pytest.raises(ImageError) as caught:
            grey_from_compressed(compressed(data, name))
        assert words in str(caught.value) and f"{len(data)} bytes" in str(caught.value)
        assert "\n" not in str(caught.value)


def with_orientation(jpeg, orientation):
    """Create a JPEG with an Exif orientation."""
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    exif = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


def stored(pixels, ending, *options):
    return cv2.imencode(ending, np.ascontiguousarray(pixels), [*options])[1].tobytes()


@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if name.startswith(("bayer", "mono", "bgr", "rgb"))])
def test_a_png_of_image_transport_equals_the_raw_image(encoding):
    pixels = example(encoding)[0]
    if encoding.startswith("bayer"):
        pixels = noise(*pixels.shape, dtype=pixels.dtype)
    # As the publisher does: colours are converted to BGR, everything else is unchanged.
    code = {"rgb": cv2.COLOR_RGB2BGR, "rgba": cv2.COLOR_RGBA2BGR, "bgra": cv2.COLOR_BGRA2BGR}
    name = encoding.rstrip("0123456789")
    bits = 16 if encoding.endswith("16") else 8
    colour = f"bgr{bits}" if name in ("bgr", *code) else ""
    data = stored(cv2.cvtColor(pixels, code[name]) if name in code else pixels, ".png")
    found = grey_from_compressed(compressed(data, f"{encoding}; png compressed {colour}"))
    np.testing.assert_array_equal(found, grey_from_image(message(pixels, encoding)))


@pytest.mark.parametrize(
    ("ending", "names"),
    [
        (".jpg", ["", "jpeg", "jpg", "JPEG", "image/jpeg", "jpeg compressed", "rgb8; jpg compressed bgr8",
                  "bgr8; jpeg compressed bgr8", "rgb8;jpeg compressed bgr8", "yuv422; jpeg compressed bgr8",
                  "yuv422_yuy2; jpeg compressed bgr8", "8UC3; jpeg compressed bgr8"]),
        (".png", ["", "png", "PNG", "png compressed", "rgb8; png compressed bgr8", "bgra8; png compressed bgr8"]),
        (".webp", ["", "webp"]),
    ],
)  # fmt: skip
def test_a_format_may_be_in_the_form_of_any_version_of_ros_or_of_foxglove(photograph, ending, names):
    data = stored(photograph[:64, :80], ending)
    expected = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2GRAY)
    for name in names:
        error = np.abs(grey_from_compressed(compressed(data, name)).astype(int) - expected)
        assert error.mean() < 1 and error.max() <= 12, name


@pytest.mark.parametrize("name", ["png", "mono16; png compressed ", "mono16; png compressed mono16"])
def test_a_png_of_16_bits_is_scaled_whatever_its_format_says(name):
    pixels = noise(HEIGHT, WIDTH, dtype=np.uint16)
    found = grey_from_compressed(compressed(stored(pixels, ".png"), name))
    np.testing.assert_allclose(found, pixels / 257, atol=0.51)


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_colours_stored_as_rgb_are_read_as_rgb(ending):
    pixels = np.full((HEIGHT, WIDTH, 3), (250, 30, 110), np.uint8)
    kind = {".png": "png", ".jpg": "jpeg"}[ending]
    found = grey_from_compressed(compressed(stored(pixels, ending), f"rgb8; {kind} compressed rgb8"))
    np.testing.assert_allclose(found, luma(250, 30, 110), atol=2)
    found = grey_from_compressed(compressed(stored(pixels, ending), f"bgr8; {kind} compressed bgr8"))
    np.testing.assert_allclose(found, luma(110, 30, 250), atol=2)


def test_a_mosaic_in_a_jpeg_is_a_mosaic():
    pixels = mosaic("rggb", 250, 30, 110, np.uint8)
    data = stored(pixels, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 100)
    found = grey_from_compressed(compressed(data, "bayer_rggb8; jpeg compressed "))
    np.testing.assert_allclose(found, luma(250, 30, 110), atol=6)


@pytest.mark.parametrize(
    "name", ["jpeg", "bgr8; jpeg compressed bgr8", "rgb8; jpeg compressed ", "mono8; jpeg compressed "]
)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_ignored(photograph, orientation, name):
    data = stored(photograph[:120, :160], ".jpg")
    turned = grey_from_compressed(compressed(with_orientation(data, orientation), name))
    np.testing.assert_array_equal(turned, grey_from_compressed(compressed(data, name)))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.99, -1, -2])
@pytest.mark.parametrize("progressive", [0, 1])
def test_a_truncated_jpeg_is_rejected(photograph, share, progressive):
    data = stored(photograph, ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    data = with_orientation(data, 1)
    part = data[: int(len(data) * share) if share > 0 else share]
    # Whatever OpenCV does: version 4 fills the rest with grey.
    assert is_truncated_jpeg(memoryview(part)) and not is_truncated_jpeg(memoryview(data))
    with pytest.raises(ImageError, match="cannot be decoded"):
        grey_from_compressed(compressed(part))


def test_a_truncated_jpeg_is_rejected_even_if_opencv_accepts_it(photograph, monkeypatch):
    data = stored(photograph, ".jpg")
    filled = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: filled)  # as in version 4, however little data there is
    np.testing.assert_array_equal(grey_from_compressed(compressed(data)), filled)
    with pytest.raises(ImageError, match="cannot be decoded"):
        grey_from_compressed(compressed(data[: len(data) // 2]))


def test_the_end_marker_of_a_thumbnail_does_not_complete_a_jpeg(photograph):
    data, thumbnail = stored(photograph, ".jpg"), stored(photograph[:16, :16], ".jpg")
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + data[2:]
    assert is_truncated_jpeg(memoryview(data[: len(data) // 2])) and not is_truncated_jpeg(memoryview(data))


def test_data_after_the_end_of_a_jpeg_is_ignored(photograph):
    data = stored(photograph, ".jpg")
    padded = grey_from_compressed(compressed(data + bytes(1000)))
    np.testing.assert_array_equal(padded, grey_from_compressed(compressed(data)))


def test_an_image_of_more_than_max_pixels_is_rejected_before_decoding(monkeypatch):
    pixels = noise(HEIGHT, WIDTH)
    sentence = rf"^the .*image .*is {WIDTH}x{HEIGHT} pixels, allowed are 400 in all \(max_pixels\)$"
    with pytest.raises(ImageError, match=sentence):
        grey_from_image(message(pixels, "mono8"), lambda _: pytest.fail("it was converted"), max_pixels=400)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    for ending in (".png", ".jpg", ".bmp"):
        with pytest.raises(ImageError, match=sentence):
            grey_from_compressed(compressed(stored(pixels, ending)), max_pixels=400)


def test_a_compressed_image_that_does_not_fit_in_memory_is_an_error_of_one_sentence(monkeypatch):
    def without_memory(*_):
        error = cv2.error("Insufficient memory")
        error.code = cv2.Error.StsNoMem
        raise error

    data = stored(noise(HEIGHT, WIDTH), ".png")
    monkeypatch.setattr(cv2, "imdecode", without_memory)
    with pytest.raises(ImageError, match="does not fit in memory"):
        grey_from_compressed(compressed(data, "png"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "16UC1; compressedDepth png",
            "is a depth image of image_transport's compressedDepth, allowed is an intensity image",
        ),
        ("32FC1; compressedDepth", "remap 'image' to the camera's colour or infrared topic"),
        ("zstd", "is compressed by zstd, allowed are JPEG, PNG and other image files"),
        ("mono8; zstd", "use image_transport's compressed or raw topic"),
    ],
)
def test_transports_that_are_no_image_files_are_named_in_one_sentence(text, sentence):
    data = cv2.imencode(".png", np.zeros((32, 32), np.uint8))[1].tobytes()
    with pytest.raises(ImageError, match=re.escape(sentence)):
        grey_from_compressed(SimpleNamespace(format=text, data=data))
