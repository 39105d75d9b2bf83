"""Write the page of an evaluation on planar pairs: tables, curves, bars per sequence, and match visualisations."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from superpoint_ros.evaluation import cache, methods, page, pairs, report
from superpoint_ros.evaluation.benchmarks import CURVE, Benchmark, HomographyEstimation
from superpoint_ros.evaluation.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BARS = {
    "repeatability": ("repeatability", "repeatability"),
    "homography": ("correctness_3", "correctness at 3 px"),
    "matching": ("mma_3", "matching accuracy at 3 px"),
}
"""Metric shown as bars, and its label, for each benchmark."""


def write(path: Path, dataset: pairs.Dataset, results: Results, predictions: Path | None) -> Path:
    """Write the page; without matplotlib it has tables only, and says so.

    Args:
        predictions: cache folder that the evaluation used; match visualisations read their keypoints from it.
    """
    has_figures = importlib.util.find_spec("matplotlib") is not None
    sections = [_overview(results, has_figures)]
    tables = report.tables(results)
    for benchmark in results.benchmarks:
        own = [table for table in tables if table.benchmark == benchmark.name]
        figures = list(_figures(results, benchmark)) if has_figures else []
        for index, table in enumerate(own):
            last = index == len(own) - 1
            text = table.note if index == 0 else ""
            content = page.Table(table.header, table.rows)
            sections.append(page.Section(table.heading, text, content, figures if last else ()))
        if has_figures and own and isinstance(benchmark, HomographyEstimation):
            visualisations = list(_match_images(dataset, results, benchmark, predictions))
            text = "The pair of median difficulty of each kind of change; inliers of the estimate are green."
            sections.append(page.Section("Matches", text, figures=visualisations))
    page.write(path, f"Evaluation on {Path(results.dataset).name or results.dataset}", sections)
    return path


def _overview(results: Results, has_figures: bool) -> page.Section:
    lines = [
        f"Dataset {results.dataset}",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in results.versions.items()),
        f"{results.seconds:.1f} s, predictions: {results.computed} computed, {results.reused} from the cache",
        *(f"Skipped: {sentence}" for sentence in report.skipped(results)),
    ]
    if not has_figures:
        lines.append("Figures need matplotlib: pip install 'superpoint_ros[plot]'")
    rows = [
        (name, ", ".join(f"{key} {value}" for key, value in settings.items()))
        for name, settings in results.methods.items()
    ]
    return page.Section("What was measured", "\n".join(lines), page.Table(("method", "settings"), rows))


def _figures(results: Results, benchmark: Benchmark) -> Iterator[Figure]:
    from superpoint_ros.evaluation import figures

    summaries = list(results.summaries(benchmark.name))
    if benchmark.name == "matching":
        for group in results.groups(benchmark.name):
            accuracy = {s.method: [s.values[f"mma_{t}"] for t in CURVE] for s in summaries if s.group == group}
            yield figures.matching_accuracy_curves(accuracy, CURVE, f"Matching accuracy, {group}")
    metric, label = _BARS[benchmark.name]
    bars: dict[str, dict[str, float]] = {}
    for method in dict.fromkeys(s.method for s in summaries):
        own = [row for row in results.rows if row.benchmark == benchmark.name and row.method == method]
        by_sequence: dict[str, list[Any]] = {}
        for row in own:
            by_sequence.setdefault(row.sequence, []).append(row.values)
        bars[method] = {name: benchmark.summarise(values)[metric] for name, values in by_sequence.items()}
    yield figures.sequence_bars(bars, label, title=f"{label[0].upper()}{label[1:]} by sequence")


def _match_images(
    dataset: pairs.Dataset, results: Results, benchmark: HomographyEstimation, predictions: Path | None
) -> Iterator[Figure]:
    from superpoint_ros.evaluation import figures

    shown = _median_pairs(results, benchmark)
    for method in dict.fromkeys(row.method for row in results.rows if row.benchmark == benchmark.name):
        predictor = cache.Predictor(methods.create(method), predictions)
        for sequence in dataset.sequences:
            views = pairs.Views(sequence, benchmark.framing)
            for k in sequence.views:
                name = f"{sequence.name}/1-{k}"
                values = shown.get(name, {}).get(method)
                if values is None:
                    continue
                pair = views.pair(k)
                numbers = benchmark.max_keypoints, benchmark.nms_radius
                first, second = (predictor.detect(image, *numbers) for image in (pair.first, pair.second))
                found = benchmark.estimate(pair, first, second)
                error = values["corner_error"]
                title = f"{method}, {name}: {found.homography.inlier_count} inliers of {len(found.matches)} matches, "
                title += f"corner error {error:.1f} px" if math.isfinite(error) else "no homography"
                yield figures.plot_match_pair(
                    pair.first, pair.second, found.first, found.second, found.matches, found.homography.inliers,
                    title=title,
                )  # fmt: skip


def _median_pairs(results: Results, benchmark: HomographyEstimation) -> dict[str, dict[str, dict[str, float]]]:
    """Return the pair of median difficulty of each group: metrics by pair and method."""
    rows = [row for row in results.rows if row.benchmark == benchmark.name]
    by_group: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for row in rows:
        by_group.setdefault(row.group, {}).setdefault(row.pair, {})[row.method] = row.values
    shown = {}
    for found in by_group.values():
        ordered = sorted(found, key=lambda name: (_difficulty(found[name]), name))
        name = ordered[(len(ordered) - 1) // 2]
        shown[name] = found[name]
    return shown


def _difficulty(by_method: dict[str, dict[str, float]]) -> float:
    return float(np.median([values["corner_error"] for values in by_method.values()]))
