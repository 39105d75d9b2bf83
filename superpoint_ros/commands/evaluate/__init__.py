"""superpoint-ros evaluate: a module for each kind of benchmark, with `add_arguments(parser)` and `run(options)`."""

from __future__ import annotations

import argparse
import importlib

_PLANAR = "superpoint_ros.commands.evaluate.planar"

VERBS = {
    "all": (_PLANAR, "all benchmarks on planar pairs: the tables of the published evaluations"),
    "repeatability": (_PLANAR, "repeatability and localisation error of detectors"),
    "homography": (_PLANAR, "correctness and AUC of homography estimation"),
    "matching": (_PLANAR, "mAP, matching score and matching accuracy of descriptors"),
    "invariance": ("superpoint_ros.commands.evaluate.invariance", "matching accuracy by rotation angle and scale"),
    "make-pairs": ("superpoint_ros.commands.evaluate.make_pairs", "make warped pairs with ground truth from images"),
    "odometry": ("superpoint_ros.commands.evaluate.odometry", "camera motion between frames against ground truth"),
    "stereo": (
        "superpoint_ros.commands.evaluate.stereo",
        "stereo matches: row offsets, and depth by the length of steps",
    ),
    "tracks": ("superpoint_ros.commands.evaluate.tracks", "length, survival, drift and noise of tracks"),
}
"""Verbs with their modules and summaries."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="benchmark", required=True, metavar="BENCHMARK")
    for name, (module, summary) in VERBS.items():
        command = verbs.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        importlib.import_module(module).add_arguments(command)


def run(options: argparse.Namespace) -> int:
    return int(importlib.import_module(VERBS[options.benchmark][0]).run(options) or 0)
