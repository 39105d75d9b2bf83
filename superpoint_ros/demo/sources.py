"""Where the demo's images come from: the simulated flight, or a recording or camera of the user's."""

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
class Picture:
    """One image of a source.

    Attributes:
        image: (H, W) or (H, W, 3) uint8.
        time: seconds since the source's first image.
        truth: the true homography from a fixed plane to this image, where it is known.
        pose: (4, 4) matrix from the camera's frame to the world's, where it is known.
        intrinsics: (3, 3) camera matrix, where it is known; the image then has no distortion.
        right: the image of a stereo pair's right camera, where there is one.
        baseline: metres from the left camera to the right one.
    """

    image: Image
    time: float
    truth: Matrix | None = None
    pose: Matrix | None = None
    intrinsics: Matrix | None = None
    right: Image | None = None
    baseline: float = 0.0


def open_source(name: str, rate: float, frames: int, left_out: list[str] | None = None) -> Iterator[Picture]:
    """Images of a source.

    A source is "flight", "room", "room_stereo", a folder, a video file, the number of a camera device, or a EuRoC
    sequence.

    Args:
        rate: images per second, for sources that state none.
        frames: most images.
        left_out: is given a sentence for each file that cannot be read; the others are yielded.

    Raises:
        ValueError: in one sentence, if there is no such source.
    """
    path, left_out = Path(name), [] if left_out is None else left_out
    if name == "flight":
        source = _flight(rate)
    elif name in (ROOM, STEREO_ROOM):
        source = _room(rate, stereo=name == STEREO_ROOM)
    elif name.isdigit():
        source = _video(int(name), rate)
    elif euroc := next((folder for folder in (path, path / "cam0", path / "mav0" / "cam0") if _is_euroc(folder)), None):
        source = _euroc(euroc, left_out)
    elif path.is_dir():
        paths = list_images(path)
        source = _files(((path, index / rate) for index, path in enumerate(paths)), left_out)
    elif path.is_file():
        source = _video(name, rate)
    else:
        raise ValueError(
            f"source '{name}' is unknown, allowed is flight, room, room_stereo, a folder of images or in EuRoC "
            f"layout, a video file or the number of a camera device"
        )
    return islice(source, frames)


def _flight(rate: float) -> Iterator[Picture]:
    flight = Flight(photograph())
    index = 0
    while True:
        yield Picture(flight.frame(index / rate), index / rate, flight.homography(index / rate))
        index += 1


def _room(rate: float, stereo: bool) -> Iterator[Picture]:
    room = Room()
    index = 0
    while True:
        time = index / rate
        right = room.frame(time, camera=1) if stereo else None
        pose, baseline = room.pose(time), room.baseline if stereo else 0.0
        yield Picture(room.frame(time), time, None, pose, room.intrinsics, right, baseline)
        index += 1


def _video(name: str | int, rate: float) -> Iterator[Picture]:
    capture = cv2.VideoCapture(name)
    if not capture.isOpened():
        what = f"camera device {name}" if isinstance(name, int) else f"video '{name}'"
        raise ValueError(f"{what} cannot be opened")
    try:
        rate = capture.get(cv2.CAP_PROP_FPS) or rate
        index = 0
        while True:
            good, image = capture.read()
            if not good:
                return
            yield Picture(np.asarray(image, np.uint8), index / rate)
            index += 1
    finally:
        capture.release()


def _is_euroc(folder: Path) -> bool:
    return (folder / "data.csv").is_file() and (folder / "data").is_dir()


def _euroc(folder: Path, left_out: list[str]) -> Iterator[Picture]:
    with open(folder / "data.csv", encoding="utf-8", newline="") as file:
        rows = [(int(row[0]), row[1].strip()) for row in csv.reader(file) if row and not row[0].startswith("#")]
    listed = ((folder / "data" / name, (stamp - rows[0][0]) * 1e-9) for stamp, name in rows)
    yield from _files(((path, time) for path, time in listed if path.is_file()), left_out)


def _files(timed: Iterable[tuple[Path, float]], left_out: list[str]) -> Iterator[Picture]:
    """Yield the images of files at their times; those that cannot be read are left out."""
    for path, time in timed:
        try:
            image = read_colour(path)
        except ValueError as error:
            left_out.append(str(error))
            continue
        yield Picture(image, time)
