"""superpoint-ros evaluate all, repeatability, homography, matching"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from superpoint_ros.commands.arguments import add_cache, add_methods, cache_folder, int_at_least, positive_float

if TYPE_CHECKING:
    from superpoint_ros.evaluation.benchmarks import Benchmark

DETECTORS = ("superpoint", "fast", "harris", "shi", "sift", "orb")
DESCRIBERS = ("superpoint", "sift", "orb")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", type=Path, help="folder in HPatches layout, or one written by `evaluate make-pairs`")
    add_methods(
        parser,
        "superpoint[:WEIGHTS], magicpoint:WEIGHTS, sift, orb, akaze, fast, harris, shi, or your own "
        f"package.module:Class (default: {' '.join(DETECTORS)}, of which homography and matching take those with "
        "descriptors)",
    )
    protocol = parser.add_argument_group("protocol", "defaults are those of the published evaluations")
    protocol.add_argument(
        "--size",
        help="HEIGHTxWIDTH to scale and crop to, the longer side in pixels, or native "
        "(default: 240x320 for repeatability, else 480x640)",
    )
    protocol.add_argument("--max-keypoints", type=int_at_least(1), help="per image (default: 1000)")
    protocol.add_argument(
        "--nms-radius",
        type=int_at_least(0),
        help="radius of non-maximum suppression in pixels (default: 4 for repeatability, else 8)",
    )
    protocol.add_argument("--epsilon", type=positive_float, help="correctness threshold in pixels (default: 3)")
    protocol.add_argument(
        "--most",
        type=int_at_least(1),
        help="maximum number of keypoints in the common view for repeatability (default: 300)",
    )
    protocol.add_argument(
        "--estimator", help="estimator of homographies: ransac, magsac, accurate, fast or lmeds (default: ransac)"
    )
    protocol.add_argument(
        "--align", action="store_true", default=None, help="refine the homographies of every method on the images"
    )
    work = parser.add_argument_group("work")
    add_cache(work)
    work.add_argument("--processes", type=int_at_least(1), default=1, help="number of processes (default: %(default)s)")
    work.add_argument(
        "--ray", nargs="?", const="", metavar="ADDRESS", help="use Ray, locally or on the cluster at ADDRESS"
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--out", type=Path, metavar="DIR", help="write results.json, results.csv, results.md and page.html"
    )
    output.add_argument("--json", action="store_true", help="print the results as JSON on stdout")


def run(options: argparse.Namespace) -> int:
    from rich.console import Console

    from superpoint_ros.evaluation import pairs, report, results, suite
    from superpoint_ros.evaluation.engine import Engine

    benchmarks = _benchmarks(options)
    dataset = pairs.read_dataset(options.dataset)
    names = options.methods or (DETECTORS if options.benchmark in ("all", "repeatability") else DESCRIBERS)
    predictions = cache_folder(options)
    found = suite.evaluate(dataset, names, benchmarks, Engine(options.processes, options.ray), predictions)
    if options.json:
        print(json.dumps(found.as_dict(), allow_nan=False))
    else:
        report.show(found, Console())
        print(f"{found.seconds:.1f} s, predictions: {found.computed} computed, {found.reused} from the cache")
    if options.out:
        from superpoint_ros.evaluation import planar_page

        written = results.write(found, options.out, report.markdown(found))
        written.append(planar_page.write(options.out / "page.html", dataset, found, predictions))
        if not options.json:
            print(f"written: {', '.join(str(path) for path in written)}")
    return 0


def _benchmarks(options: argparse.Namespace) -> list[Benchmark]:
    from superpoint_ros.evaluation.benchmarks import BENCHMARKS
    from superpoint_ros.evaluation.framing import Framing
    from superpoint_ros.evaluation.suite import with_overrides
    from superpoint_ros.two_view.homography import METHODS

    if options.estimator and options.estimator not in METHODS:
        raise ValueError(f"estimator '{options.estimator}' is unknown, allowed is one of {', '.join(METHODS)}")
    kinds = list(BENCHMARKS.values()) if options.benchmark == "all" else [BENCHMARKS[options.benchmark]]
    changes = {
        "framing": Framing.parse(options.size) if options.size else None,
        "max_keypoints": options.max_keypoints,
        "nms_radius": options.nms_radius,
        "epsilon": options.epsilon,
        "most": options.most,
        "estimator": options.estimator,
        "align": options.align,
    }
    return [with_overrides(kind(), **changes) for kind in kinds]
