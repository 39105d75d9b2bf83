"""superpoint-ros bag"""

from __future__ import annotations

import argparse
import json
import threading
from dataclasses import asdict
from pathlib import Path

from superpoint_ros.commands.arguments import add_node_options, add_storage
from superpoint_ros.commands.signals import on_signal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="IN", help="ROS 2 bag (folder, .mcap or .db3) or ROS 1 bag (.bag)")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder of the bag to write, which must not exist")
    parser.add_argument(
        "--topic",
        action="append",
        default=[],
        help="recorded image topic, raw or compressed; optional if there is only one; repeated for each of "
        "several 'cameras', in their order (default: the topics that the node would subscribe to)",
    )
    parser.add_argument("--cloud", action="store_true", help="also write the keypoints as a point cloud")
    parser.add_argument("--annotated", action="store_true", help="also write the annotated images")
    add_storage(parser)
    parser.add_argument("--json", action="store_true", help="print a summary as JSON on stdout")
    add_node_options(parser)


def run(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import track

    from superpoint_ros.hosts.bag.reading import open_recording
    from superpoint_ros.hosts.bag.recording import RecordingDetector

    keys = ["keypoints_cloud"] * options.cloud + ["image_annotated"] * options.annotated
    with open_recording(options.source) as recording:
        detector = RecordingDetector(
            recording,
            options.topic,
            options.out,
            keys,
            options.storage,
            options.params_file,
            options.param,
            options.remap,
        )
        topics = detector.topics
        # From here on stop between two frames only, so that the bag does not end within a message.
        stopped = threading.Event()
        on_signal(stopped.set)
        try:
            console = Console(stderr=True)
            quiet, total = options.json or not console.is_terminal, sum(map(recording.count, topics))
            for _ in track(detector.run(), ", ".join(topics), total, console=console, disable=quiet):
                if stopped.is_set():
                    break
        finally:
            detector.close()
        unreadable = sum(recording.unreadable[topic] for topic in topics)
    counters, unpaired = detector.counters, detector.unpaired
    if options.json:
        named = {"topic": topics[0]} if len(topics) == 1 else {"topics": topics}
        summary = {"bag": str(options.out), **named, "unreadable": unreadable, **asdict(counters)}
        print(json.dumps(summary if unpaired is None else {**summary, "unpaired": unpaired}))
    else:
        frames = f"{counters.processed} of {counters.received + unreadable} frames of {', '.join(topics)}"
        alone = f", {unpaired} without a stereo partner" if unpaired else ""
        print(f"{frames}{alone}, features are in {options.out}")
    if stopped.is_set():
        return 130
    return 0 if counters.processed == counters.received + unreadable else 1
