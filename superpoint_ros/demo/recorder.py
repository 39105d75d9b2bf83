"""Record the annotated images as a video and a contact sheet."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


class Recorder:
    """Writes a video of all images and a contact sheet of some of them.

    Args:
        folder: output folder, which must exist.
        rate: frames per second of the video.
        tiles: number of tiles of the contact sheet.
    """

    def __init__(self, folder: Path, rate: float, tiles: int = 12) -> None:
        self.video, self.sheet = folder / "annotated.mp4", folder / "contact_sheet.png"
        self._rate, self._tiles = rate, tiles
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._kept: list[Image] = []
        self._stride, self._count = 1, 0
        self._lock = threading.Lock()

    def add(self, image: Image) -> None:
        """Append a (H, W, 3) BGR uint8 image; images of another size than the first are skipped."""
        with self._lock:
            if self._writer is None:
                self._size = image.shape[1], image.shape[0]
                self._writer = cv2.VideoWriter(str(self.video), cv2.VideoWriter.fourcc(*"mp4v"), self._rate, self._size)
            if (image.shape[1], image.shape[0]) != self._size:
                return
            self._writer.write(image)
            # Keep one to two times the number of tiles, evenly spaced, however long the recording is.
            if self._count % self._stride == 0:
                self._kept.append(image.copy())
                if len(self._kept) >= 2 * self._tiles:
                    self._kept, self._stride = self._kept[::2], self._stride * 2
            self._count += 1

    def close(self) -> None:
        """Finalise both files."""
        with self._lock:
            if self._writer is not None:
                self._writer.release()
            if self._kept:
                cv2.imwrite(str(self.sheet), self._contact_sheet())

    def _contact_sheet(self, columns: int = 3, tile_width: int = 426) -> Image:
        chosen = np.linspace(0, len(self._kept) - 1, min(self._tiles, len(self._kept))).round().astype(int)
        height = round(tile_width * self._size[1] / self._size[0])
        tiles = [cv2.resize(self._kept[i], (tile_width, height), interpolation=cv2.INTER_AREA) for i in chosen]
        blank = np.zeros_like(tiles[0])
        tiles += [blank] * (-len(tiles) % columns)
        rows = [np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
        return np.asarray(np.vstack(rows), np.uint8)
