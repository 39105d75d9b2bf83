"""The image sources of the demo: the simulated flight, or the user's images, videos or cameras."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from superpoint_ros.io.images import list_images, read_colour
from superpoint_ros.simulation.flight import Flight, Matrix, photograph
from superpoint_ros.simulation.room import Room

Image = NDArray[np.uint8]

ROOM, STEREO_ROOM = "room", "room_stereo"


@dataclass(frozen=True)
class SourceFrame:
    """One frame of a source.

    Attributes:
        image: (H, W) or (H, W, 3) uint8.
        time: seconds since the first frame.
        truth: the true homography from a fixed plane to this frame, if known.
        pose: (4, 4) matrix from the camera's frame to the world's, if known.
        intrinsics: (3, 3) camera matrix of an undistorted image, if known.
        right: image of the right camera of a stereo pair, if any.
        baseline: distance in metres between the cameras of a stereo pair.
    """

    image: Image
    time: float
    truth: Matrix | None = None
    pose: Matrix | None = None
    intrinsics: Matrix | None = None
    right: Image | None = None
    baseline: float = 0.0


def open_source(name: str, rate: float, frames: int, skipped: list[str] | None = None) -> Iterator[SourceFrame]:
    """Open a source of images.

    A source is "flight", "room", "room_stereo", a folder, a video file, the number of a camera device, or a EuRoC
    sequence.

    Args:
        rate: frames per second, for sources without timestamps.
        frames: maximum number of frames.
        skipped: list that receives a sentence for each file that cannot be read.

    Raises:
        ValueError: in one sentence, if there is no such source.
    """
    path, skipped = Path(name), [] if skipped is None else skipped
    if name == "flight":
        source = _flight(rate)
    elif name in (ROOM, STEREO_ROOM):
        source = _room(rate, stereo=name == STEREO_ROOM)
    elif name.isdigit():
        source = _video(int(name), rate)
    elif euroc := next((folder for folder in (path, path / "cam0", path / "mav0" / "cam0") if _is_euroc(folder)), None):
        source = _euroc(euroc, skipped)
    elif path.is_dir():
        paths = list_images(path)
        source = _files(((path, index / rate) for index, path in enumerate(paths)), skipped)
    elif path.is_file():
        source = _video(name, rate)
    else:
        raise ValueError(
            f"source '{name}' is unknown, allowed is flight, room, room_stereo, a folder of images or in EuRoC "
            f"layout, a video file or the number of a camera device"
        )
    return islice(source, frames)


def _flight(rate: float) -> Iterator[SourceFrame]:
    flight = Flight(photograph())
    index = 0
    while True:
        yield SourceFrame(flight.frame(index / rate), index / rate, flight.homography(index / rate))
        index += 1


def _room(rate: float, stereo: bool) -> Iterator[SourceFrame]:
    room = Room()
    index = 0
    while True:
        time = index / rate
        right = room.frame(time, camera=1) if stereo else None
        pose, baseline = room.pose(time), room.baseline if stereo else 0.0
        yield SourceFrame(room.frame(time), time, None, pose, room.intrinsics, right, baseline)
        index += 1


def _video(name: str | int, rate: float) -> Iterator[SourceFrame]:
    capture = cv2.VideoCapture(name)
    if not capture.isOpened():
        what = f"camera device {name}" if isinstance(name, int) else f"video '{name}'"
        raise ValueError(f"{what} cannot be open_recording")
    try:
        rate = capture.get(cv2.CAP_PROP_FPS) or rate
        index = 0
        while True:
            good, image = capture.read()
            if not good:
                return
            yield SourceFrame(np.asarray(image, np.uint8), index / rate)
            index += 1
    finally:
        capture.release()


def _is_euroc(folder: Path) -> bool:
    return (folder / "data.csv").is_file() and (folder / "data").is_dir()


def _euroc(folder: Path, skipped: list[str]) -> Iterator[SourceFrame]:
    with open(folder / "data.csv", encoding="utf-8", newline="") as file:
        rows = [(int(row[0]), row[1].strip()) for row in csv.reader(file) if row and not row[0].startswith("#")]
    listed = ((folder / "data" / name, (stamp - rows[0][0]) * 1e-9) for stamp, name in rows)
    yield from _files(((path, time) for path, time in listed if path.is_file()), skipped)


def _files(timed: Iterable[tuple[Path, float]], skipped: list[str]) -> Iterator[SourceFrame]:
    """Yield the images of files at their times; unreadable ones are skipped and reported."""
    for path, time in timed:
        try:
            image = read_colour(path)
        except ValueError as error:
            skipped.append(str(error))
            continue
        yield SourceFrame(image, time)
