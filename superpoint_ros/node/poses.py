"""Poses as (4, 4) matrices, and the fields of geometry_msgs for them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def quaternion(rotation: Array) -> tuple[float, float, float, float]:
    """Convert a (3, 3) rotation to x, y, z, w: the dominant eigenvector of Bar-Itzhack's matrix (2000)."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation.tolist()
    symmetric = np.array(
        [
            [xx - yy - zz, yx + xy, zx + xz, zy - yz],
            [yx + xy, yy - xx - zz, zy + yz, xz - zx],
            [zx + xz, zy + yz, zz - xx - yy, yx - xy],
            [zy - yz, xz - zx, yx - xy, xx + yy + zz],
        ]
    )
    x, y, z, w = np.linalg.eigh(symmetric)[1][:, -1].tolist()
    return (x, y, z, w) if w >= 0 else (-x, -y, -z, -w)


def pose_fields(pose: Array) -> dict[str, Any]:
    """Build the fields of geometry_msgs/Pose."""
    x, y, z = pose[:3, 3].tolist()
    qx, qy, qz, qw = quaternion(pose[:3, :3])
    return {"position": {"x": x, "y": y, "z": z}, "orientation": {"x": qx, "y": qy, "z": qz, "w": qw}}


def transform_fields(header: dict[str, Any], child: str, pose: Array) -> dict[str, Any]:
    """Build the fields of geometry_msgs/TransformStamped."""
    fields = pose_fields(pose)
    transform = {"translation": fields["position"], "rotation": fields["orientation"]}
    return {"header": header, "child_frame_id": child, "transform": transform}


def twist_fields(before: Array, pose: Array, seconds: float) -> dict[str, Any]:
    """Build the fields of geometry_msgs/Twist in the later pose's frame, from the poses at both ends of an interval."""
    linear = pose[:3, :3].T @ (pose[:3, 3] - before[:3, 3]) / seconds
    turn = before[:3, :3].T @ pose[:3, :3]
    axis = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]) / 2
    sine = float(np.linalg.norm(axis))
    angle = float(np.arctan2(sine, (np.trace(turn) - 1) / 2))
    angular = axis * (angle / sine if sine > 1e-12 else 1.0) / seconds
    return {key: dict(zip("xyz", value.tolist(), strict=True)) for key, value in
            (("linear", linear), ("angular", angular))}  # fmt: skip


def matrix_from_pose(pose: Any) -> Array:
    """Convert a geometry_msgs/Pose to a (4, 4) matrix."""
    x, y, z, w = pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, 3] = pose.position.x, pose.position.y, pose.position.z
    return matrix
