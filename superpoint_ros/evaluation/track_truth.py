"""Ground truth for tracks: the position, or epipolar line, of a point of one frame in another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.evaluation.pose_files import Poses
from superpoint_ros.node.camera import Camera
from superpoint_ros.two_view.geometry import cross_matrix, inside, numerical_jacobians, project

Points = NDArray[np.float64]
Transfer = Callable[[Points, int, int], tuple[Points, NDArray[np.bool_]]]

MIN_BASELINE = 0.01
"""Baseline in metres below which epipolar lines are not meaningful."""


class Truth(Protocol):
    """The ground truth of a sequence."""

    @property
    def kind(self) -> str:
        """Return "points" if the position of a point in any frame is known, "lines" if its epipolar line is."""

    @property
    def still(self) -> bool:
        """Tell whether the camera is stationary."""

    def residuals(self, first: Points, second: Points, i: int, j: int) -> Points:
        """Compute the errors of points of frame j that correspond to points of frame i.

        Args:
            first, second: (N, 2) pixels.

        Returns:
            (N, 2) pixels for kind points, (N, 1) distances in pixels for kind lines; NaN if unknown.
        """

    def transfer(self, points: Points, i: int, j: int) -> tuple[Points, NDArray[np.bool_]] | None:
        """Transfer points of frame i to frame j, and tell which are visible there; None for other kinds."""


@dataclass(frozen=True)
class PointTruth:
    """Ground truth with the position of every point in every frame.

    Attributes:
        function: (points, i, j) -> positions in frame j of points in frame i, and which of them are visible there.
    """

    function: Transfer
    still: bool = False
    kind: str = "points"

    def residuals(self, first: Points, second: Points, i: int, j: int) -> Points:
        """See `Truth`."""
        return np.asarray(second - self.function(first, i, j)[0])

    def transfer(self, points: Points, i: int, j: int) -> tuple[Points, NDArray[np.bool_]] | None:
        """See `Truth`."""
        return self.function(points, i, j)


def planar(homographies: Sequence[NDArray[np.float64]], size: tuple[int, int]) -> PointTruth:
    """Create the ground truth of views of a plane.

    Args:
        homographies: from the plane to the pixels of each frame.
        size: (height, width) of the frames.
    """

    def transfer(points: Points, i: int, j: int) -> tuple[Points, NDArray[np.bool_]]:
        found = project(homographies[j] @ np.linalg.inv(homographies[i]), points)
        return found, inside(found, size)

    return PointTruth(transfer)


def stationary(size: tuple[int, int]) -> PointTruth:
    """Create the ground truth of a stationary camera and scene: no point moves."""
    return PointTruth(lambda points, i, j: (points, inside(points, size)), still=True)


@dataclass(frozen=True)
class LineTruth:
    """Ground truth with the camera's motion, but without the depth of points.

    Distances are from the epipolar line in an undistorted image of the same focal length. If the camera moved by less
    than `MIN_BASELINE` they are unknown.

    Attributes:
        poses: (N, 4, 4) camera to world.
    """

    poses: Poses
    camera: Camera
    kind: str = "lines"
    still: bool = False

    def residuals(self, first: Points, second: Points, i: int, j: int) -> Points:
        """See `Truth`."""
        motion = np.linalg.inv(self.poses[j]) @ self.poses[i]
        if np.linalg.norm(motion[:3, 3]) < MIN_BASELINE:
            return np.full((len(second), 1), np.nan)
        essential = cross_matrix(motion[:3, 3]) @ motion[:3, :3]
        lines = self.camera.rays(first.astype(np.float32)).astype(float) @ essential.T
        rays = self.camera.rays(second.astype(np.float32)).astype(float)
        focal = self.camera.matrix.diagonal()[:2].mean()
        with np.errstate(invalid="ignore", divide="ignore"):
            distance = np.abs((lines * rays).sum(axis=1)) / np.linalg.norm(lines[:, :2], axis=1)
        return np.asarray(focal * distance)[:, None]

    def transfer(self, points: Points, i: int, j: int) -> tuple[Points, NDArray[np.bool_]] | None:
        """See `Truth`."""
        return None


def jacobians(truth: Truth, points: Points, i: int, j: int, step: float = 0.5) -> NDArray[np.float64]:
    """Compute (N, 2, 2) derivatives of positions in frame j by those in frame i, with central differences of `step` px.

    Raises:
        ValueError: if the truth is not of kind points.
    """

    def transfer(points: Points) -> Points:
        moved = truth.transfer(points, i, j)
        if moved is None:
            raise ValueError(f"truth of kind '{truth.kind}' has no derivatives, allowed is kind points")
        return moved[0]

    return numerical_jacobians(transfer, points, step)
