"""The measurements over the middleware: messages between processes, and the live node."""

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

_ROUNDS = 5


def add(
    result: dict[str, Any],
    plan: Plan,
    found: Weights,
    images: Sequence[Image],
    default: Subject | None,
    progress: Callable[[str], None],
) -> None:
    """Add `middleware` and `live` to `result` if the plan asks for them; reasons of failures go to `extras_left_out`.

    Args:
        default: the subject with the live node's configuration, in this process.
    """
    left_out = result["extras_left_out"]
    if "middleware" in plan.extras:
        progress("messages between two processes")
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
        progress("the live node")
        try:
            from superpoint_ros.benchmark.live import measure_live

            names = {"weights": found.path, "device": plan.device, "max_keypoints": plan.max_keypoints}
            assignments = [f"{name}:={value}" for name, value in names.items()]
            cost = _cost(default, images, result["middleware"]["float32"])
            result["live"] = measure_live(images, cost, assignments, torch.get_num_threads())
        except (ValueError, OSError, ImportError) as error:
            left_out["live"] = " ".join(str(error).split())


def _cost(subject: Subject, images: Sequence[Image], message: Mapping[str, Any]) -> Callable[[], float]:
    """Return a function that measures the seconds per frame: extraction, matching, homography, and the message."""

    def measure_cost() -> float:
        samples, failed = measure({"": subject}, images, batch=1, rounds=_ROUNDS)
        if failed:
            raise OSError(failed[""])
        return statistics.median(samples[""].whole) + 1e-3 * (message["fill"]["median"] + message["publish"]["median"])

    return measure_cost
