"""superpoint-ros evaluate odometry"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from superpoint_ros.commands.arguments import at_least_one, at_least_two, not_negative, positive

METHODS = ("superpoint", "sift", "orb")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sequence", type=Path, help="folder in the layout of EuRoC, TUM RGB-D or KITTI odometry")
    parser.add_argument(
        "-m",
        "--methods",
        nargs="+",
        metavar="METHOD",
        default=METHODS,
        help="superpoint[:WEIGHTS], sift, orb, akaze, or package.module:Class of your own "
        f"(default: {' '.join(METHODS)})",
    )
    parser.add_argument(
        "--camera-info", type=Path, metavar="YAML", help="calibration, in the place of the one that the layout states"
    )
    frames = parser.add_argument_group("frames")
    frames.add_argument("--start", type=not_negative, default=0, help="first frame (default: %(default)s)")
    frames.add_argument("--frames", type=at_least_two, help="most frames (default: all)")
    frames.add_argument(
        "--every", type=at_least_one, default=1, help="take every so-manieth frame (default: %(default)s)"
    )
    protocol = parser.add_argument_group("protocol")
    protocol.add_argument("--max-keypoints", type=at_least_one, default=1000, help="in an image (default: %(default)s)")
    protocol.add_argument("--nms-radius", type=not_negative, default=4, help="in pixels (default: %(default)s)")
    protocol.add_argument(
        "--estimator",
        default="refined",
        help="refined (graph-cut RANSAC and robust least squares) or ransac (OpenCV's, as in most comparisons, "
        "default: %(default)s)",
    )
    protocol.add_argument(
        "--threshold", type=positive, default=1.0, help="epipolar error of inliers in pixels (default: %(default)s)"
    )
    protocol.add_argument(
        "--min-translation",
        type=positive,
        default=0.01,
        metavar="METRES",
        help="steps that are truly shorter count for their rotation only (default: %(default)s)",
    )
    protocol.add_argument(
        "--delta", type=at_least_one, default=10, help="frames of the relative pose error (default: %(default)s)"
    )
    work = parser.add_argument_group("work")
    work.add_argument(
        "--cache", type=Path, metavar="DIR", help="keep predictions here (default: the user's cache folder)"
    )
    work.add_argument("--no-cache", action="store_true", help="keep no predictions and read none")
    output = parser.add_argument_group("output")
    output.add_argument("--out", type=Path, metavar="DIR", help="write JSON, CSV, Markdown and plots")
    output.add_argument("--json", action="store_true", help="print the results as JSON on stdout")


def run(options: argparse.Namespace) -> int:
    from rich.console import Console

    from superpoint_ros.evaluation import cache, odometry, odometry_plots, odometry_report, odometry_summary
    from superpoint_ros.evaluation.sequences import open_sequence

    odometry_summary.check_installed()
    names = ("max_keypoints", "nms_radius", "estimator", "threshold", "min_translation", "delta")
    settings = odometry.Settings(**{name: getattr(options, name) for name in names})
    sequence = open_sequence(options.sequence, options.camera_info).part(options.start, options.frames, options.every)
    predictions = None if options.no_cache else options.cache or cache.default_folder()
    found = odometry.evaluate(sequence, options.methods, settings, predictions, _progress)
    summaries = odometry_summary.summarise(found)
    if options.json:
        print(json.dumps(odometry_report.as_dict(found, summaries), allow_nan=False))
    else:
        print(f"{found.sequence.name} ({found.sequence.layout}), {len(found.sequence)} frames")
        odometry_report.show(found, summaries, Console())
    if options.out:
        written = odometry_report.write(found, summaries, options.out)
        written += odometry_plots.write(found, summaries, options.out)
        if not options.json:
            print(f"written: {', '.join(str(path) for path in written)}")
    return 0


def _progress(images: Sequence[Path]) -> Iterator[Path]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(images, description="odometry", console=console, disable=not sys.stderr.isatty())
