"""Measure the peak memory of one subject in a process of its own.

`python -m superpoint_ros.benchmark.memory '{"subject": ..., ...}'` prints the result as JSON.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import cast

_MEGABYTE = 1e6
_RUNS = 3
_TIMEOUT = 300.0


def peak_memory(
    subject: str, size: tuple[int, int], weights: str | Path, device: str, threads: int
) -> dict[str, float] | None:
    """Measure megabytes by kind, from the start of a Python process to the third image of `size` (width, height).

    `resident` is the peak resident set: Python, its packages, weights and working memory. `cuda` is the peak that
    PyTorch allocated on the GPU. None if the process fails.
    """
    task = {"subject": subject, "size": size, "weights": str(weights), "device": device, "threads": threads}
    command = [sys.executable, "-m", "superpoint_ros.benchmark.memory", json.dumps(task)]
    root = str(Path(__file__).resolve().parent.parent.parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT, check=True)
        return {kind: float(value) for kind, value in json.loads(done.stdout.splitlines()[-1]).items()}
    except (subprocess.SubprocessError, OSError, IndexError, ValueError):
        return None


def _measure(task: dict[str, object]) -> dict[str, float]:
    import torch

    from superpoint_ros.benchmark import scene, subjects
    from superpoint_ros.extraction import weights

    torch.set_num_threads(int(str(task["threads"])))
    device = torch.device(str(task["device"]))
    every = subjects.candidates(weights.load(str(task["weights"])), device)
    subject = next(candidate for candidate in every if candidate.name == task["subject"]).build()
    width, height = cast(tuple[int, int], task["size"])
    images = scene.frames((width, height), _RUNS)
    before = None
    for index, image in enumerate(images):
        found = subject.extract([image])[0]
        if before is not None:
            subject.match(before, found, (images[index - 1], image))
        before = found
    result = {"resident": _peak_resident() / _MEGABYTE}
    if device.type == "cuda":
        result["cuda"] = torch.cuda.max_memory_allocated(device) / _MEGABYTE
    return result


def _peak_resident() -> float:
    """Return peak resident bytes; on Linux not from `ru_maxrss`, which includes the parent's memory at the fork."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        if found := re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE):
            return int(found[1]) * 1024
    except OSError:
        pass
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


if __name__ == "__main__":
    print(json.dumps(_measure(json.loads(sys.argv[1]))))
