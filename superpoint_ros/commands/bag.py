"""superpoint-ros bag"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from superpoint_ros.commands.arguments import add_node_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="IN", help="ROS 2 bag (folder, .mcap or .db3) or ROS 1 bag (.bag)")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder of the bag to write; must not exist")
    parser.add_argument(
        "--topic", default="", help="image topic, raw or compressed; not needed where there is only one"
    )
    parser.add_argument("--cloud", action="store_true", help="write the keypoints as a point cloud, too")
    parser.add_argument("--annotated", action="store_true", help="write the annotated images, too")
    parser.add_argument(
        "--storage", default="mcap", choices=("mcap", "sqlite3"), help="of the bag to write (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print a summary as JSON on stdout")
    add_node_options(parser)


def run(options: argparse.Namespace) -> int:
    from rich.progress import track

    from superpoint_ros.bags import opened
    from superpoint_ros.standalone.recording import RecordingDetector

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    keys = ["keypoints_cloud"] * options.cloud + ["image_annotated"] * options.annotated
    with opened(options.source) as recording:
        topic = recording.image_topic(options.topic)
        detector = RecordingDetector(
            options.out, keys, options.storage, options.params_file, options.param, options.remap
        )
        try:
            quiet = options.json or not sys.stderr.isatty()
            work = detector.run(recording, topic)
            for _ in track(work, description=topic, total=recording.count(topic), disable=quiet):
                pass
        finally:
            detector.close()
    counters = detector.counters
    if options.json:
        print(json.dumps({"bag": str(options.out), "topic": topic, **asdict(counters)}))
    else:
        print(f"{counters.processed} of {counters.received} frames of {topic}, features in {options.out}")
    return 0 if counters.processed == counters.received else 1
