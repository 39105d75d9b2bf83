"""Measure energy per image, on machines with energy counters."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch

from superpoint_ros.benchmark.scene import Image
from superpoint_ros.benchmark.subjects import Subject

POWERCAP = Path("/sys/class/powercap")


class Meter(Protocol):
    """An energy counter; `name` says what it covers."""

    name: str

    def start(self) -> None:
        """Start counting."""

    def joules(self) -> float:
        """Return the energy since `start`."""


def meter(device: torch.device, powercap: Path = POWERCAP) -> Meter | None:
    """Return the device's energy counter: NVML for CUDA (package pynvml), RAPL for CPUs; None if none is readable."""
    try:
        return _Nvml(device) if device.type == "cuda" else _Rapl(powercap)
    except (OSError, ImportError, ValueError, RuntimeError):
        return None


def per_image(subject: Subject, images: Sequence[Image], counter: Meter, seconds: float = 1.5) -> float:
    """Measure joules per image of feature extraction, over a series of single images.

    The figure includes idle power and everything else that runs on the machine.
    """
    subject.extract(images[:1])
    counter.start()
    begin, count = time.perf_counter(), 0
    while not count or time.perf_counter() - begin < seconds:
        subject.extract([images[count % len(images)]])
        count += 1
    return counter.joules() / count


class _Rapl:
    """The counters of the CPU packages, in microjoules, which wrap around at a known value."""

    name = "processor packages (RAPL)"

    def __init__(self, powercap: Path) -> None:
        packages = sorted(path for path in powercap.glob("intel-rapl:*") if path.name.count(":") == 1)
        self._counters = [(path / "energy_uj", int((path / "max_energy_range_uj").read_text())) for path in packages]
        if not self._counters:
            raise OSError("no energy counter")
        self.start()

    def _read(self) -> list[int]:
        return [int(path.read_text()) for path, _ in self._counters]

    def start(self) -> None:
        self._first = self._read()

    def joules(self) -> float:
        pairs = zip(self._first, self._read(), self._counters, strict=True)
        return sum((last - first) % (span + 1) for first, last, (_, span) in pairs) * 1e-6


class _Nvml:
    """The counter of the GPU, in millijoules."""

    name = "GPU (NVML)"

    def __init__(self, device: torch.device) -> None:
        import pynvml

        try:
            pynvml.nvmlInit()
            uuid = torch.cuda.get_device_properties(device).uuid
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}".encode())
            self._read = pynvml.nvmlDeviceGetTotalEnergyConsumption
            self.start()
        except (pynvml.NVMLError, AttributeError) as error:
            raise RuntimeError(str(error)) from error

    def start(self) -> None:
        self._first = self._read(self._handle)

    def joules(self) -> float:
        return float(self._read(self._handle) - self._first) * 1e-3
