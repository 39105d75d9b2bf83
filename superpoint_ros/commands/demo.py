"""superpoint-ros demo"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

from superpoint_ros.commands.arguments import add_param, positive_float

_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source",
        default="flight",
        help="flight (a simulated camera over a photograph), room or room_stereo (in a furnished room), a folder of "
        "images, a sequence in EuRoC layout, a video file, or the index of a camera device (default: %(default)s)",
    )
    parser.add_argument("--rate", type=positive_float, default=10.0, help="images per second (default: %(default)s)")
    parser.add_argument("--seconds", type=positive_float, default=40.0, help="maximum duration (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("demo_output"), help="output folder (default: %(default)s)")
    add_param(parser, "parameter of the detector")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON on stdout")
    parser.add_argument("--role", choices=("all", "camera"), default="all", help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    if options.role == "camera":
        return _camera(options)
    from rich.console import Console

    from superpoint_ros.demo.run import DemoOptions, table
    from superpoint_ros.demo.run import run as run_demo

    demo = DemoOptions(options.source, options.rate, options.seconds, options.output, options.param, quiet=options.json)
    summary = run_demo(demo)
    if options.json:
        print(json.dumps(summary))
    else:
        counters = {name: str(summary[name]) for name in ("received", "processed", "dropped", "failed")}
        Console().print(table(summary, f"{summary['frames']} frames of {options.source}", counters))
        drawn = ", trajectory" if summary["odometry_messages"] else ""
        print(f"annotated video, contact sheet{drawn} and summary.json are in {options.output}")
    for sentence in summary["left_out"]:
        _log.warning("%s", sentence)
    return 1 if summary["left_out"] else 0


def _camera(options: argparse.Namespace) -> int:
    from superpoint_ros.demo.camera import publish
    from superpoint_ros.demo.sources import open_source

    frames = max(1, round(options.rate * options.seconds))
    skipped: list[str] = []
    count = publish(open_source(options.source, options.rate, frames, skipped))
    json.dump({"frames": count, "left_out": skipped}, sys.stdout)
    return 0
