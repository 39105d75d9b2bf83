"""superpoint-ros bench"""

from __future__ import annotations

import argparse
import json
import logging
import os
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)

_SIZES = ("320x240", "640x480", "752x480", "1241x376", "1280x720", "1920x1080")
_EXTRAS = ("memory", "energy", "middleware", "live")
_KERNELS = "kernels"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "All subjects get the same images and weights and take turns, so that the figures of one run are comparable "
        "even on a busy machine. On two idle cores the default takes about five minutes and --quick about one."
    )
    parser.add_argument("--sizes", nargs="+", metavar="WxH", help=f"image sizes (default: {' '.join(_SIZES)})")
    parser.add_argument(
        "--batches", nargs="+", type=int, metavar="N",
        help="batch sizes; above 1 at 640x480 only, or at the first size if that is not measured (default: 1 4)",
    )  # fmt: skip
    parser.add_argument("--grid", action="store_true", help="measure every batch size at every image size")
    parser.add_argument(
        "--subjects", nargs="+", default=[], metavar="NAME",
        help="subjects by name or prefix, such as openvino or transformers (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--weights", default="default", help="name of known weights, file or folder (default: %(default)s)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    parser.add_argument(
        "--threads",
        type=int,
        default=0,
        help="number of threads for all libraries; 0 keeps their defaults (default: 0)",
    )
    parser.add_argument("--images", help="image or folder of images instead of the synthetic scene")
    parser.add_argument("--max-keypoints", type=int, default=1000, help="per image (default: %(default)s)")
    parser.add_argument("--rounds", type=int, help="rounds of measurement (default: 7)")
    parser.add_argument(
        "--seconds", type=float, default=40.0,
        help="time budget per size, after which no round beyond the third starts (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--extras", nargs="*", choices=(*_EXTRAS, _KERNELS), default=list(_EXTRAS), metavar="NAME",
        help=f"optional measurements: {', '.join(_EXTRAS)}, {_KERNELS} (of PyTorch's runtimes); without "
        "names, none (default: all but the last)",
    )  # fmt: skip
    parser.add_argument(
        "--quick", action="store_true", help="smaller defaults: 320x240 and 640x480, single images, 3 rounds"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write results.json, results.md and results.png there")
    parser.add_argument("--json", action="store_true", help="print the results as JSON on stdout")


def run(options: argparse.Namespace) -> int:
    from rich.console import Console

    from superpoint_ros.benchmark.machine import busy
    from superpoint_ros.benchmark.plan import Plan
    from superpoint_ros.benchmark.report import markdown
    from superpoint_ros.benchmark.run import run as run_plan
    from superpoint_ros.io.files import write_text

    defaults: dict[str, Any] = {"sizes": _SIZES, "batches": (1, 4), "rounds": 7}
    if options.quick:
        defaults = {"sizes": _SIZES[:2], "batches": (1,), "rounds": 3, "ceiling_seconds": 0.05}
    names = ("sizes", "batches", "grid", "subjects", "weights", "device", "images", "max_keypoints", "rounds",
             "seconds", "extras", "threads")  # fmt: skip
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    plan = Plan(**{**defaults, **given})
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
    if busy(os.cpu_count() or 1):
        _log.warning("other programs keep this machine busy: compare figures of this run with each other only")

    def save(results: dict[str, Any]) -> None:
        if options.out:
            write_text(options.out / "results.json", json.dumps(results, indent=2) + "\n")

    console = Console(stderr=True)
    with console.status("starting") as status:
        results = run_plan(plan, lambda text: status.update(text), save)
    if options.out:
        write_text(options.out / "results.md", markdown(results))
        _plot(results, options.out)
    print(json.dumps(results) if options.json else markdown(results))
    return 0


def _plot(results: dict[str, Any], out: Path) -> None:
    try:
        from superpoint_ros.benchmark.plot import plot
        from superpoint_ros.io.files import atomic_write

        with atomic_write(out / "results.png") as partial:
            plot(results, partial)
    except ImportError:
        _log.warning("no plot is written without matplotlib, install it with: pip install 'superpoint_ros[bench]'")
