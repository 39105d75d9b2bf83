"""Show what the node publishes in Rerun: image, keypoints, matches, homography, stereo points, trajectory, figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.adapters.palette import INLIER, MAX_AGE, OUTLIER, colours, shades_by_rank
from superpoint_ros.features import Scene, Status
from superpoint_ros.two_view.geometry import OPTICAL, project

Array = NDArray[np.float64]

BASE = "world/base"
CAMERA = f"{BASE}/camera"
IMAGE = f"{CAMERA}/image"
_GRID = 8
"""Number of cells along the longer side of the homography's grid."""
_JPEG = 85
_STEP = 0.01
"""Minimum distance of the points of the trajectory, in units of the map."""
_PATH = 2000
"""Maximum number of points of the trajectory; beyond, every second one is dropped."""


class RerunView:
    """A recording of Rerun.

    Args:
        save: file to write, with the suffix .rrd; None to show it in the viewer.
        connect: address of a running viewer, as in rerun+http://127.0.0.1:9876/proxy; empty to start one.

    Raises:
        ValueError: in one sentence, if `rerun` is missing, or its file or viewer cannot be opened.
    """

    def __init__(self, save: Path | None = None, connect: str = "") -> None:
        try:
            import rerun
        except ImportError as error:
            raise ValueError(
                f"Python package 'rerun' is missing ({error}), install it with: pip install 'superpoint_ros[view]'"
            ) from error
        self._rerun: Any = rerun
        self._stream = rerun.RecordingStream("superpoint_ros")
        self._path: list[Array] = []
        try:
            if save is not None:
                self._stream.save(save, default_blueprint=self._blueprint())
            elif connect:
                self._stream.connect_grpc(connect, default_blueprint=self._blueprint())
            else:
                self._stream.spawn(default_blueprint=self._blueprint())
        except Exception as error:  # Rerun raises anything
            raise ValueError(f"Rerun cannot open {save or connect or 'its viewer'}: {error}") from error
        self._log("world", rerun.ViewCoordinates.FLU, static=True)
        self._log(CAMERA, rerun.Transform3D(mat3x3=OPTICAL), static=True)
        for name, colour in (("keypoints", (90, 160, 255)), ("matches", (255, 200, 60)), ("inliers", (80, 220, 80))):
            self._log(f"counts/{name}", rerun.SeriesLines(colors=colour, names=name), static=True)

    def _blueprint(self) -> Any:
        import rerun.blueprint as rrb

        plots = rrb.Vertical(
            rrb.TimeSeriesView(origin="counts", name="counts"),
            rrb.TimeSeriesView(origin="milliseconds", name="milliseconds"),
        )
        space = rrb.Spatial3DView(origin="world", name="world", contents=["$origin/**", f"- {IMAGE}/**"])
        image = rrb.Spatial2DView(origin=IMAGE, name="image")
        return rrb.Blueprint(rrb.Horizontal(image, rrb.Vertical(space, plots), column_shares=[3, 2]))

    def _log(self, entity: str, what: Any, static: bool = False) -> None:
        self._stream.log(entity, what, static=static)

    def set_time(self, stamp: int) -> None:
        """Set the time of what follows, in nanoseconds."""
        self._stream.set_time("stamp", timestamp=np.datetime64(stamp, "ns"))

    def add_calibration(self, matrix: Array, size: tuple[int, int]) -> None:
        """Set the (3, 3) camera matrix of images of (height, width)."""
        self._log(IMAGE, self._rerun.Pinhole(image_from_camera=matrix, resolution=size[::-1]), static=True)

    def add_image(self, image: NDArray[np.uint8]) -> None:
        """Show a (H, W) grey or (H, W, 3) BGR image."""
        model = "L" if image.ndim == 2 else "BGR"
        self._log(IMAGE, self._rerun.Image(image, color_model=model).compress(jpeg_quality=_JPEG))

    def add_frame(self, features: Any, homography: Any) -> None:
        """Show Features and MatchedHomography of a frame."""
        keypoints = np.array(features.keypoints, np.float32).reshape(-1, 2)
        ages = np.array(features.track_ages)
        shades = np.minimum(ages, MAX_AGE) / MAX_AGE if len(ages) else shades_by_rank(len(keypoints))
        self._log(f"{IMAGE}/keypoints", self._rerun.Points2D(keypoints, colors=_rgb(colours(shades)), radii=-2.5))
        inliers = self._add_matches(homography)
        for name, count in (("keypoints", len(keypoints)), ("matches", len(inliers)), ("inliers", int(inliers.sum()))):
            self._log(f"counts/{name}", self._rerun.Scalars(float(count)))
        self._add_grid(homography, (int(features.image_height), int(features.image_width)))

    def _add_matches(self, homography: Any) -> NDArray[np.bool_]:
        """Draw each match as a line from where its point was, by the model that explains the matches."""
        general = int(homography.scene) == Scene.GENERAL
        inliers = np.array(homography.epipolar_inliers if general else homography.inliers, bool)
        ends = [np.array(points, np.float32).reshape(-1, 2) for points in
                (homography.reference_points, homography.current_points)]  # fmt: skip
        chosen = _rgb([INLIER if inlier else OUTLIER for inlier in inliers.tolist()])
        lines = self._rerun.LineStrips2D(np.stack(ends, axis=1), colors=chosen, radii=-1.0)
        self._log(f"{IMAGE}/matches", lines)
        return inliers

    def _add_grid(self, homography: Any, size: tuple[int, int]) -> None:
        """Draw where the homography takes a grid of the reference image."""
        entity = f"{IMAGE}/homography"
        if int(homography.status) != Status.OK or int(homography.scene) == Scene.GENERAL:
            self._log(entity, self._rerun.Clear(recursive=False))
            return
        height, width = size
        matrix = np.array(homography.homography, np.float64).reshape(3, 3)
        along = np.linspace(0, 1, 4 * _GRID + 1)
        lines = []
        for part in np.linspace(0, 1, _GRID + 1):
            for x, y in ((along * (width - 1), part * (height - 1)), (part * (width - 1), along * (height - 1))):
                lines.append(project(matrix, np.column_stack(np.broadcast_arrays(x, y))))
        self._log(entity, self._rerun.LineStrips2D(lines, colors=(255, 255, 255, 60), radii=-0.5))

    def add_stereo(self, stereo: Any) -> None:
        """Show the points of StereoMatches, coloured by depth."""
        points = np.array(stereo.points, np.float32).reshape(-1, 3)
        near = 1 / np.maximum(np.array(stereo.depth, np.float64), 1e-6)
        shades = near / near.max() if len(near) else near
        self._log(f"{CAMERA}/points", self._rerun.Points3D(points, colors=_rgb(colours(shades)), radii=-2.0))

    def add_pose(self, pose: Array) -> None:
        """Show the (4, 4) pose of the base in the world, and the way to it."""
        self._log(BASE, self._rerun.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3]))
        if self._path and np.linalg.norm(pose[:3, 3] - self._path[-1]) < _STEP:
            return
        self._path.append(pose[:3, 3])
        if len(self._path) > _PATH:
            del self._path[1::2]
        self._log("world/trajectory", self._rerun.LineStrips3D([np.array(self._path)], colors=(255, 200, 60)))

    def add_time(self, name: str, seconds: float) -> None:
        """Plot how long something took."""
        self._log(f"milliseconds/{name}", self._rerun.Scalars(seconds * 1e3))

    def close(self) -> None:
        """Write everything that is buffered."""
        self._stream.flush()
        self._stream.disconnect()


def _rgb(colours: list[tuple[int, int, int]]) -> NDArray[np.uint8]:
    return np.array(colours, np.uint8).reshape(-1, 3)[:, ::-1]
