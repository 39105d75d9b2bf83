"""superpoint-ros detector"""

from __future__ import annotations

import argparse
import signal

from superpoint_ros.commands.arguments import add_node_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_node_options(parser)


def run(options: argparse.Namespace) -> int:
    from superpoint_ros.hosts.dds.detector import StandaloneDetector

    with StandaloneDetector(options.params_file, options.param, options.remap) as detector:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: detector.stop())
        detector.spin()
    return 0
