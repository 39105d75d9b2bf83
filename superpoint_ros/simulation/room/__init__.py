"""A furnished room with ground truth: the depth of every pixel and the pose of every frame."""

from __future__ import annotations

from functools import cache, cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from superpoint_ros.simulation.room import path, scene
from superpoint_ros.simulation.room.rendering import Atlas, Renderer, depth_map
from superpoint_ros.simulation.room.textures import texture_of

Image = NDArray[np.uint8]
Matrix = NDArray[np.float64]
Points = NDArray[np.float64]

_SAME_DEPTH = 1e-4
"""Maximum relative difference of the depths of the same point."""
_EDGE = 0.04
"""Minimum relative depth step of an edge; creases between walls are below it."""


@cache
def _atlas() -> Atlas:
    """Build the texture atlas of all rooms, once."""
    return Atlas([texture_of(surface) for surface in scene.furnished_room()])


class Room:
    """Views of a furnished room along a smooth path, with perspective, parallax and occlusion.

    Everything is deterministic: it depends only on the time and the arguments. Pixel (0, 0) is the centre of the
    top-left pixel.

    Args:
        size: (height, width) of the frames.
        seconds_per_loop: period of the path.
        seed: of the noise.
        noise: standard deviation of the sensor noise, in grey levels.
        exposure: maximum change of the exposure, as a natural logarithm; 0 for a constant exposure.
        blur: standard deviation of the lens blur, in pixels.
        shutter: exposure time in seconds, centred on the time of the frame; 0 for no motion blur.
        baseline: metres from the left camera (0) to the right one (1).
        supersampling: samples along each side of a pixel; even.
    """

    def __init__(
        self,
        size: tuple[int, int] = (480, 640),
        *,
        seconds_per_loop: float = 60.0,
        seed: int = 0,
        noise: float = 3.0,
        exposure: float = 0.25,
        blur: float = 0.0,
        shutter: float = 0.0,
        baseline: float = 0.12,
        supersampling: int = 2,
    ) -> None:
        self.size, self.baseline = size, baseline
        self.surfaces = scene.furnished_room()
        self._period, self._seed, self._noise, self._exposure = seconds_per_loop, seed, noise, exposure
        self._blur, self._shutter, self._supersampling = blur, shutter, supersampling

    @property
    def intrinsics(self) -> Matrix:
        """Return the (3, 3) camera matrix in pixels; there is no distortion."""
        height, width = self.size
        return np.array([[0.75 * width, 0, (width - 1) / 2], [0, 0.75 * width, (height - 1) / 2], [0, 0, 1]])

    def pose(self, seconds: float, camera: int = 0) -> Matrix:
        """Return the (4, 4) matrix from the camera's frame at a time to the world's, in metres."""
        pose = path.pose_at(seconds, self._period)
        pose[:3, 3] += camera * self.baseline * pose[:3, 0]
        return pose

    def frame(self, seconds: float, camera: int = 0) -> Image:
        """Render the (H, W, 3) BGR image at a time."""
        if self._shutter > 0:
            times = seconds + self._shutter * (np.arange(7) - 3) / 7
            view = np.mean([self._view(time, camera) for time in times], axis=0)
        else:
            view = self._view(seconds, camera)
        if self._blur > 0:
            view = cv2.GaussianBlur(view, (0, 0), self._blur)
        view *= np.float32(np.exp(self._exposure * np.sin(14 * np.pi * seconds / self._period)))
        if self._noise > 0:
            rng = np.random.default_rng([self._seed, camera, round(seconds * 1e6) % 2**63])
            view += np.float32(self._noise) * rng.standard_normal(view.shape, np.float32)
        return np.clip(np.rint(view), 0, 255).astype(np.uint8)

    def depth(self, seconds: float, camera: int = 0) -> NDArray[np.float32]:
        """Render (H, W) depths along the camera's z axis in metres, at pixel centres."""
        return depth_map(self.surfaces, self.intrinsics, self.pose(seconds, camera), self.size)

    def transfer(
        self,
        points: NDArray[np.floating],
        first: float,
        second: float,
        *,
        cameras: tuple[int, int] = (0, 0),
        margin: float = 0.0,
    ) -> tuple[Points, NDArray[np.bool_]]:
        """Transfer (N, 2) points from the frame at one time to the frame at another; see `transfer_between`."""
        poses = self.pose(first, cameras[0]), self.pose(second, cameras[1])
        return self.transfer_between(points, *poses, margin=margin)

    def transfer_between(
        self, points: NDArray[np.floating], first: Matrix, second: Matrix, *, margin: float = 0.0
    ) -> tuple[Points, NDArray[np.bool_]]:
        """Transfer (N, 2) points from the frame at one pose to the frame at another.

        Args:
            points: subpixel positions.
            first, second: (4, 4) poses.
            margin: minimum distance in pixels of visible points from depth edges: a feature closer to an edge may
                contain both sides, and so belong to neither.

        Returns:
            (N, 2) positions, NaN behind the camera; (N,) bool, whether the point is visible in both frames.
        """
        points = np.asarray(points, np.float64).reshape(-1, 2)
        here = scene.plane_maps(self.surfaces, self.intrinsics, first)
        there = scene.plane_maps(self.surfaces, self.intrinsics, second)
        nearness, _ = scene.cast(here, points)
        rays = np.column_stack((points, np.ones(len(points)))) @ np.linalg.inv(self.intrinsics).T
        with np.errstate(divide="ignore", invalid="ignore"):
            world = rays / nearness[:, None] @ first[:3, :3].T + first[:3, 3]
            seen = (world - second[:3, 3]) @ second[:3, :3]
            pixels = seen @ self.intrinsics.T
            places = np.where(seen[:, 2:] > scene.NEAR, pixels[:, :2] / pixels[:, 2:], np.nan)
        visible = self._inside(points) & (nearness > 0) & self._inside(places)
        met, _ = scene.cast(there, np.nan_to_num(places))
        visible &= met * seen[:, 2] <= 1 + _SAME_DEPTH
        if margin > 0:
            visible &= ~self._near_edge(here, points, margin) & ~self._near_edge(there, np.nan_to_num(places), margin)
        return places, visible

    @cached_property
    def _renderer(self) -> Renderer:
        return Renderer(self.surfaces, _atlas(), self._supersampling)

    def _view(self, seconds: float, camera: int) -> NDArray[np.float32]:
        return self._renderer.image(self.intrinsics, self.pose(seconds, camera), self.size)

    def _inside(self, points: Points) -> NDArray[np.bool_]:
        return np.asarray(((points >= -0.5) & (points < np.array(self.size[::-1]) - 0.5)).all(axis=1))

    def _near_edge(self, maps: Matrix, points: Points, margin: float) -> NDArray[np.bool_]:
        """Tell whether there is a depth step within `margin` pixels: inverse depth is linear on a plane's image."""
        middle, _ = scene.cast(maps, points)
        near = np.zeros(len(points), bool)
        for angle in np.arange(8) * np.pi / 8:
            step = margin * np.array([np.cos(angle), np.sin(angle)])
            bend = scene.cast(maps, points + step)[0] + scene.cast(maps, points - step)[0] - 2 * middle
            near |= np.abs(bend) > _EDGE * middle
        return near
