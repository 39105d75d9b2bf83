"""superpoint-ros evaluate invariance"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from superpoint_ros.commands.arguments import add_detection, add_methods, int_at_least, positive_float

METHODS = ("superpoint", "sift", "orb")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", type=Path, help="folder of images")
    add_methods(
        parser,
        f"superpoint[:WEIGHTS], sift, orb, akaze, or your own package.module:Class (default: {' '.join(METHODS)})",
        METHODS,
    )
    parser.add_argument(
        "--limit",
        type=int_at_least(0),
        default=50,
        help="maximum number of images, evenly spaced; 0 for all (default: %(default)s)",
    )
    parser.add_argument(
        "--held-out", action="store_true", help="only images held out from training, by a hash of their names"
    )
    protocol = parser.add_argument_group("protocol")
    protocol.add_argument(
        "--rotation",
        default="upright",
        help="upright, or any: steerable descriptors are compared at eight rotations (default: %(default)s)",
    )
    protocol.add_argument(
        "--size", type=int_at_least(1), default=480, help="side of the first image in pixels (default: %(default)s)"
    )
    add_detection(protocol)
    protocol.add_argument(
        "--epsilon",
        type=positive_float,
        default=3.0,
        help="maximum error of a correct match in pixels (default: %(default)s)",
    )
    parser.add_argument(
        "--processes", type=int_at_least(1), default=1, help="number of processes (default: %(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write results.json, results.md and page.html with curves"
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON on stdout")


def run(options: argparse.Namespace) -> int:
    from rich.console import Console

    from superpoint_ros.evaluation import invariance, invariance_report
    from superpoint_ros.evaluation.engine import Engine
    from superpoint_ros.io.files import write_text

    o, began = options, time.monotonic()
    protocol = invariance.Protocol(o.size, o.max_keypoints, o.nms_radius, o.epsilon, o.rotation)
    chosen = invariance.choose(o.images, o.limit, o.held_out)
    rows, skipped = invariance.evaluate(chosen, o.methods, protocol, engine=Engine(o.processes))
    found = invariance.as_dict(rows, skipped, protocol, began)
    summaries = invariance.summaries(rows)
    tables = invariance_report.tables(summaries, protocol)
    if o.json:
        print(json.dumps(found, allow_nan=False))
    else:
        invariance_report.show(tables, skipped, Console())
    if o.out:
        o.out.mkdir(parents=True, exist_ok=True)
        write_text(o.out / "results.json", json.dumps(found, indent=1, allow_nan=False) + "\n")
        write_text(o.out / "results.md", invariance_report.markdown(tables))
        title = f"Rotation and scale on {o.images.name or o.images}"
        invariance_report.write_page(o.out / "page.html", title, tables, summaries)
        if not o.json:
            print(f"written: {o.out / 'results.json'}, {o.out / 'results.md'}, {o.out / 'page.html'}")
    return 0
