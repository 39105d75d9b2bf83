"""superpoint-ros extract"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

from superpoint_ros.commands import mapping
from superpoint_ros.commands.arguments import EXTRACTION, Misuse, add_parameters
from superpoint_ros.commands.sources import find_images

_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="image files or folders of images; with --format hloc or colmap also one recording (a ROS bag) or video",
    )
    parser.add_argument("-o", "--out", default="features", help="output folder (default: %(default)s)")
    parser.add_argument(
        "--format",
        default="npz",
        choices=("npz", "hloc", "colmap"),
        help="a NumPy file for each image, or hloc's features.h5, or a COLMAP database.db (default: %(default)s)",
    )
    parser.add_argument("--overlay", action="store_true", help="also draw the keypoints into a PNG file")
    parser.add_argument("--json", action="store_true", help="print one JSON object per image on stdout")
    mapping.add_image_arguments(parser)
    add_parameters(parser, EXTRACTION)


def run(options: argparse.Namespace) -> int:
    import numpy as np
    from rich.progress import track

    from superpoint_ros.io.files import atomic_write
    from superpoint_ros.io.images import read_colour, to_grey, write_image
    from superpoint_ros.node import interface
    from superpoint_ros.node.overlay import draw_features
    from superpoint_ros.node.settings import superpoint_from_parameters

    mapping.check_options(options)
    parameters = interface.checked({name: getattr(options, name) for name in EXTRACTION})
    if options.format != "npz":
        if options.overlay:
            raise Misuse("--overlay needs --format npz")
        return mapping.run_extract(options, parameters)
    superpoint = superpoint_from_parameters(parameters)
    out = Path(options.out)
    sources = find_images(options.images)
    failed, total = sources.empty, len(sources.names) + sources.empty
    for path in track(list(sources.names), description="extracting", disable=options.json or not sys.stderr.isatty()):
        try:
            image = read_colour(path, options.max_pixels)
            if not options.overlay:
                image = to_grey(image)  # of large images the memory counts
            features = superpoint.extract(image)
        except (ValueError, MemoryError) as error:
            failed += 1
            _log.warning("%s: %s", path, error if str(error) else "it does not fit in memory")
            continue
        target = out / f"{sources.names[path]}.npz"
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
            write_image(target.with_suffix(".png"), draw_features(image, features))
        if options.json:
            print(json.dumps({"image": str(path), "features": str(target), "keypoints": len(features)}), flush=True)
    if not options.json:
        print(f"{total - failed} of {total} images, features are in {out}")
    return 1 if failed else 0
