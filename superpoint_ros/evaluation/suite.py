"""Run benchmarks of several methods over a dataset of planar pairs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from superpoint_ros.evaluation import cache, methods, pairs
from superpoint_ros.evaluation.benchmarks import Benchmark
from superpoint_ros.evaluation.engine import Engine
from superpoint_ros.evaluation.methods import Detection
from superpoint_ros.evaluation.pairs import Skipped
from superpoint_ros.evaluation.results import Results, Row, versions


@dataclass(frozen=True)
class Task:
    """One method on one sequence: the unit of work of a process.

    Attributes:
        method: specification, as for `methods.create`.
        predictions: cache folder, or None.
    """

    sequence: pairs.Sequence
    method: str
    benchmarks: tuple[Benchmark, ...]
    predictions: Path | None


@dataclass(frozen=True)
class Outcome:
    """The result of a task: rows, what was skipped, and the numbers of predictions computed and reused."""

    rows: tuple[Row, ...]
    skipped: tuple[Skipped, ...]
    computed: int
    reused: int


def evaluate(
    dataset: pairs.Dataset,
    names: Sequence[str],
    benchmarks: Sequence[Benchmark],
    engine: Engine | None = None,
    predictions: Path | None = None,
) -> Results:
    """Run every benchmark with every method over a dataset.

    Args:
        names: specifications of methods, as for `methods.create`.
        predictions: cache folder of predictions, which a second or resumed run reads; None disables the cache.

    Raises:
        ValueError: if a method cannot be created, or nothing could be evaluated.
    """
    started = time.monotonic()
    names = list(dict.fromkeys(names))
    settings = {name: methods.create(name).settings() for name in names}
    tasks = [Task(sequence, name, tuple(benchmarks), predictions) for sequence in dataset.sequences for name in names]
    outcomes = list((engine or Engine()).run(evaluate_sequence, tasks, "evaluating"))
    rows = [row for outcome in outcomes for row in outcome.rows]
    skipped = list(dict.fromkeys([*dataset.skipped, *(item for outcome in outcomes for item in outcome.skipped)]))
    if not rows:
        why = f": {skipped[0]}" if skipped else ""
        raise ValueError(f"nothing in dataset '{dataset.folder}' could be evaluated{why}")
    # Tasks complete in any order; tables keep the order of methods and pairs.
    position = {name: index for index, name in enumerate(names)}
    rows.sort(key=lambda row: (position[row.method], row.pair))
    return Results(
        dataset=str(dataset.folder),
        benchmarks=tuple(benchmarks),
        methods=settings,
        rows=tuple(rows),
        skipped=tuple(skipped),
        versions=versions(),
        seconds=time.monotonic() - started,
        computed=sum(outcome.computed for outcome in outcomes),
        reused=sum(outcome.reused for outcome in outcomes),
    )


def evaluate_sequence(task: Task) -> Outcome:
    """Evaluate one method on all pairs of a sequence; skip and report what cannot be read or detected."""
    method = cache.Predictor(methods.create(task.method), task.predictions)
    found: dict[tuple[str, int, int, bool, int], Detection] = {}
    rows: list[Row] = []
    skipped: list[Skipped] = []
    undescribed: list[str] = []
    for benchmark in task.benchmarks:
        views = pairs.Views(task.sequence, benchmark.framing)

        def detect(k: int, benchmark: Benchmark = benchmark, views: pairs.Views = views) -> Detection:
            numbers = benchmark.max_keypoints, benchmark.nms_radius, benchmark.descriptors
            key = (str(benchmark.framing), *numbers, k)
            if key not in found:
                image = views.image(k)
                try:
                    found[key] = method.detect(image, *numbers)
                except ValueError as error:
                    raise ValueError(f"{error} (method {task.method})") from error
            return found[key]

        try:
            first = detect(1)
        except ValueError as error:
            skipped.append(Skipped(task.sequence.name, str(error)))
            continue
        if benchmark.descriptors and first.descriptors is None:
            undescribed.append(benchmark.name)
            continue
        for k in task.sequence.views:
            try:
                pair = views.pair(k)
                values = benchmark.score(pair, first, detect(k))
            except ValueError as error:
                skipped.append(Skipped(f"{task.sequence.name}/1-{k}", str(error)))
                continue
            rows.append(Row(benchmark.name, task.method, task.sequence.name, pair.name, pair.group, values))
    if undescribed:
        skipped.append(Skipped(task.method, f"the method has no descriptors, which {' and '.join(undescribed)} need"))
    return Outcome(tuple(rows), tuple(skipped), method.computed, method.reused)


def with_overrides(benchmark: Benchmark, **changes: object) -> Benchmark:
    """Return a benchmark with some parameters replaced; those that it does not have, and None, are ignored."""
    known = {name: value for name, value in changes.items() if value is not None and hasattr(benchmark, name)}
    return replace(benchmark, **known)  # type: ignore[arg-type]
