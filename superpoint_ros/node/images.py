"""Convert sensor_msgs/Image and CompressedImage messages, of any ROS library, to grey arrays."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from superpoint_ros.extraction.checks import ImageError, check_size
from superpoint_ros.extraction.pyramid import MIN_SIDE
from superpoint_ros.io.headers import encoded_size
from superpoint_ros.io.images import MAX_PIXELS, decode_image, size_fault
from superpoint_ros.node.intensity import Intensity

Grey = NDArray[np.uint8]
Pixels = NDArray[Any]


@dataclass(frozen=True)
class Encoding:
    """The pixel layout of an encoding, and its conversion to grey.

    Attributes:
        dtype: of one channel.
        channels: per pixel.
        code: OpenCV's colour conversion to grey, None if the image is grey.
        in_cv_bridge: whether cv_bridge converts it to mono8.
    """

    dtype: str
    channels: int
    code: int | None = None
    in_cv_bridge: bool = True


def _table() -> dict[str, Encoding]:
    colours = {
        "bgr": (3, cv2.COLOR_BGR2GRAY),
        "rgb": (3, cv2.COLOR_RGB2GRAY),
        "bgra": (4, cv2.COLOR_BGRA2GRAY),
        "rgba": (4, cv2.COLOR_RGBA2GRAY),
        # ROS names the pattern by its first row, OpenCV by the second and third pixel of the second row.
        "bayer_rggb": (1, cv2.COLOR_BayerBG2GRAY),
        "bayer_bggr": (1, cv2.COLOR_BayerRG2GRAY),
        "bayer_gbrg": (1, cv2.COLOR_BayerGR2GRAY),
        "bayer_grbg": (1, cv2.COLOR_BayerGB2GRAY),
        "mono": (1, None),
    }
    table = {
        f"{name}{bits}": Encoding(f"u{bits // 8}", channels, code)
        for name, (channels, code) in colours.items()
        for bits in (8, 16)
    }
    table["yuv422"] = Encoding("u1", 2, cv2.COLOR_YUV2GRAY_UYVY)
    table["yuv422_yuy2"] = Encoding("u1", 2, cv2.COLOR_YUV2GRAY_YUY2)
    table["uyvy"] = Encoding("u1", 2, cv2.COLOR_YUV2GRAY_UYVY, in_cv_bridge=False)
    table["yuyv"] = Encoding("u1", 2, cv2.COLOR_YUV2GRAY_YUY2, in_cv_bridge=False)
    table["8UC1"] = Encoding("u1", 1, None, in_cv_bridge=False)
    table["8UC3"] = Encoding("u1", 3, cv2.COLOR_BGR2GRAY, in_cv_bridge=False)
    table["8UC4"] = Encoding("u1", 4, cv2.COLOR_BGRA2GRAY, in_cv_bridge=False)
    table["16UC1"] = Encoding("u2", 1, None, in_cv_bridge=False)
    table["32FC1"] = Encoding("f4", 1, None, in_cv_bridge=False)
    return table


_FROM_BGR = {3: cv2.COLOR_BGR2GRAY, 4: cv2.COLOR_BGRA2GRAY}
_FROM_RGB = {3: cv2.COLOR_RGB2GRAY, 4: cv2.COLOR_RGBA2GRAY}

_HEADER_BYTES = 4096
"""Number of leading bytes that nearly always contain the size of an encoded image."""

ENCODINGS = _table()
"""The supported encodings of sensor_msgs/Image."""


def grey_from_image(
    message: Any,
    cv_bridge_to_mono8: Callable[[Any], Grey] | None = None,
    max_pixels: int = MAX_PIXELS,
    intensity: Intensity | None = None,
) -> Grey:
    """Convert a sensor_msgs/Image to (H, W) uint8.

    16-bit images are scaled by 255 / 65535; 32FC1 contains intensities from 0 to 1.

    Args:
        message: of rclpy, rosbags or anything with the same fields.
        cv_bridge_to_mono8: converts messages of native byte order whose encoding cv_bridge supports; without it the
            same OpenCV conversions are called here.
        max_pixels: maximum number of pixels.
        intensity: how images of more than 8 bits are converted; linearly by default.

    Raises:
        ImageError: in one sentence, if the message's fields do not describe an image.
    """
    intensity = intensity or Intensity()
    encoding, dtype = _validate(message)
    check_size((message.height, message.width), max_pixels)
    intensity.check_encoding(message.encoding)
    native = dtype.itemsize == 1 or bool(message.is_bigendian) == (sys.byteorder == "big")
    by_cv_bridge = encoding.in_cv_bridge and native and (dtype.itemsize == 1 or intensity.mode == "linear")
    if cv_bridge_to_mono8 is not None and by_cv_bridge:
        return intensity(cv_bridge_to_mono8(message))
    pixels = _pixels(message, encoding, dtype)
    return intensity(_single_channel(pixels if native else pixels.byteswap(), encoding.code))


def grey_from_compressed(message: Any, max_pixels: int = MAX_PIXELS, intensity: Intensity | None = None) -> Grey:
    """Convert a sensor_msgs/CompressedImage in JPEG, PNG or another format of OpenCV to (H, W) uint8.

    The format string follows image_transport: `bayer_rggb8; png compressed` is a Bayer mosaic, and colour images not
    marked `compressed bgr` have red and blue swapped. The Exif orientation is ignored: calibration and geometry refer
    to the sensor's pixels.

    Raises:
        ImageError: if the data cannot be decoded, is cut short, or is an image of more than `max_pixels`.
    """
    intensity = intensity or Intensity()
    _check_compression(message.format)
    data = np.frombuffer(message.data, np.uint8)
    size = encoded_size(io.BytesIO(data[:_HEADER_BYTES].tobytes())) or encoded_size(io.BytesIO(data.tobytes()))
    description = f"the compressed image ({message.format or 'without a format'}, {data.size} bytes)"
    if size is not None and (fault := size_fault(size, max_pixels)):
        raise ImageError(f"{description} {fault}")
    source, _, coding = message.format.partition(";")
    encoding = ENCODINGS.get(source.strip())
    intensity.check_encoding(source.strip())
    mosaic = encoding is not None and encoding.channels == 1 and encoding.code is not None
    swapped = encoding is not None and encoding.channels > 1 and bool(coding) and "compressed bgr" not in coding
    # Only the luma of an ordinary JPEG need be decoded.
    ordinary = data[:2].tobytes() == b"\xff\xd8" and not mosaic and not swapped
    flags = cv2.IMREAD_GRAYSCALE if ordinary else cv2.IMREAD_UNCHANGED
    try:
        image = decode_image(data, flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except MemoryError as error:
        raise ImageError(f"{description} does not fit in memory") from error
    if image is None:
        raise ImageError(f"{description} cannot be decoded")
    if image.dtype.kind + str(image.dtype.itemsize) not in ("u1", "u2", "f4"):
        raise ImageError(f"{description} contains {image.dtype}, allowed is uint8, uint16 or float32")
    if image.ndim == 2:
        return intensity(_single_channel(image, encoding.code if mosaic and encoding else None))
    return intensity(_single_channel(image, (_FROM_RGB if swapped else _FROM_BGR)[image.shape[2]]))


def _check_compression(text: str) -> None:
    """Raise an `ImageError` for formats of image_transport that are no image files.

    Args:
        text: the message's `format`.
    """
    if "compressedDepth" in text:
        raise ImageError(
            f"the compressed image ({text}) is a depth image of image_transport's compressedDepth, allowed is an "
            f"intensity image: remap 'image' to the camera's colour or infrared topic"
        )
    if "zstd" in text.lower():
        raise ImageError(
            f"the compressed image ({text}) is compressed by zstd, allowed are JPEG, PNG and other image files: use "
            f"image_transport's compressed or raw topic"
        )


def _single_channel(pixels: Pixels, code: int | None) -> Pixels:
    """Convert colours or a mosaic to (H, W) grey levels of the same type."""
    return pixels if code is None else cv2.cvtColor(np.ascontiguousarray(pixels), code)


def _validate(message: Any) -> tuple[Encoding, np.dtype[Any]]:
    height, width, step = message.height, message.width, message.step
    encoding = ENCODINGS.get(message.encoding)
    if encoding is None:
        raise ImageError(
            f"image encoding '{message.encoding}' is not supported, allowed is one of {', '.join(ENCODINGS)}"
        )
    if min(height, width) < MIN_SIDE:
        raise ImageError(f"the image is {width}x{height} pixels, allowed is at least {MIN_SIDE}x{MIN_SIDE}")
    dtype = np.dtype(encoding.dtype)
    pixel = dtype.itemsize * encoding.channels
    if step < width * pixel or step % dtype.itemsize:
        multiples = f" in multiples of {dtype.itemsize}" if dtype.itemsize > 1 else ""
        least = f"{width * pixel} or more{multiples}"
        raise ImageError(
            f"the image's step is {step} bytes, allowed for {width} pixels of {message.encoding} is {least}"
        )
    if len(message.data) < (height - 1) * step + width * pixel:
        raise ImageError(
            f"the image contains {len(message.data)} bytes of data, {height} rows of {step} bytes are {height * step}"
        )
    if encoding.channels == 2 and width % 2:
        raise ImageError(f"the image is {width} pixels wide, allowed for {message.encoding} is an even number")
    return encoding, dtype


def _pixels(message: Any, encoding: Encoding, dtype: np.dtype[Any]) -> Pixels:
    """View the message's data as (H, W) or (H, W, C), without a copy."""
    shape: tuple[int, ...] = (message.height, message.width)
    strides: tuple[int, ...] = (message.step, dtype.itemsize * encoding.channels)
    if encoding.channels > 1:
        shape, strides = (*shape, encoding.channels), (*strides, dtype.itemsize)
    return np.ndarray(shape, dtype, np.frombuffer(message.data, np.uint8), strides=strides)
