"""Log scalars and images of a run to TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from superpoint_ros.extraction import decoding
from superpoint_ros.training.objectives import Objective

_MAX_VIEWS = 6
_ZOOM = 2


class TensorBoard:
    """A `loop.Monitor` that writes event files into a folder; the file is opened at the first value."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None

    def scalars(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._open_writer(step).add_scalar(name, value, step)

    def image(self, step: int, objective: Objective, batch: dict[str, Any]) -> None:
        self._open_writer(step).add_image("views", draw_views(objective, batch)[..., ::-1], step, dataformats="HWC")

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _open_writer(self, step: int) -> Any:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # An interrupted run repeats the steps after its last checkpoint: drop their old events.
            self._writer = SummaryWriter(str(self._folder), purge_step=step)
        return self._writer


@torch.no_grad()
def draw_views(objective: Objective, batch: dict[str, Any]) -> NDArray[np.uint8]:
    """Draw a batch as the network sees it, in BGR: labels as green circles, detections as red crosses."""
    images, truth = objective.prepare(batch)
    images = images[:_MAX_VIEWS]
    module = objective.module
    training = module.training
    outputs = module.eval()(images)
    module.train(training)
    logits = outputs[0] if isinstance(outputs, tuple) else outputs
    heat = decoding.heatmap(logits)
    positions, scores = decoding.select_peaks(heat, decoding.Decoding(200, detection_threshold=0.015))
    keypoints = decoding.refine(heat, positions)
    tiles = []
    for i, image in enumerate(images):
        grey = (image[0] * 255).round().byte().cpu().numpy()
        tile = cv2.cvtColor(cv2.resize(grey, None, fx=_ZOOM, fy=_ZOOM), cv2.COLOR_GRAY2BGR)
        for x, y in _to_canvas(truth["points"][i][truth["valid"][i]]):
            cv2.circle(tile, (x, y), 4, (0, 255, 0), 1, cv2.LINE_AA)
        for x, y in _to_canvas(keypoints[i][scores[i] > 0]):
            cv2.drawMarker(tile, (x, y), (0, 0, 255), cv2.MARKER_CROSS, 5)
        tiles.append(tile)
    return np.asarray(np.hstack(tiles), np.uint8)


def _to_canvas(points: torch.Tensor) -> list[tuple[int, int]]:
    return [(x, y) for x, y in ((points + 0.5) * _ZOOM - 0.5).round().int().tolist()]
