"""Options shared by several commands, their types, and progress bars."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")

EXTRACTION = ("weights", "descriptor_size", "device", "runtime", "precision", "max_keypoints", "nms_radius",
              "detection_threshold", "border", "resize", "levels", "scale_factor", "tile_pixels",
              "max_pixels")  # fmt: skip
"""Parameters of the extraction that commands on image files have."""


class Misuse(ValueError):
    """Arguments do not belong together; the message is one sentence for the user."""


def add_parameters(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    """Add options for parameters of `interface`, with their types, defaults and descriptions."""
    from superpoint_ros.node import interface

    for name in names:
        parameter = interface.parameter(name)
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=parameter.type,
            default=parameter.default,
            help=f"{parameter.description} (default: %(default)s)",
        )


def add_node_options(parser: argparse.ArgumentParser) -> None:
    """Add options that set parameters and remap names as on a ROS 2 command line."""
    parser.add_argument(
        "--params-file", action="append", default=[], metavar="FILE", help="ROS 2 parameters file (repeatable)"
    )
    add_param(parser, "set a parameter (repeatable)")
    parser.add_argument(
        "-r", "--remap", action="append", default=[], metavar="FROM:=TO", help="remap a name, including __ns and __node"
    )


def add_param(parser: argparse.ArgumentParser, description: str) -> None:
    """Add the option that sets parameters one by one."""
    parser.add_argument("-p", "--param", action="append", default=[], metavar="NAME:=VALUE", help=description)


def add_methods(parser: argparse.ArgumentParser, description: str, default: tuple[str, ...] | None = None) -> None:
    """Add the option that selects the methods to evaluate."""
    parser.add_argument("-m", "--methods", nargs="+", metavar="METHOD", default=default, help=description)


def add_detection(parser: argparse._ArgumentGroup) -> None:
    """Add the options for the keypoints of an image, the same for all methods."""
    parser.add_argument("--max-keypoints", type=int_at_least(1), default=1000, help="per image (default: %(default)s)")
    parser.add_argument(
        "--nms-radius",
        type=int_at_least(0),
        default=4,
        help="radius of non-maximum suppression in pixels (default: %(default)s)",
    )


def add_cache(parser: argparse._ArgumentGroup) -> None:
    """Add the options for cached predictions."""
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="cache folder for predictions (default: in the user's cache folder)"
    )
    parser.add_argument("--no-cache", action="store_true", help="neither read nor write cached predictions")


def cache_folder(options: argparse.Namespace) -> Path | None:
    """Return the folder that the options of `add_cache` select; None for no cache."""
    from superpoint_ros.evaluation import cache

    return None if options.no_cache else options.cache or cache.default_folder()


def track_progress(items: Iterable[Item], description: str, total: int | None) -> Iterator[Item]:
    """Iterate over items with a progress bar on stderr, if that is a terminal."""
    from rich.console import Console
    from rich.progress import track

    yield from track(items, description, total, console=Console(stderr=True), disable=not sys.stderr.isatty())


def add_storage(parser: argparse.ArgumentParser) -> None:
    """Add the option for the storage format of a bag."""
    parser.add_argument(
        "--storage",
        default="mcap",
        choices=("mcap", "sqlite3"),
        help="storage format of the bag to write (default: %(default)s)",
    )


def int_at_least(minimum: int) -> Callable[[str], int]:
    """Return an argument type that parses a whole number of at least `minimum`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if value < minimum:
            raise argparse.ArgumentTypeError(f"'{text}' is not allowed, it must be an integer of at least {minimum}")
        return value

    return parse


def positive_float(text: str) -> float:
    """Parse a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not allowed, it must be a positive number")
    return value
