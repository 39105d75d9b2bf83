"""The part of a run that goes through the middleware: messages between processes, and the live node."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from superpoint_ros.benchmark.plan import Plan
from superpoint_ros.benchmark.scene import Image
from superpoint_ros.weights import Weights


def add(
    result: dict[str, Any],
    plan: Plan,
    found: Weights,
    images: Sequence[Image],
    results: Mapping[str, Any],
    tell: Callable[[str], None],
) -> None:
    """Put `middleware` and `live` into `result` where the plan asks for them, or why not into `extras_left_out`."""
    left_out = result["extras_left_out"]
    if "middleware" in plan.extras:
        tell("messages between two processes")
        try:
            from superpoint_ros.benchmark.middleware import measure_middleware

            size = found.network.architecture.descriptor_size
            result["middleware"] = measure_middleware(plan.max_keypoints, size)
        except (ValueError, OSError, ImportError) as error:
            left_out["middleware"] = " ".join(str(error).split())
    if "live" in plan.extras:
        expected = _expected(result, results)
        if expected is None:
            left_out["live"] = "the default subject or the middleware was not measured"
            return
        tell("the live node")
        try:
            from superpoint_ros.benchmark.live import measure_live

            names = {"weights": found.path, "device": plan.device, "max_keypoints": plan.max_keypoints}
            assignments = [f"{name}:={value}" for name, value in names.items()]
            result["live"] = measure_live(images, expected, assignments, torch.get_num_threads())
        except (ValueError, OSError, ImportError) as error:
            left_out["live"] = " ".join(str(error).split())


def _expected(result: Mapping[str, Any], results: Mapping[str, Any]) -> float | None:
    """Seconds that a frame costs the detector by the figures of this run: extraction, matching, homography, message."""
    cases = [c for c in results["cases"] if (c["width"], c["height"]) == (result["width"], result["height"])]
    figures = next((c["subjects"].get(results["default"]) for c in cases if c["batch"] == 1), None)
    if figures is None or "middleware" not in result:
        return None
    message = result["middleware"]["float32"]
    return 1e-3 * float(figures["with_matching"]["median"] + message["fill"]["median"] + message["publish"]["median"])
