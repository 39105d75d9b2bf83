"""superpoint-ros detector"""

from __future__ import annotations

import argparse
import signal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--params-file", action="append", default=[], metavar="FILE", help="ROS 2 parameters file (repeatable)"
    )
    parser.add_argument(
        "-p", "--param", action="append", default=[], metavar="NAME:=VALUE", help="set a parameter (repeatable)"
    )
    parser.add_argument(
        "-r", "--remap", action="append", default=[], metavar="FROM:=TO", help="remap a name, __ns and __node too"
    )


def run(options: argparse.Namespace) -> int:
    from superpoint_ros.standalone.detector import StandaloneDetector

    with StandaloneDetector(options.params_file, options.param, options.remap) as detector:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: detector.stop())
        detector.spin()
    return 0
