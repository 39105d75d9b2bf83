"""Recordings of a camera by ROS 1 and 2, intact and damaged, and the messages of bags."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from rosbags.highlevel import AnyReader
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_typestore

SIZE = (120, 160)
FRAMES = 5
RIGHT_HALF = np.repeat(np.repeat(np.array([[0, 255]], np.uint8), SIZE[0], axis=0), SIZE[1] // 2, axis=1)
"""A mask: nothing is wanted in the left half."""
IMAGE, COMPRESSED, INFO = (f"sensor_msgs/msg/{name}" for name in ("Image", "CompressedImage", "CameraInfo"))


def moving_frames(grey):
    """Create frames of a camera that moves over a photograph by two pixels per frame."""
    return [np.ascontiguousarray(grey[100 : 100 + SIZE[0], 150 + 2 * i : 150 + 2 * i + SIZE[1]]) for i in range(FRAMES)]


def write_recording(
    folder,
    frames,
    ros=2,
    storage="mcap",
    topics=None,
    count=FRAMES,
    spoil=(),
    cut=(),
    frame_id=b"optical",
    calibration=(),
):
    """Write a recording and return its path.

    Args:
        topics: {name: type}.
        spoil: numbers of frames of no known encoding.
        cut: numbers of frames that lack half their bytes.
        frame_id: seven bytes.
        calibration: fields of sensor_msgs/CameraInfo.
    """
    topics = topics or {"/camera/image_raw": IMAGE}
    store = get_typestore(Stores.ROS1_NOETIC if ros == 1 else Stores.ROS2_JAZZY)
    types, target = store.types, folder / ("recording.bag" if ros == 1 else "recording")
    plugin = StoragePlugin[storage.upper()]
    writer = Writer1(target) if ros == 1 else Writer2(target, version=9, storage_plugin=plugin)
    encode = store.serialize_ros1 if ros == 1 else store.serialize_cdr
    with writer:
        connections = {name: writer.add_connection(name, kind, typestore=store) for name, kind in topics.items()}
        for i in range(count):
            stamp = types["builtin_interfaces/msg/Time"](sec=10 + i // 20, nanosec=i % 20 * 50_000_000)
            header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="optical", **({"seq": i} if ros == 1 else {}))
            for name, kind in topics.items():
                image = RIGHT_HALF if name.endswith("/mask") else frames[i % FRAMES]
                message = filled(types, kind, header, image, i in spoil, capital=ros == 1)
                for field, value in dict(calibration if kind == INFO else ()).items():
                    setattr(message, field, value)
                data = bytes(encode(message, kind)).replace(b"optical", frame_id)
                data = data[: len(data) // 2] if i in cut else data
                writer.write(connections[name], 10**9 + i * 50_000_000, data)
    return target


def filled(types, kind, header, image, broken, capital):
    if kind == IMAGE:
        data, encoding = image.reshape(-1), "nonsense" if broken else "mono8"
        return types[kind](header=header, height=SIZE[0], width=SIZE[1], encoding=encoding, is_bigendian=0,
                           step=SIZE[1], data=data)  # fmt: skip
    if kind == COMPRESSED:
        return types[kind](header=header, format="png", data=cv2.imencode(".png", image)[1].reshape(-1))
    matrices = {"d": np.zeros(5), "k": np.array([100.0, 0, 79.5, 0, 100.0, 59.5, 0, 0, 1]), "r": np.eye(3).reshape(-1),
                "p": np.zeros(12)}  # fmt: skip
    region = types["sensor_msgs/msg/RegionOfInterest"](x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return types[kind](
        header=header, height=SIZE[0], width=SIZE[1], distortion_model="plumb_bob", binning_x=0, binning_y=0,
        roi=region, **{name.upper() if capital else name: value for name, value in matrices.items()},
    )  # fmt: skip


def read(path):
    """Read messages by topic as (time of recording, message), without the definitions of this package."""
    found: dict[str, list] = {}
    with AnyReader([Path(path)]) as reader:
        for connection in reader.connections:
            found[connection.topic] = []
        for connection, stamp, data in reader.messages():
            found[connection.topic].append((stamp, reader.deserialize(data, connection.msgtype)))
    return found
