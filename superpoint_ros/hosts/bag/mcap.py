"""Support for MCAP files with more than ROS 2 messages, which rosbags does not expect."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_MAGIC = b"\x89MCAP0\r\n"
_ROS_SCHEMAS = ("ros2msg", "ros2idl", "omgidl", "")
_patch_lock = threading.Lock()


def profile(path: Path) -> str | None:
    """Read the profile in an MCAP file's header, which may be empty; None if the file is not MCAP."""
    if not path.is_file():
        return None
    with open(path, "rb") as file:
        head = file.read(4096)
    # The header record: an opcode, the record length, and the length-prefixed profile.
    if not head.startswith(_MAGIC + b"\x01") or len(head) < 21:
        return None
    (length,) = struct.unpack_from("<I", head, 17)
    return head[21 : 21 + length].decode(errors="replace")


@contextmanager
def tolerate_other_encodings() -> Iterator[None]:
    """Let rosbags open MCAP files in which some channels are JSON, Protobuf or another encoding.

    Replaces their schemas, which may be binary, by empty definitions. Patching is the only way: rosbags reads schemas
    with module-level functions.
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

    with _patch_lock:
        module.get_msgdef, module.read_string = definition, string
        try:
            yield
        finally:
            module.get_msgdef, module.read_string = own_definition, own_string
