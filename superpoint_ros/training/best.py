"""Keep the best network of a run, measured on development images at intervals."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import nn

from superpoint_ros.extraction import weights
from superpoint_ros.extraction.network import SuperPointNet
from superpoint_ros.training.loop import Monitor
from superpoint_ros.training.upper_layers import UpperLayers

Measure = Callable[[Path], Mapping[str, float]]
"""Says how good a weights file is: figures by name, of which "score" is the one that counts, the more the better."""

WEIGHTS, FIGURES = "best.safetensors", "development.jsonl"
"""Names in a stage's folder: the best network so far, and one line of figures for each measurement."""


class Best:
    """Measures a network and keeps it where it is the best so far, in weights as they are used: folded, float16."""

    def __init__(self, run: Path, measure: Measure, monitor: Monitor) -> None:
        self._run, self._measure, self._monitor = run, measure, monitor

    def __call__(self, step: int, module: nn.Module) -> None:
        network = module.network if isinstance(module, UpperLayers) else module
        assert isinstance(network, SuperPointNet)
        latest, best = self._run / "latest.safetensors", self._run / WEIGHTS
        weights.save(network, latest, {"step": str(step)})
        found = {name: float(value) for name, value in self._measure(latest).items()}
        self._monitor.scalars(step, {f"development/{name}": value for name, value in found.items()})
        before = self._scores() if best.exists() else []
        with open(self._run / FIGURES, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **found}) + "\n")
        if all(found["score"] > score for score in before):
            latest.replace(best)
        else:
            latest.unlink()

    def _scores(self) -> list[float]:
        lines = (self._run / FIGURES).read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["score"] for line in lines]
