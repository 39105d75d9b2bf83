"""Where images to train on come from: a folder, or the frames of a video or of a recording."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from superpoint_ros.hosts.bag import reading as bags
from superpoint_ros.io.files import atomic_write

_log = logging.getLogger(__name__)
_VIDEOS = {".mp4", ".avi", ".mkv", ".mov", ".m4v", ".mjpeg", ".mpg", ".mpeg", ".webm", ".wmv"}
_COMPLETE = "complete"


def folder(source: Path, out: Path, topic: str = "", every: float = 0.2) -> Path:
    """The folder that holds a source's images: itself, or `out` with the frames of a video or a recording.

    Frames that were written before stay as they are, so an interrupted extraction goes on.

    Args:
        topic: image topic of a recording; may be empty where it holds one only.
        every: least time between two frames, in seconds.

    Raises:
        ValueError: if the source is none of these or cannot be read.
    """
    if source.is_dir() and not bags.is_bag(source):
        return source
    if bags.is_bag(source):
        frames = bags.images(source, topic)
    elif source.is_file() and source.suffix.lower() in _VIDEOS:
        frames = _video(source)
    else:
        raise ValueError(f"source '{source}' is no folder of images, no video and no ROS bag")
    if not (out / _COMPLETE).exists():
        _extract(frames, out, round(every * 1e9))
        (out / _COMPLETE).write_text(f"{source}\n", encoding="utf-8")
    return out


def _extract(frames: Iterator[tuple[int, NDArray[np.uint8]]], out: Path, spacing: int) -> None:
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
        with atomic_write(target) as partial:
            partial.write_bytes(cv2.imencode(".png", image)[1].tobytes())


def _video(path: Path) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Time in nanoseconds and (H, W) uint8 image of every frame."""
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
        raise ValueError(f"video '{path}' holds no frame that can be read")
