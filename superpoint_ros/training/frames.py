"""Sources of training images: a folder, or the frames of a video or a recording."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from superpoint_ros.hosts.bag import reading as bags
from superpoint_ros.io.images import write_image

_log = logging.getLogger(__name__)
_VIDEOS = {".mp4", ".avi", ".mkv", ".mov", ".m4v", ".mjpeg", ".mpg", ".mpeg", ".webm", ".wmv"}
_COMPLETE = "complete"


def is_video(path: Path) -> bool:
    """Tell whether a path is a file with the suffix of a video."""
    return path.is_file() and path.suffix.lower() in _VIDEOS


def image_folder(source: Path, out: Path, topic: str = "", every: float = 0.2) -> Path:
    """Return the folder of a source's images: `source` itself, or `out` with the frames of a video or a recording.

    Frames that are already written are kept, so that an interrupted extraction resumes.

    Args:
        topic: image topic of a recording; may be empty if it has only one.
        every: minimum time between two frames, in seconds.

    Raises:
        ValueError: if the source is of another kind or cannot be read.
    """
    if source.is_dir() and not bags.is_bag(source):
        return source
    if bags.is_bag(source):
        frames = bags.read_images(source, topic)
    elif is_video(source):
        frames = _read_video(source)
    else:
        raise ValueError(f"source '{source}' is not a folder of images, a video or a ROS bag")
    if not (out / _COMPLETE).exists():
        _write_frames(frames, out, round(every * 1e9))
        (out / _COMPLETE).write_text(f"{source}\n", encoding="utf-8")
    return out


def _write_frames(frames: Iterator[tuple[int, NDArray[np.uint8]]], out: Path, spacing: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    first, due = None, 0
    for stamp, image in frames:
        first = stamp if first is None else first
        if stamp - first < due:
            continue
        due = stamp - first + spacing
        target = out / f"frame_{(stamp - first) // 1_000_000:09d}.png"
        if target.exists():
            continue
        write_image(target, image)


def _read_video(path: Path) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield the time in nanoseconds and the (H, W) uint8 image of every frame."""
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise ValueError(f"video '{path}' cannot be read")
    period = 1e9 / (capture.get(cv2.CAP_PROP_FPS) or 30.0)
    number = 0
    try:
        while True:
            found, frame = capture.read()
            if not found:
                break
            yield round(number * period), np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), np.uint8)
            number += 1
    finally:
        capture.release()
    if not number:
        raise ValueError(f"video '{path}' has no readable frame")
