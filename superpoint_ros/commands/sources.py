"""The images that a command's arguments name: files, folders, or the frames of a recording or a video."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from superpoint_ros.node.camera import Camera

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sources:
    """Images found.

    Attributes:
        root: the folder that `names` are relative to.
        names: of each image file.
        empty: number of folders without images, which are named in the log.
        calibration: of all images; None if the source has none.
    """

    root: Path
    names: dict[Path, str]
    empty: int = 0
    calibration: Camera | None = None


def find_images(arguments: list[str], relative_to_folder: bool = False) -> Sources:
    """List the images that the arguments name.

    Names are relative to the folder that all images have in common, so that images of the same name in different
    folders have different names.

    Args:
        arguments: image files and folders.
        relative_to_folder: names are relative to the folder that is named, if it is only one.

    Raises:
        ValueError: if there is no image at all.
    """
    from superpoint_ros.io.images import list_images

    found: list[Path] = []
    empty: list[str] = []
    for argument in arguments:
        path = Path(argument)
        try:
            found += list_images(path) if path.is_dir() else [path]
        except ValueError as error:
            empty.append(str(error))
    if not found:
        raise ValueError("; ".join(empty))
    for reason in empty:
        _log.warning("%s", reason)
    # Symbolic links are not resolved: two of them may lead to the same folder.
    absolute = {path: Path(os.path.abspath(path)) for path in found}
    if relative_to_folder and len(arguments) == 1 and Path(arguments[0]).is_dir():
        root = Path(os.path.abspath(arguments[0]))
    else:
        root = Path(os.path.commonpath([path.parent for path in absolute.values()]))
    return Sources(root, {path: full.relative_to(root).as_posix() for path, full in absolute.items()}, len(empty))


def find_images_or_frames(arguments: list[str], frames: Path, topic: str, every: float) -> Sources:
    """List the images that the arguments name, relative to a folder if they name one.

    Of a recording or a video the frames are written to the folder `frames` first, and the calibration next to the image
    topic of a recording is read; an interrupted extraction continues.

    Args:
        topic: image topic of a recording; may be empty if it has only one.
        every: minimum time between two frames, in seconds.

    Raises:
        ValueError: in one sentence, if there is no image at all, the recording cannot be read, or `frames` has those of
            another one.
    """
    from superpoint_ros.hosts.bag.calibration import read_calibration
    from superpoint_ros.hosts.bag.reading import is_bag
    from superpoint_ros.io.files import write_text
    from superpoint_ros.training.frames import image_folder, is_video

    source = Path(arguments[0])
    if len(arguments) > 1 or not (is_bag(source) or is_video(source)):
        return find_images(arguments, relative_to_folder=True)
    calibration = read_calibration(source, topic) if is_bag(source) else None
    stated = json.dumps({"source": os.path.abspath(source), "topic": topic, "every": every})
    note = frames / "source.json"
    if frames.exists() and (not note.is_file() or note.read_text(encoding="utf-8") != stated):
        raise ValueError(f"folder '{frames}' already has other images, allowed for --out is a new folder")
    frames.mkdir(parents=True, exist_ok=True)
    write_text(note, stated)
    image_folder(source, frames, topic, every)
    return replace(find_images([str(frames)], relative_to_folder=True), calibration=calibration)
