"""The camera's path through the room."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def pose_at(seconds: float, period: float) -> Matrix:
    """Compute the (4, 4) matrix from the camera's frame (z forward, x right, y down) to the world's (z up).

    The camera moves around the free centre of the room while it rotates once per `period`; each motion has its own
    frequency. At 10 Hz images move by about 5 to 15 pixels from frame to frame.
    """
    t = 2 * np.pi * seconds / period
    position = [4.1 + 0.95 * np.sin(2 * t), 3.1 + 0.75 * np.sin(3 * t + 1), 1.45 + 0.3 * np.sin(4 * t + 2)]
    yaw = t + 0.35 * np.sin(3 * t + 0.5)
    pitch = -0.12 + 0.16 * np.sin(5 * t)
    roll = 0.22 * np.sin(4 * t + 1)
    level = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], np.float64)  # optical frame -> x forward, y left, z up
    pose = np.eye(4)
    pose[:3, :3] = _turn(2, yaw) @ _turn(1, -pitch) @ _turn(0, roll) @ level
    pose[:3, 3] = position
    return pose


def _turn(axis: int, angle: float) -> Matrix:
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[second, first] = np.sin(angle)
    matrix[first, second] = -np.sin(angle)
    return matrix
