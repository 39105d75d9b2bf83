"""Compare the odometry's poses with the true ones, and draw both."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from superpoint_ros.two_view.geometry import Matrix

Image = NDArray[np.uint8]

_SIZE, _MARGIN = 640, 60
_TRUE, _ESTIMATED, _INK = (130, 130, 130), (200, 90, 20), (40, 40, 40)


class Trajectory:
    """The true and the estimated poses of the camera, by stamp. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._true: dict[int, Matrix] = {}
        self._estimated: dict[int, Matrix] = {}
        self.metric = False

    def __len__(self) -> int:
        return len(self._estimated)

    def add_true(self, stamp: int, pose: Matrix) -> None:
        """Add the (4, 4) pose of a body in the world."""
        with self._lock:
            self._true[stamp] = pose

    def add_estimated(self, stamp: int, pose: Matrix) -> None:
        """Add the (4, 4) pose of the same body in the odometry's frame."""
        with self._lock:
            self._estimated[stamp] = pose

    def positions(self) -> tuple[Matrix, Matrix]:
        """Return the (N, 3) true and estimated positions in the world, of the poses of which both are known.

        The estimate starts at the true first pose. If its scale is unknown, the scale that fits best is used.
        """
        with self._lock:
            stamps = sorted(self._true.keys() & self._estimated.keys())
            true, found = ([poses[stamp] for stamp in stamps] for poses in (self._true, self._estimated))
        if not stamps:
            return np.zeros((0, 3)), np.zeros((0, 3))
        moved = np.array([(np.linalg.inv(found[0]) @ pose)[:3, 3] for pose in found])
        places = np.array([pose[:3, 3] for pose in true])
        local = (places - places[0]) @ true[0][:3, :3]
        length = float((moved**2).sum())
        scale = 1.0 if self.metric or not length else float((moved * local).sum()) / length
        return places, places[0] + scale * moved @ true[0][:3, :3].T

    def drift(self) -> tuple[float, float] | None:
        """Compute the length of the path in metres, and the error at its end as a fraction of it; None if too short."""
        true, found = self.positions()
        length = float(np.linalg.norm(np.diff(true, axis=0), axis=1).sum())
        return (length, float(np.linalg.norm(found[-1] - true[-1])) / length) if length > 0.05 else None

    def draw(self, path: Path) -> None:
        """Draw both from above and from the side, beside each other, into a file."""
        true, found = self.positions()
        both = np.concatenate((true, found))
        if not len(true):
            return
        centre = (both.min(axis=0) + both.max(axis=0)) / 2
        span = max(float(np.ptp(both, axis=0).max()), 0.1)
        scale = (_SIZE - 2 * _MARGIN) / span
        panels = []
        for title, axes in (("from above (x, y)", (0, 1)), ("from the side (x, z)", (0, 2))):
            panel = np.full((_SIZE, _SIZE, 3), 255, np.uint8)
            for positions, colour, width in ((true, _TRUE, 5), (found, _ESTIMATED, 2)):
                places = ((positions - centre)[:, axes] * (scale, -scale) + _SIZE / 2) * 16
                line = places.round().astype(np.int32)
                cv2.polylines(panel, [line], False, colour, width, cv2.LINE_AA, 4)
                for place, radius in ((line[0], 4), (line[-1], 7)):
                    cv2.circle(panel, place.tolist(), radius * 16, colour, -1, cv2.LINE_AA, 4)
            _write(panel, title, (_MARGIN // 2, 32))
            bar = _round_length(span / 3)
            start = (_MARGIN // 2, _SIZE - 24)
            cv2.line(panel, start, (start[0] + round(bar * scale), start[1]), _INK, 2, cv2.LINE_AA)
            _write(panel, f"{bar:g} m", (start[0], start[1] - 8))
            panels.append(panel)
        measured = self.drift()
        text = f"odometry: {100 * measured[1]:.2f} % of {measured[0]:.1f} m" if measured else "odometry"
        if not self.metric:
            text += ", scale fitted"
        for line, (words, colour) in enumerate(((text, _ESTIMATED), ("truth", _TRUE))):
            _write(panels[0], words, (_MARGIN // 2, 60 + 26 * line), colour)
        cv2.imwrite(str(path), np.hstack(panels))


def _write(image: Image, text: str, place: tuple[int, int], colour: tuple[int, int, int] = _INK) -> None:
    cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.6, colour, 1, cv2.LINE_AA)


def _round_length(length: float) -> float:
    """Return the largest of 1, 2 and 5 times a power of ten that is at most this length."""
    power = 10.0 ** np.floor(np.log10(length))
    return float(max(factor * power for factor in (1, 2, 5) if factor * power <= length))
