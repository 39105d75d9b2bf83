"""Options shared by several commands: number types, and options for parameters of the detector."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable


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
    parser.add_argument(
        "-p", "--param", action="append", default=[], metavar="NAME:=VALUE", help="set a parameter (repeatable)"
    )
    parser.add_argument(
        "-r", "--remap", action="append", default=[], metavar="FROM:=TO", help="remap a name, __ns and __node too"
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
