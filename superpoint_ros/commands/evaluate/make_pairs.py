"""superpoint-ros evaluate make-pairs"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", type=Path, help="folder of images")
    parser.add_argument("out", type=Path, help="folder for the pairs; existing pairs are kept")
    parser.add_argument("--size", default="480x640", help="HEIGHTxWIDTH of both images (default: %(default)s)")
    parser.add_argument(
        "--limit", type=int, default=0, help="maximum number of images; 0 for all (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of warps and lighting (default: %(default)s)")
    parser.add_argument(
        "--rotation", type=float, default=20.0, help="standard deviation of rotations in degrees (default: %(default)s)"
    )
    parser.add_argument(
        "--scale", type=float, default=0.7, help="minimum visible fraction of the image's side (default: %(default)s)"
    )
    parser.add_argument(
        "--perspective",
        type=float,
        default=0.2,
        help="maximum shift of a corner, as a fraction of half a side (default: %(default)s)",
    )
    parser.add_argument(
        "--light",
        type=float,
        default=1.0,
        help="strength of lighting changes, blur and noise; 0 for none (default: %(default)s)",
    )
    parser.add_argument("--processes", type=int, default=1, help="number of processes (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print a summary as JSON on stdout")


def run(options: argparse.Namespace) -> int:
    from superpoint_ros.evaluation import warps
    from superpoint_ros.evaluation.engine import Engine
    from superpoint_ros.evaluation.framing import Framing

    size = Framing.parse(options.size).crop
    if size is None:
        raise ValueError(f"size '{options.size}' is not allowed, it must be HEIGHTxWIDTH such as 480x640")
    ranges = warps.Ranges(options.rotation, options.scale, options.perspective)
    settings = warps.Warping(size, options.seed, ranges, options.light)
    engine = Engine(max(1, options.processes))
    made, skipped = warps.make_pairs(options.images, options.out, settings, options.limit, engine)
    if options.json:
        summary = {"pairs": made, "out": str(options.out)}
        print(json.dumps({**summary, "left_out": [asdict(item) for item in skipped]}))
        return 0
    print(f"{made} pairs in {options.out}")
    for item in skipped:
        print(f"skipped: {item}")
    return 0
