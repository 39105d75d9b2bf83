"""Profile a subject with PyTorch's profiler: kernels on a GPU, operators on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

_RUNS = 10
_MAX_ROWS = 15
_LONGEST_NAME = 70


def kernel_times(run: Callable[[], Any], device: torch.device) -> list[dict[str, Any]]:
    """Profile `run` and list its most expensive operations, most expensive first.

    Returns:
        For each operation `name`, `calls` and `milliseconds` per run, and `share` of the total.
    """
    gpu = device.type == "cuda"
    run()
    with profile(activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * gpu]) as recorded:
        for _ in range(_RUNS):
            run()
        if gpu:
            torch.cuda.synchronize(device)
    # On a GPU, operators include the kernels that they launch; counting both would count kernels twice.
    wanted = DeviceType.CUDA if gpu else DeviceType.CPU
    rows = [row for row in recorded.key_averages() if row.device_type == wanted]
    spent = [(row.self_device_time_total if gpu else row.self_cpu_time_total) for row in rows]
    total = sum(spent) or 1.0
    longest = sorted(zip(spent, rows, strict=True), key=lambda pair: -pair[0])[:_MAX_ROWS]
    return [
        {
            "name": row.key[:_LONGEST_NAME],
            "calls": row.count / _RUNS,
            "milliseconds": round(microseconds * 1e-3 / _RUNS, 4),
            "share": round(microseconds / total, 4),
        }
        for microseconds, row in longest
        if microseconds > 0
    ]
