"""ROS recordings: ROS 1 bags, and ROS 2 ones in MCAP or SQLite, read without a ROS install."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.images import grey_from_compressed, grey_from_image
from superpoint_ros.superpoint import ImageError

_log = logging.getLogger(__name__)
_ENDINGS = {".bag", ".mcap", ".db3"}
_IMAGES = {
    "sensor_msgs/msg/Image": grey_from_image,
    "sensor_msgs/msg/CompressedImage": grey_from_compressed,
}


def is_bag(path: str | Path) -> bool:
    """Whether a path looks like a recording: a file of its endings, or a folder with metadata.yaml."""
    path = Path(path)
    return (path.is_file() and path.suffix in _ENDINGS) or (path / "metadata.yaml").is_file()


def images(path: str | Path, topic: str = "") -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Frames of one image topic of a recording, in its order; broken ones are named in the log and left out.

    Args:
        topic: may be empty where the recording holds one image topic only.

    Yields:
        Time of recording in nanoseconds, and the (H, W) uint8 picture.

    Raises:
        ValueError: in one sentence, if the recording cannot be read or the topic is not in it.
    """
    with _opened(Path(path)) as reader:
        held = {c.topic: c for c in reader.connections if c.msgtype in _IMAGES}
        if not held:
            raise ValueError(f"bag '{path}' holds no image topic")
        if topic not in held and (topic or len(held) > 1):
            asked = f"topic '{topic}' is not among the image topics" if topic else "a topic must be named, it holds"
            raise ValueError(f"bag '{path}': {asked} {', '.join(sorted(held))}")
        topic = topic or next(iter(held))
        decode: Any = _IMAGES[held[topic].msgtype]
        for connection, stamp, data in reader.messages([c for c in reader.connections if c.topic == topic]):
            try:
                yield stamp, decode(reader.deserialize(data, connection.msgtype))
            except ImageError as error:
                _log.warning("frame at %d ns of '%s' is left out: %s", stamp, topic, error)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from rosbags.highlevel import AnyReader, AnyReaderError
    from rosbags.typesys import Stores, get_typestore

    # rosbags takes a ROS 2 recording as a folder or as its file, a ROS 1 bag as its file.
    try:
        reader = AnyReader([path], default_typestore=get_typestore(Stores.ROS2_JAZZY))
        reader.open()
    except (AnyReaderError, OSError, AssertionError) as error:
        raise ValueError(f"bag '{path}' cannot be read: {error}") from error
    try:
        yield reader
    finally:
        reader.close()
