"""Write messages to a new recording, which any ROS 2 tool can read."""

from __future__ import annotations

import sqlite3
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from superpoint_ros.hosts.wire.typesystem import serialize, typestore
from superpoint_ros.node.errors import StandaloneError

if TYPE_CHECKING:
    from rosbags.rosbag2 import Writer

STORAGES = ("mcap", "sqlite3")
_WRITE_ERRORS = (OSError, sqlite3.Error)


class BagWriter:
    """A bag open for writing. It is readable after `close`, even if the work was interrupted.

    Args:
        out: folder of the bag; must not exist.
        storage: one of `STORAGES`.
        topics: name and type of each topic, by any key.

    Raises:
        StandaloneError: in one sentence, if it cannot be written, or if two topics have the same name.
    """

    def __init__(self, out: str | Path, storage: str, topics: Mapping[Any, tuple[str, str]]) -> None:
        names = [name for name, _ in topics.values()]
        if len(set(names)) < len(names):
            raise StandaloneError(f"two outputs have the same name, they are {', '.join(names)}")
        self._out, types = Path(out), typestore()
        self._failure: Exception | None = None
        self._writer = _open_writer(self._out, storage)
        self._connections = {
            place: (self._writer.add_connection(name, type_name, typestore=types), type_name)
            for place, (name, type_name) in topics.items()
        }

    def __contains__(self, place: Hashable) -> bool:
        return place in self._connections

    def write(self, place: Hashable, stamp: int, message: Any) -> None:
        """Write a message of the topic with this key, at a time of recording in nanoseconds.

        Raises:
            StandaloneError: in one sentence, if it cannot be written.
        """
        connection, type_name = self._connections[place]
        try:
            self._writer.write(connection, stamp, serialize(message, type_name))
        except _WRITE_ERRORS as error:
            self._failure = error
            raise self._error(error) from error

    def check(self) -> None:
        """Raise the error of an earlier `write` again, which its caller may have handled."""
        if self._failure is not None:
            raise self._error(self._failure)

    def close(self) -> None:
        """Finish the bag with its index.

        Raises:
            StandaloneError: in one sentence, if it cannot be written.
        """
        try:
            self._writer.close()
        except _WRITE_ERRORS as error:
            raise self._error(error) from error

    def _error(self, error: Exception) -> StandaloneError:
        return StandaloneError(f"bag '{self._out}' cannot be written: {error}")


def _open_writer(out: Path, storage: str) -> Writer:
    from rosbags.rosbag2 import StoragePlugin, Writer, WriterError

    if storage not in STORAGES:
        raise StandaloneError(f"storage is '{storage}', allowed is one of {', '.join(STORAGES)}")
    if out.exists():
        raise StandaloneError(f"'{out}' already exists, a bag is written to a new folder")
    if storage == "sqlite3" and set("?#%") & set(str(out)):
        raise StandaloneError(f"'{out}' contains ?, # or %, which is not allowed in the path of a bag in sqlite3")
    # The oldest version that rosbags writes, which all newer tools can read.
    writer = Writer(out, version=8, storage_plugin=StoragePlugin[storage.upper()])
    try:
        writer.open()
    except (WriterError, *_WRITE_ERRORS) as error:
        raise StandaloneError(f"bag '{out}' cannot be written: {error}") from error
    return writer
