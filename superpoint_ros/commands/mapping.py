"""Features and matches of a set of images for hloc or COLMAP: what `extract --format` and `match --format` do."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from superpoint_ros.adapters import colmap, hloc
from superpoint_ros.commands.arguments import Misuse, int_at_least, positive_float
from superpoint_ros.commands.image_set import ImageSet
from superpoint_ros.commands.pairs import EXHAUSTIVE, SEQUENTIAL, Pair, choose_pairs
from superpoint_ros.features import Features

_log = logging.getLogger(__name__)

FEATURES, MATCHES, PAIRS, DATABASE = "features.h5", "matches.h5", "pairs.txt", "database.db"
"""Files in the output folder."""
_OVERLAP, _EVERY = 10, 0.2
_OPTIONS = ("camera_info", "topic", "every", "pairs", "overlap")


def add_image_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of sets of images that `extract` and `match` share."""
    parser.add_argument(
        "--camera-info",
        metavar="YAML",
        help="colmap: calibration of all images, in ROS's or EuRoC's format (default: that of the recording, else what "
        "COLMAP guesses for each folder and image size)",
    )
    parser.add_argument("--topic", help="recording: its image topic; optional if there is only one")
    parser.add_argument(
        "--every",
        type=positive_float,
        metavar="SECONDS",
        help=f"recording or video: minimum time between two images (default: {_EVERY})",
    )


def add_pair_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose pairs of images."""
    parser.add_argument(
        "--pairs",
        metavar="WHICH",
        help=f"{EXHAUSTIVE} for all pairs (default), {SEQUENTIAL} for each image with the next ones in its folder, or "
        "a file with the names of two images in each line",
    )
    parser.add_argument(
        "--overlap",
        type=int_at_least(1),
        metavar="N",
        help=f"{SEQUENTIAL}: number of next images (default: {_OVERLAP})",
    )


def check_options(options: argparse.Namespace) -> None:
    """Check that every option that is set has a meaning.

    Raises:
        Misuse: in one sentence.
    """
    given = [name for name in _OPTIONS if getattr(options, name, None) is not None]
    for name in given:
        if options.format not in ("hloc", "colmap"):
            raise Misuse(f"--{name.replace('_', '-')} needs --format hloc or colmap")
    if "camera_info" in given and options.format != "colmap":
        raise Misuse("--camera-info needs --format colmap")
    if "overlap" in given and options.pairs != SEQUENTIAL:
        raise Misuse(f"--overlap needs --pairs {SEQUENTIAL}")


def run_extract(options: argparse.Namespace, parameters: Mapping[str, Any]) -> int:
    """Extract the features of images to `FEATURES` or `DATABASE` in the output folder; return the exit code."""
    images = _image_set(options, parameters)
    images.extract()
    target = _write_hloc_features(images) if options.format == "hloc" else _write_database(images, ())
    if options.json:
        for name, features in images:
            print(json.dumps({"image": name, "features": str(target), "keypoints": len(features)}), flush=True)
    else:
        print(f"{images.summary}, features are in {target}, names are relative to {images.root}")
    return images.finish()


def run_match(options: argparse.Namespace, parameters: Mapping[str, Any], tests: Mapping[str, float]) -> int:
    """Extract the features of images and match pairs of them, to files in the output folder; return the exit code.

    Args:
        parameters: of the extraction.
        tests: keyword arguments of `match`.
    """
    images = _image_set(options, parameters)
    pairs = choose_pairs(options.pairs or EXHAUSTIVE, images.names, options.overlap or _OVERLAP)
    images.extract()
    pairs = images.match(pairs, tests)
    if options.format == "hloc":
        targets = [_write_hloc_features(images), *_write_hloc_matches(images, pairs)]
    else:
        targets = [_write_database(images, pairs)]
    total = sum(len(matches) for *_, matches in images.matches(pairs))
    if options.json:
        counts = {"images": len(list(images)), "pairs": len(pairs), "matches": total}
        print(json.dumps({**counts, "root": str(images.root), "files": [str(target) for target in targets]}))
    else:
        files, found = ", ".join(map(str, targets)), f"{len(pairs)} pairs with {total} matches"
        print(f"{images.summary}, {found} are in {files}, names are relative to {images.root}")
    return images.finish()


def _image_set(options: argparse.Namespace, parameters: Mapping[str, Any]) -> ImageSet:
    from superpoint_ros.evaluation.calibration import read_camera

    if options.format == "colmap":
        colmap.load()  # a missing package is reported before hours of work
    else:
        hloc.load()
    known = read_camera(options.camera_info) if options.camera_info else None
    topic, every = options.topic or "", options.every or _EVERY
    return ImageSet(options.images, Path(options.out), parameters, topic, every, known, options.json)


def _write_hloc_features(images: ImageSet) -> Path:
    hloc.write_features(images.out / FEATURES, images)
    return images.out / FEATURES


def _write_hloc_matches(images: ImageSet, pairs: Sequence[Pair]) -> tuple[Path, Path]:
    if spaced := [name for name in images.names if len(name.split()) > 1]:
        _log.warning("hloc cannot read %s: '%s' has a space in its name", PAIRS, spaced[0])
    counted = ((first, second, len(images.features(first)), found) for first, second, found in images.matches(pairs))
    hloc.write_matches(images.out / MATCHES, counted)
    hloc.write_pairs(images.out / PAIRS, pairs)
    return images.out / MATCHES, images.out / PAIRS


def _write_database(images: ImageSet, pairs: Sequence[Pair]) -> Path:
    known = images.calibration
    cameras: dict[Any, Any] = {}

    def with_camera() -> Iterator[tuple[str, Features, Any]]:
        for name, features in images:
            if known is None:
                camera = colmap.guessed_camera(images.path(name), features.image_size)
            elif known.image_size == features.image_size:
                camera = colmap.known_camera(known.image_size, known.matrix, known.distortion, known.fisheye)
            else:
                (height, width), (rows, columns) = known.image_size, features.image_size
                raise ValueError(
                    f"the calibration is for {width}x{height} pixels, and image '{name}' has {columns}x{rows}"
                )
            # Images of one folder with the same size and focal length are of one camera.
            folder = "" if known is not None else str(PurePosixPath(name).parent)
            yield name, features, cameras.setdefault((folder, str(camera)), camera)

    colmap.write_database(images.out / DATABASE, with_camera(), images.matches(pairs) if pairs else ())
    return images.out / DATABASE
