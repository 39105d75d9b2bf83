"""Find rclpy's message classes, and fill messages with the detector's fields."""

from __future__ import annotations

import array
import functools
import importlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from superpoint_ros.node.detector import ns_to_stamp

_TYPECODES = {"float32": "f", "float64": "d", "uint8": "B", "uint32": "I", "int64": "q"}
_NESTED = re.compile(r"(?:sequence<)?(\w+)/(?:msg/)?(\w+)[\[,>]?")


@functools.cache
def message_class(type_name: str) -> Any:
    """Return the class of a message type, as in `message_class("sensor_msgs/msg/Image")`.

    Raises:
        ValueError: in one sentence, if its package is not installed.
    """
    package, _, name = type_name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"message type {type_name} is not installed ({error}), install it with: "
            f"apt install ros-$ROS_DISTRO-{package.replace('_', '-')}"
        ) from error


def fill_message(message: Any, fields: Mapping[str, Any]) -> Any:
    """Fill the fields of a message and return it; fields that an older release of the message lacks are left out.

    Nested messages are mappings, lists of them also (N, fields) arrays with a row for each; times are nanoseconds.
    """
    types = message.get_fields_and_field_types()
    for name, value in fields.items():
        if name in types:
            nested = _NESTED.match(types[name])
            of_any_length = types[name].startswith("sequence")
            converted = _nested(value, "/msg/".join(nested.groups())) if nested else _field(value, of_any_length)
            setattr(message, name, converted)
    return message


def _nested(value: Any, type_name: str) -> Any:
    """Convert a field of nested messages; messages are left as they are."""
    create = message_class(type_name)
    if isinstance(value, np.ndarray):
        names = list(create.get_fields_and_field_types())
        return [create(**dict(zip(names, row, strict=True))) for row in value.tolist()]
    if isinstance(value, list):
        return [_nested(each, type_name) for each in value]
    if isinstance(value, int):
        seconds, nanoseconds = ns_to_stamp(value)
        return create(sec=seconds, nanosec=nanoseconds)
    return fill_message(create(), value) if isinstance(value, Mapping) else value


def _field(value: Any, of_any_length: bool) -> Any:
    """Convert NumPy arrays to what rclpy's setters copy fastest: array.array if it has a type code.

    Args:
        of_any_length: whether the field has no fixed number of elements.
    """
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype == bool:
        return value.tolist()
    if value.dtype == np.float64 and not of_any_length:
        return value  # the fixed-size fields are NumPy arrays in rclpy
    numbers = array.array(_TYPECODES[value.dtype.name])
    numbers.frombytes(memoryview(np.ascontiguousarray(value)).cast("B"))  # type: ignore[arg-type]
    return numbers
