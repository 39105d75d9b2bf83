"""The part of a run that goes through the middleware: messages between processes, and the live node."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from superpoint_ros.benchmark.measure import measure
from superpoint_ros.benchmark.plan import Plan
from superpoint_ros.benchmark.scene import Image
from superpoint_ros.benchmark.subjects import Subject
from superpoint_ros.extraction.weights import Weights

_VISITS = 5


def add(
    result: dict[str, Any],
    plan: Plan,
    found: Weights,
    images: Sequence[Image],
    default: Subject | None,
    tell: Callable[[str], None],
) -> None:
    """Put `middleware` and `live` into `result` where the plan asks for them, or why not into `extras_left_out`.

    Args:
        default: the subject that does in this process what the live node does.
    """
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
        if default is None or "middleware" not in result:
            left_out["live"] = "the default subject or the middleware was not measured"
            return
        tell("the live node")
        try:
            from superpoint_ros.benchmark.live import measure_live

            names = {"weights": found.path, "device": plan.device, "max_keypoints": plan.max_keypoints}
            assignments = [f"{name}:={value}" for name, value in names.items()]
            cost = _cost(default, images, result["middleware"]["float32"])
            result["live"] = measure_live(images, cost, assignments, torch.get_num_threads())
        except (ValueError, OSError, ImportError) as error:
            left_out["live"] = " ".join(str(error).split())


def _cost(subject: Subject, images: Sequence[Image], message: Mapping[str, Any]) -> Callable[[], float]:
    """Measures the seconds that a frame costs here: extraction, matching, homography; with its message."""

    def measured() -> float:
        samples, failed = measure({"": subject}, images, batch=1, rounds=_VISITS)
        if failed:
            raise OSError(failed[""])
        return statistics.median(samples[""].whole) + 1e-3 * (message["fill"]["median"] + message["publish"]["median"])

    return measured
