"""MCAP files that hold more than messages of ROS 2, which is all that rosbags expects."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_MAGIC = b"\x89MCAP0\r\n"
_ROS_SCHEMAS = ("ros2msg", "ros2idl", "omgidl", "")
_patching = threading.Lock()


def profile(path: Path) -> str | None:
    """Read the profile in an MCAP file's header, which may be empty; None if the file is no MCAP."""
    if not path.is_file():
        return None
    with open(path, "rb") as file:
        head = file.read(4096)
    # The header's record: a code, the record's length, and the profile with its own length.
    if not head.startswith(_MAGIC + b"\x01") or len(head) < 21:
        return None
    (length,) = struct.unpack_from("<I", head, 17)
    return head[21 : 21 + length].decode(errors="replace")


@contextmanager
def any_channels() -> Iterator[None]:
    """Let rosbags open MCAP files in which some channels are JSON, Protobuf or anything else.

    Their schemas, which may be binary, become schemas without a definition. There is no other way in: rosbags reads
    schemas by functions of its module.
    """
    from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat
    from rosbags.rosbag2 import storage_mcap as module

    own_definition, own_string = module.get_msgdef, module.read_string

    def definition(schema: Any) -> MessageDefinition:
        if schema is not None and schema.encoding not in _ROS_SCHEMAS:
            return MessageDefinition(MessageDefinitionFormat.NONE, "")
        return own_definition(schema)

    def string(bio: Any) -> str:
        return module.read_bytes(bio).decode(errors="replace")

    with _patching:
        module.get_msgdef, module.read_string = definition, string
        try:
            yield
        finally:
            module.get_msgdef, module.read_string = own_definition, own_string
