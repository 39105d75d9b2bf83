"""The results of an evaluation: metrics of every pair, their summaries, and files of both."""

from __future__ import annotations

import csv
import io
import json
import math
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from superpoint_ros.evaluation.benchmarks import Benchmark, Values
from superpoint_ros.evaluation.pairs import GROUPS, Skipped
from superpoint_ros.io.files import write_texts

OVERALL = "overall"


@dataclass(frozen=True)
class Row:
    """Metrics of one method on one pair.

    Attributes:
        group: what changes within the pair (see `pairs.GROUPS`).
        values: metrics by name.
    """

    benchmark: str
    method: str
    sequence: str
    pair: str
    group: str
    values: Values


@dataclass(frozen=True)
class Summary:
    """Metrics of one method over the pairs of a group; the group "overall" has all pairs."""

    benchmark: str
    method: str
    group: str
    pairs: int
    values: Values


@dataclass(frozen=True)
class Results:
    """An evaluation.

    Attributes:
        methods: settings of the methods, by specification.
        versions: versions of all software that may affect the metrics.
        seconds: duration of the evaluation.
        computed, reused: numbers of predictions that were computed and read from the cache.
    """

    dataset: str
    benchmarks: tuple[Benchmark, ...]
    methods: dict[str, dict[str, Any]]
    rows: tuple[Row, ...]
    skipped: tuple[Skipped, ...]
    versions: dict[str, str]
    seconds: float
    computed: int
    reused: int

    def groups(self, benchmark: str) -> list[str]:
        """List the groups that occur, in the order of tables, "overall" last."""
        present = {row.group for row in self.rows if row.benchmark == benchmark}
        known = [group for group in (*GROUPS.values(), "other") if group in present]
        # A single group equals the overall one.
        return [*known, OVERALL] if len(known) > 1 else [OVERALL]

    def summaries(self, benchmark: str) -> Iterator[Summary]:
        """Summarise every method and group, in the order of methods."""
        kind = next(b for b in self.benchmarks if b.name == benchmark)
        for method in self.methods:
            own = [row for row in self.rows if row.benchmark == benchmark and row.method == method]
            for group in self.groups(benchmark):
                chosen = [row.values for row in own if group in (OVERALL, row.group)]
                if chosen:
                    yield Summary(benchmark, method, group, len(chosen), kind.summarise(chosen))

    def as_dict(self) -> dict[str, Any]:
        """Convert everything to JSON values; undefined metrics and infinite errors become null."""
        return {
            "dataset": self.dataset,
            "benchmarks": [benchmark.settings() for benchmark in self.benchmarks],
            "methods": self.methods,
            "versions": self.versions,
            "seconds": round(self.seconds, 3),
            "predictions": {"computed": self.computed, "reused": self.reused},
            "left_out": [asdict(item) for item in self.skipped],
            "summaries": [
                {
                    "benchmark": s.benchmark,
                    "method": s.method,
                    "group": s.group,
                    "pairs": s.pairs,
                    "values": finite(s.values),
                }
                for benchmark in self.benchmarks
                for s in self.summaries(benchmark.name)
            ],
            "pairs": [
                {
                    "benchmark": row.benchmark,
                    "method": row.method,
                    "pair": row.pair,
                    "group": row.group,
                    "values": finite(row.values),
                }
                for row in self.rows
            ],
        }

    def as_csv(self) -> str:
        """Format as CSV, one line for every metric of every summary (with an empty pair) and of every pair."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("benchmark", "method", "group", "pair", "metric", "value"))
        for benchmark in self.benchmarks:
            for s in self.summaries(benchmark.name):
                writer.writerows((s.benchmark, s.method, s.group, "", name, v) for name, v in s.values.items())
        for r in self.rows:
            writer.writerows((r.benchmark, r.method, r.group, r.pair, name, v) for name, v in r.values.items())
        return text.getvalue()


def write(results: Results, folder: Path, markdown: str) -> list[Path]:
    """Write results.json, results.csv and results.md to a folder; return their paths."""
    texts = {
        "results.json": json.dumps(results.as_dict(), indent=1, allow_nan=False) + "\n",
        "results.csv": results.as_csv(),
        "results.md": markdown,
    }
    return write_texts(folder, texts)


def versions() -> dict[str, str]:
    """Return the versions of the software that may affect the metrics."""
    import cv2
    import numpy as np

    from superpoint_ros import __version__

    return {
        "superpoint_ros": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "torch": _version("torch"),
    }


def _version(package: str) -> str:
    """Return the version of an installed package without importing it, which takes seconds."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Replace NaN and infinity by None, as JSON has neither."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }
