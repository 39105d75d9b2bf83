"""Curves and images of a run for TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from superpoint_ros.extraction import decoding
from superpoint_ros.training.objectives import Objective

_MOST_VIEWS = 6
_ZOOM = 2


class TensorBoard:
    """Writes into a folder; see `loop.Monitor`. The file is opened with the first value."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None

    def curves(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._opened(step).add_scalar(name, value, step)

    def picture(self, step: int, objective: Objective, batch: dict[str, Any]) -> None:
        self._opened(step).add_image("views", views_picture(objective, batch)[..., ::-1], step, dataformats="HWC")

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _opened(self, step: int) -> Any:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # What an interrupted run wrote after its last checkpoint is written again.
            self._writer = SummaryWriter(str(self._folder), purge_step=step)
        return self._writer


@torch.no_grad()
def views_picture(objective: Objective, batch: dict[str, Any]) -> NDArray[np.uint8]:
    """A batch as the network sees it, BGR: labels as green circles, what it detects as red crosses."""
    images, truth = objective.prepare(batch)
    images = images[:_MOST_VIEWS]
    module = objective.module
    training = module.training
    outputs = module.eval()(images)
    module.train(training)
    logits = outputs[0] if isinstance(outputs, tuple) else outputs
    heat = decoding.heatmap(logits)
    positions, scores = decoding.pick(heat, decoding.Decoding(200, detection_threshold=0.015))
    keypoints = decoding.refine(heat, positions)
    tiles = []
    for i, image in enumerate(images):
        grey = (image[0] * 255).round().byte().cpu().numpy()
        tile = cv2.cvtColor(cv2.resize(grey, None, fx=_ZOOM, fy=_ZOOM), cv2.COLOR_GRAY2BGR)
        for x, y in _drawn(truth["points"][i][truth["valid"][i]]):
            cv2.circle(tile, (x, y), 4, (0, 255, 0), 1, cv2.LINE_AA)
        for x, y in _drawn(keypoints[i][scores[i] > 0]):
            cv2.drawMarker(tile, (x, y), (0, 0, 255), cv2.MARKER_CROSS, 5)
        tiles.append(tile)
    return np.asarray(np.hstack(tiles), np.uint8)


def _drawn(points: torch.Tensor) -> list[tuple[int, int]]:
    return [(x, y) for x, y in ((points + 0.5) * _ZOOM - 0.5).round().int().tolist()]
