"""Sequences for the evaluation of tracks, with their ground truth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.evaluation import pairs, sequences
from superpoint_ros.evaluation.pose_files import Poses
from superpoint_ros.evaluation.track_truth import LineTruth, PointTruth, Truth, planar, stationary
from superpoint_ros.io.images import read_grey

Image = NDArray[np.uint8]

SIMULATED = ("flight", "room")
"""Names of the simulated sources."""
FRAMES = 100
"""Default number of frames of a simulated source."""
STILL_METRES, STILL_DEGREES = 0.01, 0.3
"""Maximum motion relative to the first pose of a stationary camera: above the noise of motion capture."""


@dataclass(frozen=True)
class Source:
    """Frames in order of time, with their ground truth.

    Attributes:
        kind: simulation, layout of the recording, or planar.
        times: (N,) seconds.
        truth: the ground truth; its indices are those of the frames.
        frames: (H, W) or (H, W, 3) BGR uint8 images.
        skipped: a sentence for every unused item of a recording.
    """

    name: str
    kind: str
    times: NDArray[np.float64]
    truth: Truth
    frames: Iterable[Image]
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.times)

    def __iter__(self) -> Iterator[Image]:
        return iter(self.frames)


@dataclass(frozen=True)
class _Files:
    """Images read lazily from files."""

    paths: tuple[Path, ...]

    def __iter__(self) -> Iterator[Image]:
        return (read_grey(path) for path in self.paths)


@dataclass(frozen=True)
class _Views:
    """Images rendered lazily by a simulated camera."""

    camera: Any
    times: NDArray[np.float64]

    def __iter__(self) -> Iterator[Image]:
        return (self.camera.frame(float(seconds)) for seconds in self.times)


def open_source(name: str, frames: int | None = None, rate: float = 10.0, start: int = 0) -> Source:
    """Open a source by name.

    Args:
        name: flight or room; a folder in the layout of EuRoC, TUM RGB-D or KITTI odometry; or one with images of a
            plane and their homographies, in HPatches layout.
        frames: maximum number of frames; None for all of a recording and `FRAMES` of a simulation.
        rate: frames per second of simulations and of images of a plane.
        start: first frame.

    Raises:
        ValueError: in one sentence, if there is no such source or it has fewer than two frames.
    """
    if name in SIMULATED:
        times = np.arange(start, start + (frames or FRAMES)) / rate
        return _flight(times) if name == "flight" else _room(times)
    folder = Path(name)
    if folder.is_dir() and list(folder.glob("H_1_*")):
        return _planar(folder, frames, rate, start)
    if not folder.is_dir():
        raise ValueError(f"source '{name}' is unknown, allowed is {', '.join(SIMULATED)} or the folder of a sequence")
    sequence = sequences.open_sequence(folder).part(start, frames)
    still = _is_stationary(sequence.poses)
    truth = stationary(sequence.camera.image_size) if still else LineTruth(sequence.poses, sequence.camera)
    return Source(
        sequence.name,
        sequence.layout,
        sequence.times - sequence.times[0],
        truth,
        _Files(sequence.images),
        sequence.skipped,
    )


def _flight(times: NDArray[np.float64]) -> Source:
    from superpoint_ros.simulation.flight import Flight, photograph

    flight = Flight(photograph())
    truth = planar([flight.homography(float(seconds)) for seconds in times], flight.size)
    return Source("flight", "simulation", times, truth, _Views(flight, times))


def _room(times: NDArray[np.float64]) -> Source:
    from superpoint_ros.simulation.room import Room

    room = Room()

    def transfer(points: NDArray[np.float64], i: int, j: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        return room.transfer(points, float(times[i]), float(times[j]))

    return Source("room", "simulation", times, PointTruth(transfer), _Views(room, times))


def _planar(folder: Path, frames: int | None, rate: float, start: int) -> Source:
    dataset = pairs.read_dataset(folder)
    sequence = next(iter(dataset.sequences), None)
    skipped = tuple(map(str, dataset.skipped))
    if sequence is None:
        raise ValueError(f"folder '{folder}' contains no images of a plane" + "".join(f"; {item}" for item in skipped))
    views = [(sequence.reference, np.eye(3)), *(sequence.views[number] for number in sorted(sequence.views))]
    views = views[start:][:frames]
    if len(views) < 2:
        raise ValueError(f"{len(views)} images of folder '{folder}' are selected, allowed is at least 2")
    height, width = np.max([read_grey(path).shape for path, _ in views], axis=0)
    truth = planar([homography for _, homography in views], (int(height), int(width)))
    times = np.arange(len(views)) / rate
    return Source(folder.resolve().name, "planar", times, truth, _Files(tuple(path for path, _ in views)), skipped)


def _is_stationary(poses: Poses) -> bool:
    """Tell whether all poses equal the first one, up to the noise of motion capture."""
    motion = np.linalg.inv(poses[0]) @ poses
    moved = np.linalg.norm(motion[:, :3, 3], axis=1).max()
    cosines = (np.trace(motion[:, :3, :3], axis1=1, axis2=2) - 1) / 2
    turned = np.degrees(np.arccos(np.clip(cosines, -1, 1))).max()
    return bool(moved <= STILL_METRES and turned <= STILL_DEGREES)
