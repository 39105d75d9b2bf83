"""superpoint-ros detector"""

from __future__ import annotations

import argparse

from superpoint_ros.commands.arguments import add_node_options
from superpoint_ros.commands.signals import on_signal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_node_options(parser)


def run(options: argparse.Namespace) -> int:
    from superpoint_ros.hosts.dds.detector import StandaloneDetector

    with StandaloneDetector(options.params_file, options.param, options.remap) as detector:
        on_signal(detector.stop)
        detector.spin()
    return 0
