"""superpoint-ros evaluate tracks"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from superpoint_ros.commands.arguments import add_methods, add_param, int_at_least, positive_float, track_progress
from superpoint_ros.commands.evaluate.output import name_files, show_results

METHODS = ("superpoint", "klt", "orb")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        help="flight or room (simulated), a folder in the layout of EuRoC, TUM RGB-D or KITTI odometry, or one with "
        "images of a plane and homographies (HPatches)",
    )
    add_methods(
        parser,
        "superpoint[:WEIGHTS,NAME=VALUE] (the front end, with other parameters), klt, or chained matches of orb, "
        f"sift, akaze or your own package.module:Class (default: {' '.join(METHODS)})",
        METHODS,
    )
    parser.add_argument("--weights", help="weights of superpoint: known name or path (default: the node's)")
    add_param(parser, "set a parameter of the node for every superpoint (repeatable)")
    frames = parser.add_argument_group("frames")
    frames.add_argument("--start", type=int_at_least(0), default=0, help="first frame (default: %(default)s)")
    frames.add_argument(
        "--frames", type=int_at_least(2), help="maximum number of frames (default: all; 100 for a simulation)"
    )
    frames.add_argument(
        "--rate", type=positive_float, default=10.0, help="frames per second of a simulation (default: %(default)s)"
    )
    output = parser.add_argument_group("output")
    output.add_argument("--out", type=Path, metavar="DIR", help="write JSON, CSV, Markdown and a plot")
    output.add_argument("--json", action="store_true", help="print the results as JSON on stdout")


def run(options: argparse.Namespace) -> int:
    from superpoint_ros.evaluation import track_plots, track_report, track_summary, trackers
    from superpoint_ros.evaluation.track_sources import open_source
    from superpoint_ros.node import interface, parameters

    values = parameters.read_parameters([], options.param, f"/{interface.NODE_NAME}").values
    if options.weights:
        values["weights"] = options.weights
    source = open_source(options.source, options.frames, options.rate, options.start)
    chosen = [trackers.create(spec, values) for spec in options.methods]
    runs = track_summary.evaluate(source, chosen, lambda images: track_progress(images, "tracks", len(images)))
    show_results(
        options,
        lambda: track_report.as_dict(source, runs),
        f"{source.name} ({source.kind}), {len(source)} frames",
        lambda console: track_report.show(source, runs, console),
    )
    if options.out:
        written = track_report.write(source, runs, options.out)
        plots = track_plots.write(source, runs, options.out)
        if not plots:
            print("no plot: Python package 'matplotlib' is missing", file=sys.stderr)
        name_files(options, written + plots)
    return 0
