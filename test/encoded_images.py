"""Image messages of every encoding, and the grey that is expected of them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

HEIGHT, WIDTH = 18, 24
FIELDS = "height width encoding step is_bigendian data"


def message(pixels, encoding, bigendian=False, padding=0):
    """Create a sensor_msgs/Image of an (H, W) or (H, W, C) array, with rows padded by bytes of 0xAB."""
    pixels = pixels.astype(pixels.dtype.newbyteorder(">" if bigendian else "<"))
    rows = np.frombuffer(pixels.tobytes(), np.uint8).reshape(len(pixels), -1)
    rows = np.hstack([rows, np.full((len(rows), padding), 0xAB, np.uint8)])
    values = (*pixels.shape[:2], encoding, rows.shape[1], int(bigendian), rows.tobytes())
    return SimpleNamespace(**dict(zip(FIELDS.split(), values, strict=True)))


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(1).integers(0, np.iinfo(dtype).max + 1, shape, dtype)


def luma(red, green, blue):
    """Compute grey as defined by ITU-R BT.601 and OpenCV."""
    return 0.299 * red + 0.587 * green + 0.114 * blue


def mosaic(pattern, red, green, blue, dtype):
    """Create a Bayer mosaic of one colour; the pattern names the first two pixels of the first and second row."""
    colour = {"r": red, "g": green, "b": blue}
    tile = np.array([colour[letter] for letter in pattern], dtype).reshape(2, 2)
    return np.tile(tile, (HEIGHT // 2, WIDTH // 2))


def example(encoding):
    """Create pixels of a message with this encoding, and the expected grey as floats."""
    name, bits = encoding.rstrip("0123456789"), 16 if encoding.endswith("16") else 8
    dtype, scale = (np.uint8, 1.0) if bits == 8 else (np.uint16, 255 / 65535)
    if encoding == "32FC1":
        pixels = np.random.default_rng(2).random((HEIGHT, WIDTH), np.float32)
        return pixels, pixels.astype(float) * 255
    if encoding in ("8UC1", "16UC1") or name == "mono":
        dtype, scale = (np.uint16, 255 / 65535) if "16" in encoding else (np.uint8, 1.0)
        pixels = noise(HEIGHT, WIDTH, dtype=dtype)
        return pixels, pixels * scale
    if name.startswith("bayer_"):
        red, green, blue = (64001, 7711, 28273) if bits == 16 else (250, 30, 110)
        grey = np.full((HEIGHT, WIDTH), luma(red, green, blue) * scale)
        return mosaic(name.removeprefix("bayer_"), red, green, blue, dtype), grey
    if encoding in ("yuv422", "uyvy", "yuv422_yuy2", "yuyv"):
        pixels = noise(HEIGHT, WIDTH, 2)
        return pixels, pixels[..., 1 if encoding in ("yuv422", "uyvy") else 0].astype(float)
    channels = {"8UC3": "bgr", "8UC4": "bgra"}.get(encoding, name)
    pixels = noise(HEIGHT, WIDTH, len(channels), dtype=dtype)
    values = {letter: pixels[..., channels.index(letter)].astype(float) for letter in "rgb"}
    return pixels, luma(values["r"], values["g"], values["b"]) * scale
