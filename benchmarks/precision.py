"""Measure the accuracy of low precision: keypoints and homographies compared with float32, on the same pairs.

    superpoint-ros evaluate make-pairs IMAGES pairs/ --size 240x320
    python benchmarks/precision.py pairs/

Prints a table in Markdown. "Same keypoints" is the fraction of keypoints within a pixel of one of float32, in both
directions. A homography is correct at 1 px if its mean corner error is at most 1 px. The difference to float32 is over
the same pairs, followed by its standard error, from the pairs on which the two disagree.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from superpoint_ros import Features, SuperPoint, estimate_homography, match
from superpoint_ros.benchmark.agreement import shared
from superpoint_ros.benchmark.report import table
from superpoint_ros.evaluation.framing import Framing
from superpoint_ros.evaluation.metrics import corner_error
from superpoint_ros.evaluation.pairs import Pair, Views, read_dataset

LIMITS = (1, 3, 5)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path, help="folder of pairs in HPatches layout, as make-pairs writes it")
    parser.add_argument("--precisions", nargs="+", default=["bfloat16", "int8"], help="(default: bfloat16 int8)")
    parser.add_argument("--weights", default="default", help="known name or file (default: %(default)s)")
    parser.add_argument("--runtime", default="auto", help="(default: %(default)s)")
    parser.add_argument("--device", default="auto", help="(default: %(default)s)")
    parser.add_argument("--threshold", type=float, default=0.005, help="detection threshold (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=0, help="maximum number of pairs, 0 for all")
    options = parser.parse_args()
    try:
        extractors = {
            precision: SuperPoint(
                options.weights,
                detection_threshold=options.threshold,
                device=options.device,
                runtime=options.runtime,
                precision=precision,
            )
            for precision in ("float32", *options.precisions)
        }
        pairs = [(s, k) for s in read_dataset(options.pairs).sequences for k in s.views][: options.limit or None]
        found = [
            list(_measure(Views(s, Framing()).pair(k), extractors))
            for s, k in track(pairs, "pairs", console=Console(stderr=True))
        ]
    except (ValueError, OSError) as error:
        print(f"precision.py: {error}", file=sys.stderr)
        return 1
    print(_table(list(extractors), np.array(found)))
    return 0


def _measure(pair: Pair, extractors: dict[str, SuperPoint]) -> Iterator[tuple[float, float, float]]:
    """Yield for each extractor the fraction of same keypoints, and the corner errors without and with alignment."""
    images = (pair.first, pair.second)
    reference: Features | None = None
    for superpoint in extractors.values():
        first, second = map(superpoint.extract, images)
        reference = first if reference is None else reference
        matches = match(first, second)
        alone, aligned = (estimate_homography(first, second, matches, images=used) for used in (None, images))
        errors = [
            corner_error(h.matrix, pair.homography, pair.first.shape) if h.status == 0 else np.inf
            for h in (alone, aligned)
        ]
        yield shared(reference.keypoints, first.keypoints), errors[0], errors[1]


def _table(names: list[str], figures: NDArray[np.float64]) -> str:
    """Format (pairs, precisions, 3) figures as Markdown."""
    heads = ["arithmetic", "same keypoints", *(f"{how}{limit} px" for how in ("", "aligned, ") for limit in LIMITS)]
    correct = np.stack([figures[:, :, how] <= limit for how in (1, 2) for limit in LIMITS], axis=2)
    rows = []
    for index, name in enumerate(names):
        cells = [name, f"{figures[:, index, 0].mean():.3f}"]
        for ours, theirs in zip(correct[:, index].T, correct[:, 0].T, strict=True):
            difference, error = ours.mean() - theirs.mean(), np.sqrt((ours != theirs).sum()) / len(ours)
            cells.append(f"{ours.mean():.3f}" + (f" ({difference:+.3f} ± {error:.3f})" if index else ""))
        rows.append(cells)
    return f"{len(figures)} pairs\n\n{table(heads, rows)}"


if __name__ == "__main__":
    sys.exit(main())
