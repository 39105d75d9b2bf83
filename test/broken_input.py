"""Broken messages of a camera: images, compressed images and calibrations.

Each is a function of a stamp in nanoseconds and a good (H, W) image, and returns the bytes to send.
"""

from __future__ import annotations

import cv2
import numpy as np

from superpoint_ros.hosts.wire.messages import camera_info_message, create_message, header_message, image_message
from superpoint_ros.hosts.wire.typesystem import serialize

IMAGE, COMPRESSED, INFO = (f"sensor_msgs/msg/{name}" for name in ("Image", "CompressedImage", "CameraInfo"))
NOT_UTF_8 = "cam\ufffdra"


def image(stamp, picture, **fields):
    """Serialise an Image."""
    message = image_message(stamp, "camera", picture)
    for name, value in fields.items():
        setattr(message, name, value)
    return serialize(message, IMAGE)


def compressed(stamp, picture, **fields):
    """Serialise a CompressedImage."""
    data = cv2.imencode(".jpg", picture)[1].reshape(-1)
    return serialize(
        create_message(COMPRESSED, header_message(stamp, "camera"), {"format": "jpeg", "data": data, **fields}),
        COMPRESSED,
    )


def calibration(stamp, picture, **fields):
    """Serialise a CameraInfo."""
    height, width = picture.shape
    intrinsics = np.array([[300.0, 0, width / 2], [0, 300.0, height / 2], [0, 0, 1]])
    message = camera_info_message(header_message(stamp, "camera"), (height, width), intrinsics)
    for name, value in fields.items():
        setattr(message, name, value)
    return serialize(message, INFO)


def _jpeg(picture):
    return cv2.imencode(".jpg", picture)[1].reshape(-1)


def _damaged(picture):
    """Create a JPEG with some corrupt bytes in the middle, which OpenCV decodes partly."""
    data = _jpeg(picture).copy()
    data[data.size // 2 : data.size // 2 + 200] = 0
    return data


def _unreadable(whole):
    """Create bytes that are not a message of the type."""
    return {
        "a message cut short": lambda stamp, picture: whole(stamp, picture)[:200],
        "a message of zeros": lambda stamp, picture: b"\0\1\0\0" + bytes(8),
        "random bytes": lambda stamp, picture: b"\0\1\0\0" + np.random.default_rng(stamp).bytes(1000),
        "a length that lies": lambda stamp, picture: b"\0\1\0\0" + bytes(8) + b"\xff\xff\xff\x7f" + bytes(40),
    }


def _of_any_camera(whole):
    return {
        **_unreadable(whole),
        "a frame_id that is not UTF-8": lambda stamp, picture: whole(stamp, picture).replace(b"camera", b"cam\xffra"),
        "a stamp of zero": lambda stamp, picture: whole(0, picture),
    }


IMAGES = {
    "a wrong step": lambda stamp, picture: image(stamp, picture, step=3),
    "a step of zero": lambda stamp, picture: image(stamp, picture, step=0),
    "an unknown encoding": lambda stamp, picture: image(stamp, picture, encoding="unheard_of"),
    "an encoding of more bytes": lambda stamp, picture: image(stamp, picture, encoding="bgr8"),
    "no data": lambda stamp, picture: image(stamp, picture, data=np.zeros(0, np.uint8)),
    "half of the data": lambda stamp, picture: image(stamp, picture, data=picture.reshape(-1)[: picture.size // 2]),
    "no size": lambda stamp, picture: image(stamp, picture, height=0, width=0, step=0),
    "a size of a billion": lambda stamp, picture: image(stamp, picture, height=2**30, width=2**30, step=2**30),
    "a size beyond max_pixels": lambda stamp, picture: image(stamp, picture, height=60000, width=60000, step=60000),
    **_of_any_camera(image),
}

COMPRESSED_IMAGES = {
    "a JPEG cut short": lambda stamp, picture: compressed(stamp, picture, data=_jpeg(picture)[:2000]),
    "a JPEG's header alone": lambda stamp, picture: compressed(stamp, picture, data=_jpeg(picture)[:20]),
    "a JPEG damaged in the middle": lambda stamp, picture: compressed(stamp, picture, data=_damaged(picture)),
    "no data": lambda stamp, picture: compressed(stamp, picture, data=np.zeros(0, np.uint8)),
    "random data": lambda stamp, picture: compressed(
        stamp, picture, data=np.random.default_rng(stamp).integers(0, 256, 5000, np.uint8)
    ),
    "random data behind a JPEG's header": lambda stamp, picture: compressed(
        stamp,
        picture,
        data=np.append(_jpeg(picture)[:200], np.random.default_rng(stamp).integers(0, 256, 5000, np.uint8)),
    ),
    **_of_any_camera(compressed),
}

CALIBRATIONS = {
    "six coefficients": lambda stamp, picture: calibration(
        stamp, picture, distortion_model="rational_polynomial", d=np.full(6, 0.1)
    ),
    "a hundred thousand coefficients": lambda stamp, picture: calibration(stamp, picture, d=np.full(100_000, 0.1)),
    "coefficients that are not finite": lambda stamp, picture: calibration(stamp, picture, d=np.full(5, np.nan)),
    "an unknown model": lambda stamp, picture: calibration(
        stamp, picture, distortion_model="kannala", d=np.full(4, 0.1)
    ),
    "a negative focal length": lambda stamp, picture: calibration(
        stamp, picture, k=np.array([-1.0, 0, 160, 0, 300, 120, 0, 0, 1])
    ),
    "another size": lambda stamp, picture: calibration(stamp, picture, width=640, height=480),
    "binning beyond the size": lambda stamp, picture: calibration(stamp, picture, binning_x=10_000, binning_y=10_000),
    "no calibration": lambda stamp, picture: calibration(stamp, picture, k=np.zeros(9), p=np.zeros(12)),
    "a lens that turns back": lambda stamp, picture: calibration(stamp, picture, d=np.array([-2.0, 0, 0, 0, 0])),
    "a good one": calibration,
    **_unreadable(calibration),
}
