"""Benchmarks over a dataset of planar pairs: methods and images in, results out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from superpoint_ros.evaluation import cache, methods, pairs
from superpoint_ros.evaluation.benchmarks import Benchmark
from superpoint_ros.evaluation.engine import Engine
from superpoint_ros.evaluation.methods import Detection
from superpoint_ros.evaluation.pairs import LeftOut
from superpoint_ros.evaluation.results import Results, Row, versions


@dataclass(frozen=True)
class Task:
    """One method on one sequence: what is handed to a process.

    Attributes:
        method: as `methods.create` takes it.
        predictions: folder of the cache, or None.
    """

    sequence: pairs.Sequence
    method: str
    benchmarks: tuple[Benchmark, ...]
    predictions: Path | None


@dataclass(frozen=True)
class Outcome:
    """What a task gave: rows, what was left out, and how many predictions were computed and reused."""

    rows: tuple[Row, ...]
    left_out: tuple[LeftOut, ...]
    computed: int
    reused: int


def evaluate(
    dataset: pairs.Dataset,
    names: Sequence[str],
    benchmarks: Sequence[Benchmark],
    engine: Engine | None = None,
    predictions: Path | None = None,
) -> Results:
    """Every benchmark for every method over a dataset.

    Args:
        names: methods, as `methods.create` takes them.
        predictions: folder for predictions, which a second or resumed run reads; None keeps none.

    Raises:
        ValueError: if a method cannot be made, or nothing at all could be evaluated.
    """
    started = time.monotonic()
    names = list(dict.fromkeys(names))
    settings = {name: methods.create(name).settings() for name in names}
    tasks = [Task(sequence, name, tuple(benchmarks), predictions) for sequence in dataset.sequences for name in names]
    outcomes = list((engine or Engine()).run(evaluate_sequence, tasks, "evaluating"))
    rows = [row for outcome in outcomes for row in outcome.rows]
    left_out = list(dict.fromkeys([*dataset.left_out, *(item for outcome in outcomes for item in outcome.left_out)]))
    if not rows:
        why = f": {left_out[0].name}: {left_out[0].reason}" if left_out else ""
        raise ValueError(f"nothing in dataset '{dataset.folder}' could be evaluated{why}")
    # Tasks end in any order; tables keep the order of methods and pairs.
    place = {name: index for index, name in enumerate(names)}
    rows.sort(key=lambda row: (place[row.method], row.pair))
    return Results(
        dataset=str(dataset.folder),
        benchmarks=tuple(benchmarks),
        methods=settings,
        rows=tuple(rows),
        left_out=tuple(left_out),
        versions=versions(),
        seconds=time.monotonic() - started,
        computed=sum(outcome.computed for outcome in outcomes),
        reused=sum(outcome.reused for outcome in outcomes),
    )


def evaluate_sequence(task: Task) -> Outcome:
    """All pairs of one sequence with one method; what cannot be read or detected is left out, the rest goes on."""
    method = cache.Predictor(methods.create(task.method), task.predictions)
    found: dict[tuple[str, int, int, bool, int], Detection] = {}
    rows: list[Row] = []
    left_out: list[LeftOut] = []
    undescribed: list[str] = []
    for benchmark in task.benchmarks:
        views = pairs.Views(task.sequence, benchmark.framing)

        def detect(k: int, benchmark: Benchmark = benchmark, views: pairs.Views = views) -> Detection:
            numbers = benchmark.max_keypoints, benchmark.nms_radius, benchmark.descriptors
            key = (str(benchmark.framing), *numbers, k)
            if key not in found:
                image = views.picture(k)
                try:
                    found[key] = method.detect(image, *numbers)
                except ValueError as error:
                    raise ValueError(f"{error} (method {task.method})") from error
            return found[key]

        try:
            first = detect(1)
        except ValueError as error:
            left_out.append(LeftOut(task.sequence.name, str(error)))
            continue
        if benchmark.descriptors and first.descriptors is None:
            undescribed.append(benchmark.name)
            continue
        for k in task.sequence.views:
            try:
                pair = views.pair(k)
                values = benchmark.score(pair, first, detect(k))
            except ValueError as error:
                left_out.append(LeftOut(f"{task.sequence.name}/1-{k}", str(error)))
                continue
            rows.append(Row(benchmark.name, task.method, task.sequence.name, pair.name, pair.group, values))
    if undescribed:
        left_out.append(LeftOut(task.method, f"the method has no descriptors, which {' and '.join(undescribed)} need"))
    return Outcome(tuple(rows), tuple(left_out), method.computed, method.reused)


def with_numbers(benchmark: Benchmark, **changes: object) -> Benchmark:
    """A benchmark with other numbers; those that it does not have, and None, are ignored."""
    known = {name: value for name, value in changes.items() if value is not None and hasattr(benchmark, name)}
    return replace(benchmark, **known)  # type: ignore[arg-type]
