"""ROS recordings: ROS 1 bags, and ROS 2 ones in MCAP or SQLite, read without a ROS install."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.extraction.superpoint import ImageError
from superpoint_ros.hosts.bag import mcap
from superpoint_ros.hosts.wire.text import read_leniently
from superpoint_ros.node.images import grey_from_compressed, grey_from_image

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


class Recording:
    """A recording open for reading.

    Attributes:
        types: the type of every topic's messages, by the topic's name.
        broken: how many messages of each topic could not be read so far.
    """

    def __init__(self, path: Path, reader: Any) -> None:
        self._path, self._reader = path, reader
        self._connections = [c for c in reader.connections if _encoding(c) == "cdr"]
        others = {c.topic: _encoding(c) for c in reader.connections if c not in self._connections}
        if others:
            listed = ", ".join(f"{topic} ({encoding or 'unknown'})" for topic, encoding in sorted(others.items()))
            _log.warning("bag '%s': topics without ROS messages are left out: %s", path, listed)
        self.types: dict[str, str] = {c.topic: c.msgtype for c in self._connections}
        self.broken: Counter[str] = Counter()

    def image_topic(self, name: str = "") -> str:
        """The topic of this name, which may be empty where the recording holds one image topic only.

        Raises:
            ValueError: in one sentence, if it is not among the image topics.
        """
        held = sorted(topic for topic, type_ in self.types.items() if type_ in _IMAGES)
        if not held:
            raise ValueError(f"bag '{self._path}' holds no image topic")
        if name not in held and (name or len(held) > 1):
            asked = f"topic '{name}' is not among the image topics" if name else "a topic must be named, it holds"
            raise ValueError(f"bag '{self._path}': {asked} {', '.join(held)}")
        return name or held[0]

    def count(self, topic: str) -> int:
        """How many messages of a topic it holds."""
        return sum(c.msgcount for c in self._connections if c.topic == topic)

    def messages(self, *topics: str) -> Iterator[tuple[str, int, Any]]:
        """Topic, time of recording in nanoseconds and message, in the recording's order; messages that cannot be read
        are named in the log, counted in `broken` and left out. Text that is not UTF-8 is no error.

        Raises:
            ValueError: in one sentence, if the recording is damaged.
        """
        for connection, stamp, data in self._raw([c for c in self._connections if c.topic in topics]):
            try:
                message = read_leniently(partial(self._reader.deserialize, typ=connection.msgtype), data)
            except Exception as error:  # whatever a parser stumbles over
                self.broken[connection.topic] += 1
                _log.warning("message at %d ns of '%s' is left out: %s", stamp, connection.topic, error)
                continue
            yield connection.topic, stamp, message

    def _raw(self, connections: list[Any]) -> Iterator[tuple[Any, int, bytes]]:
        found = self._reader.messages(connections)
        while True:
            try:
                one = next(found)
            except StopIteration:
                return
            except Exception as error:  # rosbags lets the errors of its parsers out
                raise ValueError(f"bag '{self._path}' cannot be read further: {error}") from error
            yield one


def _encoding(connection: Any) -> str:
    """How a connection's messages are serialised; those of ROS 1 bags, which do not say so, count as CDR."""
    return str(getattr(connection.ext, "serialization_format", "cdr"))


def images(path: str | Path, topic: str = "") -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Frames of one image topic of a recording, in its order; broken ones are named in the log and left out.

    Args:
        topic: may be empty where the recording holds one image topic only.

    Yields:
        Time of recording in nanoseconds, and the (H, W) uint8 picture.

    Raises:
        ValueError: in one sentence, if the recording cannot be read or the topic is not in it.
    """
    with opened(path) as recording:
        topic = recording.image_topic(topic)
        decode: Any = _IMAGES[recording.types[topic]]
        for _, stamp, message in recording.messages(topic):
            try:
                yield stamp, decode(message)
            except ImageError as error:
                _log.warning("frame at %d ns of '%s' is left out: %s", stamp, topic, error)


@contextmanager
def opened(path: str | Path) -> Iterator[Recording]:
    """A recording, to be read within the `with` block.

    Raises:
        ValueError: in one sentence, if it cannot be read.
    """
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    written_for = mcap.profile(Path(path))
    if written_for not in (None, "ros2"):
        what = f"of profile '{written_for}'" if written_for else "without a profile"
        raise ValueError(f"bag '{path}' is an MCAP file {what}, allowed is profile 'ros2'")
    # rosbags takes a ROS 2 recording as a folder or as its file, a ROS 1 bag as its file.
    try:
        with mcap.any_channels():
            reader = AnyReader([Path(path)], default_typestore=get_typestore(Stores.ROS2_JAZZY))
            reader.open()
    except Exception as error:  # its parsers' own as well
        raise ValueError(f"bag '{path}' cannot be read: {error}") from error
    try:
        yield Recording(Path(path), reader)
    finally:
        reader.close()
