"""What the options of several commands share: kinds of numbers, and options that are parameters of the detector."""

from __future__ import annotations

import argparse
from collections.abc import Iterable


def add_parameters(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    """Options for parameters of `interface`, with their types, defaults and descriptions."""
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
    """Options that set parameters and names as on a ROS 2 command line."""
    parser.add_argument(
        "--params-file", action="append", default=[], metavar="FILE", help="ROS 2 parameters file (repeatable)"
    )
    parser.add_argument(
        "-p", "--param", action="append", default=[], metavar="NAME:=VALUE", help="set a parameter (repeatable)"
    )
    parser.add_argument(
        "-r", "--remap", action="append", default=[], metavar="FROM:=TO", help="remap a name, __ns and __node too"
    )


def not_negative(text: str) -> int:
    """A whole number of at least 0."""
    return _whole(text, 0)


def at_least_one(text: str) -> int:
    """A whole number of at least 1."""
    return _whole(text, 1)


def at_least_two(text: str) -> int:
    """A whole number of at least 2."""
    return _whole(text, 2)


def _whole(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"'{text}' is not allowed, it must be a whole number of at least {least}")
    return value


def positive(text: str) -> float:
    """A finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not allowed, it must be a positive number")
    return value
