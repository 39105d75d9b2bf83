"""Endpoints that announce the name of their type and not its structure, as those of ROS 2 do.

Where reader and writer both announce a structure, Cyclone DDS compares the structures and not the names. Ours is that
of the carrier, one byte: it matches no program that announces the true one, and every other carrier, whatever message
it is for. Cyclone DDS compares names where one of the two announces none (XTypes 1.3, 7.6.3.4.2), which it does not
offer in Python: a topic is not created without a structure. Its interface for makers of types (ddsi_sertype.h) leaves
the three functions optional that give the structure, so they are taken away while an endpoint is created.
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
_nameless: dict[int, _Operations] = {}  # by address of the original; kept, as Cyclone DDS has no copy of its own


@contextmanager
def by_name_only(topic: Entity) -> Iterator[None]:
    """Endpoints of this topic that are created meanwhile match by the names of topic and type alone."""
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
        logger.debug("this version of Cyclone DDS does not give its types out")
        return None
    found = ctypes.POINTER(_SerType)()
    get.argtypes, get.restype = (ctypes.c_int32, ctypes.c_void_p), ctypes.c_int32
    if get(topic._ref, ctypes.byref(found)) < 0 or not found:
        return None
    # The layout is promised for this mark only.
    if found.contents.operations.contents.version != ctypes.cast(version, ctypes.c_void_p).value:
        logger.debug("this version of Cyclone DDS lays out its types otherwise")
        return None
    return found.contents


def _without_structure(original: Any) -> _Operations:
    address = ctypes.addressof(original.contents)
    if address not in _nameless:
        copy = _Operations.from_buffer_copy(original.contents)
        copy.type_id = copy.type_map = copy.type_info = None
        _nameless[address] = copy
    return _nameless[address]
