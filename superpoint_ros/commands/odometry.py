"""superpoint-ros odometry"""

from __future__ import annotations

import argparse
import json
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from superpoint_ros.commands.arguments import add_node_options, add_storage
from superpoint_ros.commands.signals import on_signal

if TYPE_CHECKING:
    from superpoint_ros.hosts.bag.odometry import RecordingOdometry

_STATES = ("tracking", "initialising", "lost")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bag", help="recording of the detector's outputs, as `superpoint-ros bag` writes it, to "
                        "process instead of live topics")  # fmt: skip
    parser.add_argument(
        "--calibration",
        metavar="RECORDING",
        help="recording to take the camera_info from (default: that of --bag)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="file to write the trajectory of the base frame to, in TUM's format: stamp x y z qx qy qz qw",
    )
    parser.add_argument(
        "--out-bag",
        type=Path,
        metavar="FOLDER",
        help="folder of the bag to write odometry, path and tf to, which must not exist",
    )
    add_storage(parser)
    parser.add_argument("--json", action="store_true", help="print a summary as JSON on stdout")
    add_node_options(parser)
    parser.set_defaults(misuse=parser.error)


def run(options: argparse.Namespace) -> int:
    if options.bag:
        return _run_on_bag(options)
    for name in ("calibration", "out", "out_bag"):
        if getattr(options, name):
            options.misuse(f"--{name.replace('_', '-')} is for a recording, name it with --bag")
    from superpoint_ros.hosts.dds.odometry import StandaloneOdometry

    with StandaloneOdometry(options.params_file, options.param, options.remap) as odometry:
        on_signal(odometry.stop)
        odometry.spin()
    return 0


def _run_on_bag(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import track

    from superpoint_ros.hosts.bag.odometry import RecordingOdometry
    from superpoint_ros.hosts.bag.reading import open_recording

    with ExitStack() as stack:
        recording = stack.enter_context(open_recording(options.bag))
        calibration = stack.enter_context(open_recording(options.calibration)) if options.calibration else None
        outputs = options.out, options.out_bag, options.storage
        odometry = RecordingOdometry(
            recording, calibration, *outputs, options.params_file, options.param, options.remap
        )
        # From here on stop between two frames only, so that the files do not end within a message.
        stopped = threading.Event()
        on_signal(stopped.set)
        try:
            console, total = Console(stderr=True), recording.count(odometry.topics["features"])
            quiet = options.json or not console.is_terminal
            for _ in track(odometry.run(), odometry.topics["features"], total, console=console, disable=quiet):
                if stopped.is_set():
                    break
        finally:
            odometry.close()
    summary = _summary(odometry, options)
    print(json.dumps(summary) if options.json else _in_words(summary))
    if stopped.is_set():
        return 130
    if not summary["tracking"]:
        raise ValueError(f"no pose in {summary['frames']} frames of '{options.bag}': {odometry.odometry.problem}")
    return 0


def _summary(odometry: RecordingOdometry, options: argparse.Namespace) -> dict[str, Any]:
    node = odometry.odometry
    states = {name: node.counts[name] for name in _STATES}
    return {
        "bag": options.bag,
        "frames": sum(states.values()),
        **states,
        "skipped": node.counts["skipped"],
        "keyframes": node.keyframes,
        "path_length": round(odometry.length, 4),
        "metric": node.latest is not None and node.latest.metric,
        "trajectory": str(options.out) if options.out else None,
        "out_bag": str(options.out_bag) if options.out_bag else None,
    }


def _in_words(summary: dict[str, Any]) -> str:
    states = ", ".join(f"{summary[name]} {name}" for name in _STATES)
    unit = "m" if summary["metric"] else "units of unknown length"
    text = f"{summary['frames']} frames ({states}), {summary['skipped']} messages skipped, "
    text += f"path of {summary['path_length']:.2f} {unit} with {summary['keyframes']} keyframes"
    places = {"trajectory": "the trajectory is", "out_bag": "odometry, path and tf are"}
    return text + "".join(f", {words} in {summary[name]}" for name, words in places.items() if summary[name])
