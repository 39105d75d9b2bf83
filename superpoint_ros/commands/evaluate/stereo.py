"""superpoint-ros evaluate stereo"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from superpoint_ros.commands.arguments import add_param, int_at_least


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", help="room (simulated), or a folder in the layout of KITTI odometry with the images of both cameras"
    )
    parser.add_argument(
        "--frames", type=int_at_least(2), help="maximum number of pairs (default: all; 30 for the room)"
    )
    add_param(parser, "set a parameter of the node (repeatable)")
    parser.add_argument("--json", action="store_true", help="print the results as JSON on stdout")


def run(options: argparse.Namespace) -> int:
    from superpoint_ros import FrontEnd
    from superpoint_ros.evaluation import results, stereo
    from superpoint_ros.node import interface, parameters
    from superpoint_ros.node.settings import settings_from_parameters, superpoint_from_parameters

    values = parameters.read_parameters([], options.param, f"/{interface.NODE_NAME}").values
    sequence = stereo.open_stereo(options.source, options.frames)
    front_end = FrontEnd(superpoint_from_parameters(values), settings_from_parameters(values))
    found = stereo.evaluate(sequence, front_end)
    if options.json:
        print(json.dumps(results.finite(asdict(found))))
        return 0
    print(f"{found.name}, {found.pairs} pairs, medians:")
    shifted = f"{100 * found.shifted_step_error:.2f} % (by {found.shift:+.2f} px, from the tracks)"
    print(f"left keypoints with a match       {100 * found.matched:.1f} %")
    print(f"off their rows                    {found.row_offset:.3f} px")
    print(f"without the calibration's part    {found.row_error:.3f} px")
    print(f"error of the length of a step     {100 * found.step_error:.2f} %")
    print(f"after a shift of the disparities  {shifted}")
    return 0
