"""Sequences for the evaluation of the whole odometry, with one camera or two."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.evaluation import simulated
from superpoint_ros.evaluation.pose_files import Poses
from superpoint_ros.evaluation.sequences import Sequence, open_sequence
from superpoint_ros.evaluation.stereo import open_stereo
from superpoint_ros.io.images import read_grey, to_grey
from superpoint_ros.node.camera import Camera

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class SystemSequence:
    """Images of a moving camera or stereo pair, with its poses.

    Attributes:
        times: (N,) seconds.
        poses: (N, 4, 4) of the (left) camera, to the world, in metres.
        camera: its calibration.
        baseline: distance of the right camera in metres; 0 for a single camera.
        images: yields the grey image of each moment and, with a right camera, its image.
    """

    name: str
    times: NDArray[np.float64]
    poses: Poses
    camera: Camera
    baseline: float
    images: Callable[[], Iterator[tuple[Image, Image | None]]]

    def __len__(self) -> int:
        return len(self.times)


def open_source(
    source: str,
    stereo: bool,
    start: int = 0,
    frames: int | None = None,
    every: int = 1,
    camera_info: Path | None = None,
) -> SystemSequence:
    """Open "room", a simulated flight of a minute, or the folder of a sequence.

    Args:
        stereo: with the images of the right camera, which EuRoC and TUM sequences do not give here.
        start, frames, every: the frames that are used.
        camera_info: calibration of a single camera, instead of the layout's own.

    Raises:
        ValueError: in one sentence, if there is no such sequence.
    """
    chosen = slice(start, None if frames is None else start + frames * every, every)
    if camera_info is not None and (stereo or source == "room"):
        raise ValueError(f"--camera-info is '{camera_info}', allowed is none with stereo and in the room")
    if source == "room":
        return _room(stereo, chosen)
    if not stereo:
        sequence = open_sequence(source, camera_info).part(start, frames, every)
        return SystemSequence(
            sequence.name, sequence.times, sequence.poses, sequence.camera, 0.0, lambda: _singles(sequence)
        )
    pairs = open_stereo(source)
    times = np.arange(len(pairs.poses)) / pairs.rate
    left = open_sequence(source).camera

    def images() -> Iterator[tuple[Image, Image | None]]:
        for index, (one, two) in enumerate(open_stereo(source).frames):
            if index in range(len(times))[chosen]:
                yield to_grey(one), to_grey(two)

    return SystemSequence(pairs.name, times[chosen], pairs.poses[chosen], left, pairs.baseline, images)


def _singles(sequence: Sequence) -> Iterator[tuple[Image, Image | None]]:
    return ((read_grey(path), None) for path in sequence.images)


def _room(stereo: bool, chosen: slice) -> SystemSequence:
    room, times = simulated.room(), simulated.room_times()[chosen]
    poses, camera = np.array([room.pose(time) for time in times.tolist()]), simulated.room_camera(room)

    def images() -> Iterator[tuple[Image, Image | None]]:
        for time in times.tolist():
            yield to_grey(room.frame(time)), to_grey(room.frame(time, camera=1)) if stereo else None

    return SystemSequence("room", times, poses, camera, room.baseline if stereo else 0.0, images)
