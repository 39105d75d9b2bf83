"""Create the messages of the hosts without ROS 2."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from superpoint_ros.hosts.wire.typesystem import message_class, nested_types
from superpoint_ros.node.detector import Diagnostics, ns_to_stamp
from superpoint_ros.node.poses import pose_fields

_FLOAT32 = 7  # sensor_msgs/PointField


def time_message(nanoseconds: int) -> Any:
    """Create a builtin_interfaces/Time."""
    sec, nanosec = ns_to_stamp(nanoseconds)
    return message_class("builtin_interfaces/msg/Time")(sec=sec, nanosec=nanosec)


def header_message(stamp: int, frame_id: str) -> Any:
    """Create a std_msgs/Header from a stamp in nanoseconds."""
    return message_class("std_msgs/msg/Header")(stamp=time_message(stamp), frame_id=frame_id)


def create_message(type_name: str, header: Any, fields: Mapping[str, Any]) -> Any:
    """Create a message of this type from the detector's fields, with the header if the type has one."""
    own = {"header": header} if "header" in nested_types(type_name) else {}
    return _create(type_name, {**own, **fields})


def _create(type_name: str, fields: Mapping[str, Any]) -> Any:
    """Create a message; nested ones are messages, mappings, or rows of an (N, fields) array, times in nanoseconds."""
    values = dict(fields)
    for name, nested in nested_types(type_name).items():
        value = values[name]
        if isinstance(value, np.ndarray):
            values[name] = [message_class(nested)(*row) for row in value.tolist()]
        elif isinstance(value, list):
            values[name] = [_create(nested, each) if isinstance(each, Mapping) else each for each in value]
        elif isinstance(value, Mapping):
            values[name] = _create(nested, value)
        elif isinstance(value, int):
            values[name] = time_message(value)
    return message_class(type_name)(**values)


def cloud_message(header: Any, points: np.ndarray) -> Any:
    """Create a sensor_msgs/PointCloud2 from (N, 4) float32 x, y, z, score."""
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
        is_dense=bool(np.isfinite(points).all()),
    )


def image_message(stamp: int, frame_id: str, image: np.ndarray) -> Any:
    """Create a sensor_msgs/Image from (H, W) grey or (H, W, 3) BGR uint8."""
    return message_class("sensor_msgs/msg/Image")(
        header=header_message(stamp, frame_id),
        height=image.shape[0],
        width=image.shape[1],
        encoding="mono8" if image.ndim == 2 else "bgr8",
        is_bigendian=0,
        step=image.shape[1] * (3 if image.ndim == 3 else 1),
        data=np.ascontiguousarray(image).reshape(-1),
    )


def camera_info_message(header: Any, size: tuple[int, int], intrinsics: np.ndarray, baseline: float = 0.0) -> Any:
    """Create the sensor_msgs/CameraInfo of a camera without distortion.

    Args:
        size: (height, width) in pixels.
        intrinsics: (3, 3) camera matrix.
        baseline: metres from a stereo pair's left camera to this one.
    """
    projection = np.zeros((3, 4))
    projection[:, :3] = intrinsics
    projection[0, 3] = -intrinsics[0, 0] * baseline
    region = message_class("sensor_msgs/msg/RegionOfInterest")
    return message_class("sensor_msgs/msg/CameraInfo")(
        header=header,
        height=size[0],
        width=size[1],
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=np.asarray(intrinsics, np.float64).reshape(-1),
        r=np.eye(3).reshape(-1),
        p=projection.reshape(-1),
        binning_x=0,
        binning_y=0,
        roi=region(x_offset=0, y_offset=0, height=0, width=0, do_rectify=False),
    )


def pose_message(stamp: int, frame_id: str, pose: np.ndarray) -> Any:
    """Create a geometry_msgs/PoseStamped from a (4, 4) matrix from a body's frame to `frame_id`."""
    fields = {"header": header_message(stamp, frame_id), "pose": pose_fields(pose)}
    return _create("geometry_msgs/msg/PoseStamped", fields)


def diagnostics_message(node_name: str, states: Iterable[Diagnostics]) -> Any:
    """Create a diagnostic_msgs/DiagnosticArray."""
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
