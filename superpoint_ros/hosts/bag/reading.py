"""Read ROS recordings without a ROS install: ROS 1 bags, and ROS 2 bags in MCAP or SQLite."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.extraction.superpoint import ImageError
from superpoint_ros.hosts.bag import mcap
from superpoint_ros.hosts.wire.text import read_leniently
from superpoint_ros.hosts.wire.typesystem import typestore
from superpoint_ros.io.images import MAX_PIXELS
from superpoint_ros.node.images import Grey, grey_from_compressed, grey_from_image
from superpoint_ros.node.topics import VIDEO_TYPE
from superpoint_ros.node.video import VideoStream, require_decoder

_log = logging.getLogger(__name__)
_SUFFIXES = {".bag", ".mcap", ".db3"}
_IMAGES: dict[str, Callable[[Any], Grey]] = {
    "sensor_msgs/msg/Image": grey_from_image,
    "sensor_msgs/msg/CompressedImage": grey_from_compressed,
    "foxglove_msgs/msg/CompressedImage": grey_from_compressed,
}


def is_bag(path: str | Path) -> bool:
    """Tell whether a path looks like a recording: a file with its suffix, or a folder with metadata.yaml."""
    path = Path(path)
    return (path.is_file() and path.suffix in _SUFFIXES) or (path / "metadata.yaml").is_file()


class Recording:
    """A recording open for reading.

    Attributes:
        path: of the recording.
        types: message type by topic.
        unreadable: number of unreadable messages so far, by topic.
    """

    def __init__(self, path: Path, reader: Any) -> None:
        self.path, self._reader = path, reader
        self._connections = [c for c in reader.connections if _encoding(c) == "cdr"]
        self.types: dict[str, str] = {c.topic: c.msgtype for c in self._connections}
        self.unreadable: Counter[str] = Counter()

    @contextmanager
    def reopened(self) -> Iterator[Recording]:
        """Open the recording once more, to read from two places by turns; both count in `unreadable`.

        Iterators of one reader may share its position in the file.
        """
        with _reader(self.path) as reader:
            other = Recording(self.path, reader)
            other.unreadable = self.unreadable
            yield other

    def image_topic(self, name: str = "") -> str:
        """Resolve an image topic; the name may be empty if the recording has only one.

        Raises:
            ValueError: in one sentence, if there is no such image topic.
        """
        held = sorted(topic for topic, type_ in self.types.items() if type_ in (*_IMAGES, VIDEO_TYPE))
        if not held:
            raise ValueError(f"bag '{self.path}' contains no image topic")
        if name not in held and (name or len(held) > 1):
            asked = f"topic '{name}' is not among the image topics" if name else "several image topics, name one of"
            raise ValueError(f"bag '{self.path}': {asked} {', '.join(held)}")
        return name or held[0]

    def count(self, topic: str) -> int:
        """Return the number of messages of a topic."""
        return sum(c.msgcount for c in self._connections if c.topic == topic)

    def messages(self, *topics: str) -> Iterator[tuple[str, int, Any]]:
        """Yield topic, time of recording in nanoseconds and message, in the recording's order.

        Unreadable messages are logged, counted in `unreadable` and skipped. Text that is not UTF-8 is no error.

        Raises:
            ValueError: in one sentence, if the recording is damaged.
        """
        for connection, stamp, data in self._raw([c for c in self._connections if c.topic in topics]):
            try:
                message = read_leniently(partial(self._reader.deserialize, typ=connection.msgtype), data)
            except Exception as error:  # parsers raise anything
                self.unreadable[connection.topic] += 1
                _log.warning("message at %d ns of '%s' is skipped: %s", stamp, connection.topic, error)
                continue
            yield connection.topic, stamp, message

    def _raw(self, connections: list[Any]) -> Iterator[tuple[Any, int, bytes]]:
        found = self._reader.messages(connections)
        while True:
            try:
                one = next(found)
            except StopIteration:
                return
            except Exception as error:  # rosbags passes on any error of its parsers
                raise ValueError(f"bag '{self.path}' cannot be read further: {error}") from error
            yield one


def _encoding(connection: Any) -> str:
    """Return the serialisation of a connection's messages; ROS 1 bags, which do not state it, count as CDR."""
    return str(getattr(connection.ext, "serialization_format", "cdr"))


def read_images(path: str | Path, topic: str = "") -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Read the frames of one image topic of a recording, in order; unusable ones are logged and skipped.

    Args:
        topic: may be empty if the recording has only one image topic.

    Yields:
        Time of recording in nanoseconds, and the (H, W) uint8 image.

    Raises:
        ValueError: in one sentence, if the recording cannot be read or the topic is not in it.
    """
    with open_recording(path) as recording:
        topic = recording.image_topic(topic)
        decode = _decoder(recording.types[topic], topic)
        for _, stamp, message in recording.messages(topic):
            try:
                for image in decode(message):
                    yield stamp, image
            except ImageError as error:
                _log.warning("frame at %d ns of '%s' is skipped: %s", stamp, topic, error)


def _decoder(type_name: str, topic: str) -> Callable[[Any], Iterator[Grey]]:
    """Return what decodes the messages of a topic, given in their order; those of a video may have no image."""
    if type_name != VIDEO_TYPE:
        return lambda message: iter((_IMAGES[type_name](message),))

    def report(reason: str | None) -> None:
        if reason is not None:
            _log.warning("video '%s': %s", topic, reason)

    require_decoder()
    video = VideoStream(MAX_PIXELS, report)
    return lambda message: (frame.grey() for frame in video.decode(message))


@contextmanager
def open_recording(path: str | Path) -> Iterator[Recording]:
    """Open a recording for the duration of the `with` block.

    Raises:
        ValueError: in one sentence, if it cannot be read.
    """
    with _reader(Path(path)) as reader:
        others = {c.topic: _encoding(c) for c in reader.connections if _encoding(c) != "cdr"}
        if others:
            listed = ", ".join(f"{topic} ({encoding or 'unknown'})" for topic, encoding in sorted(others.items()))
            _log.warning("bag '%s': topics without ROS messages are skipped: %s", path, listed)
        yield Recording(Path(path), reader)


@contextmanager
def _reader(path: Path) -> Iterator[Any]:
    """Open the reader of a recording; see `open_recording`."""
    from rosbags.highlevel import AnyReader

    written_for = mcap.profile(path)
    if written_for not in (None, "ros2"):
        what = f"of profile '{written_for}'" if written_for else "without a profile"
        raise ValueError(f"bag '{path}' is an MCAP file {what}, allowed is profile 'ros2'")
    # rosbags accepts the folder or the file of a ROS 2 recording, and the file of a ROS 1 bag.
    try:
        with mcap.tolerate_other_encodings():
            reader = AnyReader([path], default_typestore=typestore())
            reader.open()
    except Exception as error:  # including those of its parsers
        raise ValueError(f"bag '{path}' cannot be read: {error}") from error
    try:
        yield reader
    finally:
        reader.close()
