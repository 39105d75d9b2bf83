"""Create endpoints that announce the name of their type but not its structure, as ROS 2's do.

If both reader and writer announce a structure, Cyclone DDS compares the structures, not the names. Ours is a
placeholder
of one byte: it would match no program that announces the true structure, but every other placeholder, whatever its
message type. If either announces none, Cyclone DDS compares names (XTypes 1.3, 7.6.3.4.2), but its Python API cannot
create a topic without a structure. Its C interface for custom types (ddsi_sertype.h) makes the three functions that
return the structure optional, so they are removed while an endpoint is created.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cyclonedds.core import Entity

logger = logging.getLogger(__name__)


class _Operations(ctypes.Structure):
    """struct ddsi_sertype_ops."""

    _fields_ = [
        (name, ctypes.c_void_p)
        for name in (
            "version", "arg", "free", "zero_samples", "realloc_samples", "free_samples", "equal", "hash",
            "type_id", "type_map", "type_info",
            "derive_sertype", "get_serialized_size", "serialize_into",
        )
    ]  # fmt: skip


class _SerType(ctypes.Structure):
    """The beginning of struct ddsi_sertype."""

    _fields_ = [("operations", ctypes.POINTER(_Operations))]


_lock = threading.Lock()
_without_type_info: dict[
    int, _Operations
] = {}  # by address of the original; kept alive, as Cyclone DDS does not copy them


@contextmanager
def match_by_name(topic: Entity) -> Iterator[None]:
    """Make endpoints of this topic that are created in the block match by the names of topic and type alone."""
    with _lock:
        sertype = _sertype(topic)
        if sertype is None:
            yield
            return
        original = sertype.operations
        sertype.operations = ctypes.pointer(_without_structure(original))
        try:
            yield
        finally:
            sertype.operations = original


def _sertype(topic: Entity) -> Any:
    library = topic._dll_handle
    try:
        get, version = library.dds_get_entity_sertype, library.ddsi_sertype_v0
    except AttributeError:
        logger.debug("this version of Cyclone DDS does not expose its types")
        return None
    found = ctypes.POINTER(_SerType)()
    get.argtypes, get.restype = (ctypes.c_int32, ctypes.c_void_p), ctypes.c_int32
    if get(topic._ref, ctypes.byref(found)) < 0 or not found:
        return None
    # The layout is only guaranteed for this version.
    if found.contents.operations.contents.version != ctypes.cast(version, ctypes.c_void_p).value:
        logger.debug("this version of Cyclone DDS has another layout of types")
        return None
    return found.contents


def _without_structure(original: Any) -> _Operations:
    address = ctypes.addressof(original.contents)
    if address not in _without_type_info:
        copy = _Operations.from_buffer_copy(original.contents)
        copy.type_id = copy.type_map = copy.type_info = None
        _without_type_info[address] = copy
    return _without_type_info[address]
