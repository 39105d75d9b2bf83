"""Run a benchmark: execute a plan and return results as JSON values."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import cv2
import torch

from superpoint_ros.benchmark import energy, machine, memory, online, scene, stages
from superpoint_ros.benchmark.agreement import agreement
from superpoint_ros.benchmark.ceiling import matrix_product_ceiling
from superpoint_ros.benchmark.kernels import kernel_times
from superpoint_ros.benchmark.measure import Case, Samples, measure, summary
from superpoint_ros.benchmark.plan import Plan
from superpoint_ros.benchmark.subjects import (
    PLAIN,
    TRANSFORMERS,
    Candidate,
    Ours,
    Subject,
    candidates,
)
from superpoint_ros.extraction import runtimes, weights
from superpoint_ros.extraction.decoding import Decoding

SCHEMA = 1
"""Version of the structure of the results."""

Progress = Callable[[str], None]
Save = Callable[[dict[str, Any]], None]
# Low enough that any weights give `max_keypoints` keypoints.
_THRESHOLD = 0.0005


def run(plan: Plan, progress: Progress = lambda text: None, save: Save = lambda results: None) -> dict[str, Any]:
    """Execute a plan.

    Args:
        progress: called with a description of each step.
        save: called with the results so far after every case and at the end, so that an interrupted run loses little.

    Returns:
        The results; docs/performance.md describes every entry.

    Raises:
        ValueError: in one sentence, if something in the plan is not available.
    """
    cases = plan.cases()
    if plan.threads:
        torch.set_num_threads(plan.threads)
        cv2.setNumThreads(plan.threads)
    device = runtimes.choose_device(plan.device)
    begin = time.monotonic()
    found = weights.load(plan.weights)
    settings = Decoding(max_keypoints=plan.max_keypoints, detection_threshold=_THRESHOLD)
    progress("compiling the networks")
    chosen = _select(plan, candidates(found, device, settings))
    built, left_out = _build(chosen)
    usual = runtimes.create(found.network, str(device))
    default = f"{usual.name}-{usual.precision}"
    del usual  # free its memory
    ceiling = matrix_product_ceiling(device, plan.ceiling_seconds)
    results: dict[str, Any] = {
        "schema": SCHEMA,
        "machine": machine.describe(device),
        "weights": found.label,
        "rules": vars(settings),
        "rounds": plan.rounds,
        "pictures": str(plan.images or "synthetic scene"),
        "default": default,
        "subjects": {c.name: {"group": c.group, "runtime": c.runtime, "precision": c.precision} for c in chosen},
        "left_out": left_out,
        "cases": [],
    }
    for case in cases:
        results["cases"].append(_case(case, plan, built, found, device, progress))
        save(results)
    # Throughput varies with the load on the machine; the ceiling is the maximum of two measurements.
    again = matrix_product_ceiling(device, plan.ceiling_seconds)
    results["ceiling"] = {name: max(value, again[name]) for name, value in ceiling.items()}
    results["reference"] = _reference(plan, built, found, device, results, progress)
    results["seconds"] = round(time.monotonic() - begin, 1)
    save(results)
    return results


def _select(plan: Plan, every: list[Candidate]) -> list[Candidate]:
    chosen = [c for c in every if not plan.subjects or any(c.name.startswith(name) for name in plan.subjects)]
    for name in plan.subjects:
        if not any(c.name.startswith(name) for c in every):
            raise ValueError(f"subject '{name}' is unknown, allowed is one of {', '.join(c.name for c in every)}")
    return chosen


def _build(chosen: list[Candidate]) -> tuple[dict[str, Subject], dict[str, str]]:
    built: dict[str, Subject] = {}
    left_out: dict[str, str] = {}
    for candidate in chosen:
        try:
            built[candidate.name] = candidate.build()
        except (ValueError, ImportError, RuntimeError) as error:
            left_out[candidate.name] = " ".join(str(error).split())
    if not built:
        raise ValueError(f"no subject is available: {next(iter(left_out.values()))}")
    return built, left_out


def _case(
    case: Case,
    plan: Plan,
    built: Mapping[str, Subject],
    found: weights.Weights,
    device: torch.device,
    progress: Progress,
) -> dict[str, Any]:
    result: dict[str, Any] = {
        "label": case.label,
        "width": case.width,
        "height": case.height,
        "batch": case.batch,
        "operations_per_image": stages.operations(found.network.architecture, case.width, case.height),
        "subjects": {},
        "failed": {},
    }
    # Inputs and outputs of the first two layers in float32, which dominate the activations.
    needed = 4 * 64 * 4 * case.width * case.height * case.batch
    if needed > (available := machine.memory_available(device)):
        result["failed"] = dict.fromkeys(
            built, f"needs {needed / 1e9:.1f} GB of memory, {available / 1e9:.1f} GB are free"
        )
        return result
    images = scene.frames((case.width, case.height), 2 * case.batch, plan.images)
    gc.collect()
    samples, result["failed"] = measure(
        built, images, case.batch, plan.rounds, plan.seconds, lambda text: progress(f"{case.label}: {text}")
    )
    result["subjects"] = {name: _figures(taken, case) for name, taken in samples.items()}
    for figures in result["subjects"].values():
        for peer in (TRANSFORMERS, PLAIN):
            if peer in result["subjects"]:
                other = result["subjects"][peer]["extract"]["median"]
                figures[f"times_{peer}"] = round(other / figures["extract"]["median"], 2)
    return result


def _figures(taken: Samples, case: Case) -> dict[str, Any]:
    extract, whole = summary(taken.extract), summary(taken.whole)
    each = extract["median"] / case.batch
    return {
        "extract": extract,
        "with_matching": whole,
        "processor": summary(taken.processor),
        "images_per_second": round(1e3 / each, 2),
        "images_per_second_with_matching": round(1e3 * case.batch / whole["median"], 2),
        "ms_per_megapixel": round(each / case.megapixels, 2),
        "keypoints": taken.keypoints,
        "matches": taken.matches,
        "inliers": taken.inliers,
    }


def _reference(
    plan: Plan,
    built: Mapping[str, Subject],
    found: weights.Weights,
    device: torch.device,
    results: Mapping[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """Measure what is measured at one size only: stages, agreement, memory, energy, middleware and the live node."""
    width, height = size = plan.reference()
    images = scene.frames(size, 4, plan.images)
    progress("stages")
    result: dict[str, Any] = {"width": width, "height": height, "stages": {}, "extras_left_out": {}}
    for name, subject in built.items():
        if isinstance(subject, Ours):
            operations = stages.operations(subject.superpoint.weights.network.architecture, width, height)
            seconds = stages.stage_times(subject, images, max(3, plan.rounds), device)
            precision = results["subjects"][name]["precision"]
            ceiling = results["ceiling"].get(precision)
            result["stages"][name] = _stage_figures(seconds, operations, ceiling, subject.separate_decoding)
            if "refinement" not in result:  # the network has no part in it
                result["refinement"] = stages.refinement_times(subject, images[0], max(3, plan.rounds), device)
    result["agreement"] = agreement(built, images)
    if "memory" in plan.extras:
        result["memory_mb"] = {}
        for name in built:
            progress(f"memory of {name}")
            path, where = found.path, str(device)
            result["memory_mb"][name] = memory.peak_memory(name, size, path, where, torch.get_num_threads())
    if "energy" in plan.extras:
        result["energy"] = _energy(built, images, device, progress)
    if "kernels" in plan.extras:
        result["kernels"] = _kernels(built, images, device, progress)
    online.add(result, plan, found, images, built.get(str(results["default"])), progress)
    return result


def _kernels(
    built: Mapping[str, Subject], images: list[scene.Image], device: torch.device, progress: Progress
) -> dict[str, list[dict[str, Any]]]:
    """Profile this package in PyTorch, in the precision that `auto` selects."""
    precision = runtimes.choose_precision("auto", device)
    found = {}
    for name, subject in built.items():
        runtime = subject.superpoint.runtime if isinstance(subject, Ours) else None
        if (
            runtime is not None
            and runtime.precision == precision
            and runtime.name.startswith(("pytorch", "cuda_graph"))
        ):
            progress(f"kernels of {name}")
            found[name] = kernel_times(partial(subject.extract, images[:1]), device)
    return found


def _stage_figures(
    seconds: Mapping[str, float], operations: int, ceiling: float | None, separate_decoding: bool
) -> dict[str, Any]:
    figures: dict[str, Any] = {"milliseconds": {name: round(value * 1e3, 3) for name, value in seconds.items()}}
    total = sum(seconds.values())
    figures["share"] = {name: round(value / total, 4) for name, value in seconds.items()}
    if network := seconds.get("network"):
        if separate_decoding:
            figures["decode_to_network"] = round(seconds["decode features"] / network, 4)
        figures["operations_per_second"] = round(operations / network)
        figures["share_of_ceiling"] = round(operations / network / ceiling, 3) if ceiling else None
    return figures


def _energy(
    built: Mapping[str, Subject], images: list[scene.Image], device: torch.device, progress: Progress
) -> dict[str, Any] | None:
    counter = energy.meter(device)
    if counter is None:
        return None
    joules = {}
    for name, subject in built.items():
        progress(f"energy of {name}")
        joules[name] = round(energy.per_image(subject, images, counter), 3)
    return {"meter": counter.name, "joules_per_image": joules}
