"""superpoint-ros extract"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from pathlib import Path

from superpoint_ros.commands.arguments import EXTRACTION, add_parameters

_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files or folders of images")
    parser.add_argument(
        "-o", "--out", default="features", help="output folder of the .npz files (default: %(default)s)"
    )
    parser.add_argument("--overlay", action="store_true", help="also draw the keypoints into a PNG file")
    parser.add_argument("--json", action="store_true", help="print one JSON object per image on stdout")
    add_parameters(parser, EXTRACTION)


def run(options: argparse.Namespace) -> int:
    import cv2
    import numpy as np
    from rich.progress import track

    from superpoint_ros.io.files import atomic_write
    from superpoint_ros.io.images import read_colour, to_grey
    from superpoint_ros.node import interface
    from superpoint_ros.node.overlay import draw_features
    from superpoint_ros.node.settings import superpoint_from_parameters

    superpoint = superpoint_from_parameters(interface.checked({name: getattr(options, name) for name in EXTRACTION}))
    out = Path(options.out)
    paths, failed = _images(options.images)
    targets, total = _targets(paths, out), len(paths) + failed
    for path in track(paths, description="extracting", disable=options.json or not sys.stderr.isatty()):
        try:
            image = read_colour(path, options.max_pixels)
            if not options.overlay:
                image = to_grey(image)  # of large images the memory counts
            features = superpoint.extract(image)
        except (ValueError, MemoryError) as error:
            failed += 1
            _log.warning("%s: %s", path, error if str(error) else "it does not fit in memory")
            continue
        target = targets[path]
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as partial, open(partial, "wb") as file:
            np.savez_compressed(
                file,
                keypoints=features.keypoints,
                scores=features.scores,
                descriptors=features.descriptors,
                image_size=np.array(features.image_size),
            )
        if options.overlay:
            cv2.imwrite(str(target.with_suffix(".png")), draw_features(image, features))
        if options.json:
            print(json.dumps({"image": str(path), "features": str(target), "keypoints": len(features)}), flush=True)
    if not options.json:
        print(f"{total - failed} of {total} images, features are in {out}")
    return 1 if failed else 0


def _images(arguments: list[str]) -> tuple[list[Path], int]:
    """List the images that the arguments name; count the folders without any, which are named in the log.

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
    return found, len(empty)


def _targets(paths: list[Path], out: Path) -> dict[Path, Path]:
    """Return the output file of each image; images of the same name in different folders get different files."""
    # Symbolic links are not resolved: two of them may lead to the same folder.
    absolute = {path: Path(os.path.abspath(path)) for path in paths}
    root = Path(os.path.commonpath([path.parent for path in absolute.values()]))
    return {path: out / full.relative_to(root).with_name(full.name + ".npz") for path, full in absolute.items()}
