"""A simulated flight over a photograph, with the true homography of every frame."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Matrix = NDArray[np.float64]


def photograph() -> Image:
    """Load the photograph under the flight: the astronaut Eileen Collins, public domain (NASA), from scikit-image."""
    from skimage import data

    return np.ascontiguousarray(data.astronaut()[..., ::-1])


class Flight:
    """Views of a plane textured with a photograph, along a smooth camera path.

    The camera translates, rotates, climbs and tilts with different periods, so that no view repeats. Beyond the
    photograph the plane continues as its mirror image. Frames have sensor noise and varying exposure.

    Args:
        photograph: (H, W, 3) BGR uint8.
        size: (height, width) of the frames.
        seconds_per_loop: period of the slowest motion.
        seed: seed of the noise.
    """

    def __init__(
        self,
        photograph: Image,
        size: tuple[int, int] = (480, 640),
        seconds_per_loop: float = 40.0,
        seed: int = 0,
    ) -> None:
        self.size = size
        self._photograph = photograph
        self._period = seconds_per_loop
        self._rng = np.random.default_rng(seed)

    def homography(self, seconds: float) -> Matrix:
        """Compute the homography from pixels of the photograph to pixels of the frame at a time."""
        height, width = self.size
        rows, columns = self._photograph.shape[:2]
        t = 2 * np.pi * seconds / self._period
        target = np.array([columns / 2 + 0.22 * columns * np.sin(2 * t), rows / 2 + 0.20 * rows * np.sin(3 * t + 1)])
        zoom = 1.45 * np.exp(0.32 * np.sin(3 * t + 0.5))
        turn = 0.9 * np.sin(t) + 0.35 * np.sin(4 * t)
        tilt = np.array([0.30 * np.sin(5 * t), 0.28 * np.sin(4 * t + 2)])
        focal = float(width)
        rotation = cv2.Rodrigues(np.array([tilt[1], tilt[0], 0.0]))[0] @ cv2.Rodrigues(np.array([0.0, 0.0, turn]))[0]
        # The photograph lies in the plane z = 0; the camera looks at `target` from the distance that gives the zoom.
        plane = np.column_stack((rotation[:, 0], rotation[:, 1], [0, 0, focal / zoom]))
        centre = np.array([[1, 0, -target[0]], [0, 1, -target[1]], [0, 0, 1]])
        intrinsics = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
        matrix = intrinsics @ plane @ centre
        return np.asarray(matrix / matrix[2, 2])

    def frame(self, seconds: float) -> Image:
        """Render the (H, W, 3) BGR frame at a time."""
        height, width = self.size
        view = cv2.warpPerspective(
            self._photograph,
            self.homography(seconds),
            (width, height),
            flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        t = 2 * np.pi * seconds / self._period
        exposure = np.exp(0.25 * np.sin(7 * t))
        noise = self._rng.standard_normal(view.shape, dtype=np.float32) * 3.0
        return np.clip(view * exposure + noise, 0, 255).astype(np.uint8)
