"""The furnished room as a sequence: poses, and where every point of a frame lies in another."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from superpoint_ros.evaluation.sequences import Sequence
from superpoint_ros.io.images import to_grey, write_image
from superpoint_ros.node.camera import PINHOLE, Camera
from superpoint_ros.simulation.room import Room

SECONDS = 60.0
"""Period of the path."""
RATE = 10.0
"""Frames per second."""


def room() -> Room:
    return Room(seconds_per_loop=SECONDS)


def room_times() -> np.ndarray:
    """Return the times of the frames of one loop, in seconds."""
    return np.arange(round(SECONDS * RATE)) / RATE


def room_camera(simulated: Room) -> Camera:
    matrix = simulated.intrinsics
    return Camera(simulated.size, matrix, np.zeros(5), False, PINHOLE, np.eye(3), matrix)


def render_room(folder: Path, start: int = 0, frames: int | None = None, every: int = 1) -> Sequence:
    """Render frames of the room as PNG files in a folder; see `Sequence.part` for the other arguments.

    Raises:
        ValueError: if fewer than two frames are selected.
    """
    simulated, times = room(), room_times()
    poses = np.array([simulated.pose(time) for time in times.tolist()])
    images = tuple(folder / f"{index:06d}.png" for index in range(len(times)))
    camera, transfer = room_camera(simulated), simulated.transfer
    sequence = Sequence("room", "simulation", images, times, poses, camera, transfer=transfer).part(
        start, frames, every
    )
    for path, time in zip(sequence.images, sequence.times.tolist(), strict=True):
        write_image(path, to_grey(simulated.frame(time)))
    return sequence
