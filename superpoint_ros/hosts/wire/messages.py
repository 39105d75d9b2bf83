"""Fields -> messages of the standalone host."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from superpoint_ros.hosts.wire.typesystem import message_class
from superpoint_ros.node.detector import Diagnostics, ns_to_stamp

_FLOAT32 = 7  # sensor_msgs/PointField


def time_message(nanoseconds: int) -> Any:
    """builtin_interfaces/Time."""
    sec, nanosec = ns_to_stamp(nanoseconds)
    return message_class("builtin_interfaces/msg/Time")(sec=sec, nanosec=nanosec)


def header_message(stamp: int, frame_id: str) -> Any:
    """std_msgs/Header; the stamp in nanoseconds."""
    return message_class("std_msgs/msg/Header")(stamp=time_message(stamp), frame_id=frame_id)


def filled(type_name: str, header: Any, fields: Mapping[str, Any]) -> Any:
    """A message of this type from the detector's fields."""
    values = dict(fields)
    if "reference_stamp" in values:
        values["reference_stamp"] = time_message(values["reference_stamp"])
    return message_class(type_name)(header=header, **values)


def cloud_message(header: Any, points: np.ndarray) -> Any:
    """sensor_msgs/PointCloud2 of (N, 4) float32 x, y, z, score."""
    field = message_class("sensor_msgs/msg/PointField")
    names = ("x", "y", "z", "score")
    return message_class("sensor_msgs/msg/PointCloud2")(
        header=header,
        height=1,
        width=len(points),
        fields=[field(name=name, offset=4 * i, datatype=_FLOAT32, count=1) for i, name in enumerate(names)],
        is_bigendian=False,
        point_step=16,
        row_step=16 * len(points),
        data=np.ascontiguousarray(points, "<f4").view(np.uint8).reshape(-1),
        is_dense=True,
    )


def image_message(stamp: int, frame_id: str, image: np.ndarray) -> Any:
    """sensor_msgs/Image of (H, W) grey or (H, W, 3) BGR uint8."""
    return message_class("sensor_msgs/msg/Image")(
        header=header_message(stamp, frame_id),
        height=image.shape[0],
        width=image.shape[1],
        encoding="mono8" if image.ndim == 2 else "bgr8",
        is_bigendian=0,
        step=image.shape[1] * (3 if image.ndim == 3 else 1),
        data=np.ascontiguousarray(image).reshape(-1),
    )


def diagnostics_message(node_name: str, states: Iterable[Diagnostics]) -> Any:
    """diagnostic_msgs/DiagnosticArray."""
    key_value, status = (message_class(f"diagnostic_msgs/msg/{name}") for name in ("KeyValue", "DiagnosticStatus"))
    found = [
        status(
            level=state.level,
            name=f"{node_name.strip('/')}: {state.name}",
            message=state.message,
            hardware_id=state.hardware_id,
            values=[key_value(key=key, value=value) for key, value in state.values.items()],
        )
        for state in states
    ]
    return message_class("diagnostic_msgs/msg/DiagnosticArray")(header=header_message(time.time_ns(), ""), status=found)
