"""superpoint-ros evaluate odometry"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from superpoint_ros.commands.arguments import (
    add_cache,
    add_detection,
    add_methods,
    cache_folder,
    int_at_least,
    positive_float,
    track_progress,
)
from superpoint_ros.commands.evaluate.output import name_files, show_results

if TYPE_CHECKING:
    from superpoint_ros.evaluation.sequences import Sequence

METHODS = ("superpoint", "sift", "orb")
SYSTEM_METHODS = ("superpoint", "klt", "orb")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sequence",
        type=Path,
        help="folder in the layout of EuRoC, TUM RGB-D or KITTI odometry, or room (simulated)",
    )
    add_methods(
        parser,
        f"superpoint[:WEIGHTS], sift, orb, akaze, or your own package.module:Class (default: {' '.join(METHODS)}; with "
        f"--system {' '.join(SYSTEM_METHODS)})",
    )
    parser.add_argument(
        "--camera-info", type=Path, metavar="YAML", help="calibration file that replaces the layout's own"
    )
    system = parser.add_argument_group("the whole odometry, instead of steps from frame to frame")
    system.add_argument(
        "--system",
        nargs="?",
        const="mono",
        choices=("mono", "stereo"),
        help="run the odometry on the methods' tracks, with one camera (default) or a stereo pair",
    )
    system.add_argument(
        "--disparity-offset",
        type=float,
        default=0.0,
        metavar="PIXELS",
        help="correction of the rig's calibration, added to all disparities (default: %(default)s)",
    )
    system.add_argument(
        "--drift-length",
        type=positive_float,
        metavar="METRES",
        help="length over which drift is measured (default: a fifth of the path)",
    )
    frames = parser.add_argument_group("frames")
    frames.add_argument("--start", type=int_at_least(0), default=0, help="first frame (default: %(default)s)")
    frames.add_argument("--frames", type=int_at_least(2), help="maximum number of frames (default: all)")
    frames.add_argument("--every", type=int_at_least(1), default=1, help="use every N-th frame (default: %(default)s)")
    protocol = parser.add_argument_group("protocol")
    add_detection(protocol)
    protocol.add_argument(
        "--estimator",
        default="refined",
        help="refined (graph-cut RANSAC and robust least squares) or ransac (OpenCV's, as in most comparisons) "
        "(default: %(default)s)",
    )
    protocol.add_argument(
        "--threshold",
        type=positive_float,
        default=1.0,
        help="maximum epipolar error of inliers in pixels (default: %(default)s)",
    )
    protocol.add_argument(
        "--min-translation",
        type=positive_float,
        default=0.01,
        metavar="METRES",
        help="steps with a shorter true translation count for their rotation only (default: %(default)s)",
    )
    protocol.add_argument(
        "--delta",
        type=int_at_least(1),
        default=10,
        help="number of frames that the relative pose error spans (default: %(default)s)",
    )
    add_cache(parser.add_argument_group("work"))
    output = parser.add_argument_group("output")
    output.add_argument("--out", type=Path, metavar="DIR", help="write JSON, CSV, Markdown and plots")
    output.add_argument("--json", action="store_true", help="print the results as JSON on stdout")


def run(options: argparse.Namespace) -> int:
    from superpoint_ros.evaluation import odometry, odometry_plots, odometry_report, odometry_summary

    odometry_summary.check_installed()
    if options.system:
        return _run_system(options)
    names = ("max_keypoints", "nms_radius", "estimator", "threshold", "min_translation", "delta")
    settings = odometry.Settings(**{name: getattr(options, name) for name in names})
    with _opened(options) as sequence:
        found = odometry.evaluate(
            sequence,
            options.methods or METHODS,
            settings,
            cache_folder(options),
            lambda images: track_progress(images, "odometry", len(images)),
        )
    summaries = odometry_summary.summarise(found)
    title = f"{found.sequence.name} ({found.sequence.layout}), {len(found.sequence)} frames"
    show_results(
        options,
        lambda: odometry_report.as_dict(found, summaries),
        title,
        lambda console: odometry_report.show(found, summaries, console),
    )
    if options.out:
        written = odometry_report.write(found, summaries, options.out)
        written += odometry_plots.write(found, summaries, options.out)
        name_files(options, written)
    return 0


@contextmanager
def _opened(options: argparse.Namespace) -> Iterator[Sequence]:
    from superpoint_ros.evaluation import sequences, simulated

    chosen = options.start, options.frames, options.every
    if str(options.sequence) != "room":
        yield sequences.open_sequence(options.sequence, options.camera_info).part(*chosen)
        return
    if options.camera_info is not None:
        raise ValueError(f"--camera-info is '{options.camera_info}', allowed is none in the room")
    with TemporaryDirectory() as folder:
        yield simulated.render_room(Path(folder), *chosen)


def _run_system(options: argparse.Namespace) -> int:
    from superpoint_ros.evaluation import system, system_report
    from superpoint_ros.evaluation.system_sources import open_source
    from superpoint_ros.odometry.values import Settings

    chosen = options.start, options.frames, options.every, options.camera_info
    sequence = open_source(str(options.sequence), options.system == "stereo", *chosen)
    results = system.evaluate(
        sequence,
        options.methods or SYSTEM_METHODS,
        Settings(),
        options.disparity_offset,
        options.drift_length,
        lambda frames, method: track_progress(frames, method, len(sequence)),
    )
    show_results(
        options,
        lambda: system_report.as_dict(sequence, results),
        f"{sequence.name}, {len(sequence)} frames",
        lambda console: system_report.show(sequence, results, console),
    )
    if options.out:
        name_files(options, system_report.write(sequence, results, options.out))
    return 0
