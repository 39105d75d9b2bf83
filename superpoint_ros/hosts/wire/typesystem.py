"""Message types: Python classes, serialisation (CDR) and names in DDS."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

from superpoint_ros.hosts.wire.definitions import DEFINITIONS
from superpoint_ros.hosts.wire.text import read_leniently
from superpoint_ros.io.resources import share_directory
from superpoint_ros.node.errors import StandaloneError

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

PACKAGE = "superpoint_ros"
_TYPE_NAME = re.compile(r"[a-z][a-z0-9_]*/msg/[A-Za-z][A-Za-z0-9]*")


@functools.cache
def typestore() -> Typestore:
    """Load the message types of ROS 2 Jazzy, of `DEFINITIONS` and of this package.

    Raises:
        StandaloneError: if rosbags is not installed, or this package was installed without its messages.
    """
    try:
        from rosbags.typesys import Stores, get_types_from_msg, get_typestore
    except ImportError as error:
        raise StandaloneError(
            f"package 'rosbags' is not installed ({error}), install it with: pip install rosbags"
        ) from error
    store = get_typestore(Stores.ROS2_JAZZY)
    definitions = {}
    for name, text in DEFINITIONS.items():
        definitions.update(get_types_from_msg("\n".join(map(str.strip, text.splitlines())), name))
    try:
        folder = share_directory() / "msg"
    except FileNotFoundError as error:
        raise StandaloneError(str(error)) from error
    for path in sorted(folder.glob("*.msg")):
        definitions.update(get_types_from_msg(path.read_text(encoding="utf-8"), f"{PACKAGE}/msg/{path.stem}"))
    store.register(definitions)
    return store


def message_class(type_name: str) -> Any:
    """Return the dataclass of a message type, as in `message_class("sensor_msgs/msg/Image")`.

    Numeric arrays and sequences are NumPy arrays of the element type, all other sequences are lists.

    Raises:
        StandaloneError: if the type is unknown or rosbags is not installed.
    """
    check_type(type_name)
    return typestore().types[type_name]


@functools.cache
def nested_types(type_name: str) -> dict[str, str]:
    """Return the type of each field that is a message or a sequence of messages, without the others."""
    found = {}
    for name, (kind, inner) in typestore().fielddefs[type_name][1]:
        while isinstance(inner, tuple) and isinstance(inner[0], tuple):  # arrays and sequences: ((kind, inner), length)
            (kind, inner), _ = inner
        if kind.name == "NAME":
            found[name] = str(inner)
    return found


def check_type(type_name: str) -> str:
    """Return `type_name` if it is known.

    Raises:
        StandaloneError: if it is not.
    """
    if type_name not in typestore().types:
        kind = "unknown" if _TYPE_NAME.fullmatch(type_name) else "invalid"
        raise StandaloneError(
            f"message type {type_name!r} is {kind}, allowed are the types of ROS 2 Jazzy's common packages, of "
            f"{PACKAGE} and some of foxglove_msgs, as in sensor_msgs/msg/Image"
        )
    return type_name


def serialize(message: Any, type_name: str) -> bytes:
    """Serialise a message as little-endian CDR (XCDR version 1) with encapsulation header, padded to 4 bytes.

    Raises:
        StandaloneError: if the message has another type or a field does not fit its type.
    """
    actual = getattr(message, "__msgtype__", type(message).__name__)
    if actual != type_name:
        raise StandaloneError(f"message is of type {actual}, allowed is {type_name}")
    try:
        data = typestore().serialize_cdr(message, type_name, little_endian=True)
    except Exception as error:
        raise StandaloneError(f"message does not fit {type_name}: {error}") from error
    return b"".join((data, bytes(-len(data) % 4)))


def deserialize(data: bytes, type_name: str) -> Any:
    """Deserialise a message; its arrays are read-only views of `data`. Strings need not be UTF-8.

    Raises:
        StandaloneError: if `data` is not a message of this type.
    """
    try:
        return read_leniently(lambda view: typestore().deserialize_cdr(view, type_name), data)
    except Exception as error:
        raise StandaloneError(f"{len(data)} bytes received are not a message of type {type_name}: {error}") from error


def type_hash(type_name: str) -> str:
    """Compute the type hash (REP 2016), as in "RIHS01_...", by which ROS 2 compares definitions."""
    return typestore().hash_rihs01(check_type(type_name))


def dds_type_name(type_name: str) -> str:
    """Return the type's name in DDS: "sensor_msgs/msg/Image" is "sensor_msgs::msg::dds_::Image_"."""
    package, kind, name = type_name.split("/")
    return f"{package}::{kind}::dds_::{name}_"


def dds_topic_name(topic: str) -> str:
    """Return the DDS name of an absolute topic: "/camera/image" is "rt/camera/image"."""
    return "rt" + topic
