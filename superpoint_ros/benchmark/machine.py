"""Describe the machine that a benchmark runs on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import torch

_PACKAGES = ("torch", "openvino", "onnxruntime", "transformers", "opencv-python-headless", "opencv-python", "numpy")
_INSTRUCTIONS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "bf16",
    "i8mm",
    "sve",
)


def describe(device: torch.device) -> dict[str, Any]:
    """Return processor, device, threads, versions, load and date."""
    result: dict[str, Any] = {
        "processor": _processor(),
        "instructions": " ".join(_instructions()),
        "processors_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "threads_opencv": cv2.getNumThreads(),
        "oneDNN_isa_limit": os.environ.get("ONEDNN_MAX_CPU_ISA", ""),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "packages": _versions(),
        "load_average": round(os.getloadavg()[0], 2),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }
    if device.type == "cuda":
        result["cuda"] = torch.version.cuda
    return result


def busy(usable: int) -> bool:
    """Tell whether other programs load the machine so much that measurements are unreliable."""
    return os.getloadavg()[0] > 0.3 * usable


def memory_available(device: torch.device) -> float:
    """Return the bytes that a process can still allocate on a device; infinity if unknown."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
    except OSError:
        pass
    return float("inf")


def _processor() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _instructions() -> list[str]:
    flags = (_cpuinfo("flags") or _cpuinfo("Features")).split()
    return [name for name in _INSTRUCTIONS if name in flags]


def _cpuinfo(key: str) -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    rows = (line.partition(":") for line in text.splitlines())
    return next((value.strip() for name, _, value in rows if name.strip() == key), "")


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
