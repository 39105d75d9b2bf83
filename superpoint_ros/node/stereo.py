"""The stereo pair of two cameras: which frames belong together, its geometry, and the fields of StereoMatches."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.features import Features
from superpoint_ros.frontend.frames import FrameResult
from superpoint_ros.io.images import to_grey
from superpoint_ros.node.camera import Camera, check_focal_lengths
from superpoint_ros.node.declarations import ParameterError
from superpoint_ros.two_view.stereo import Rectify, StereoMatches, match_stereo

PENDING = 8
"""Maximum number of frames of a camera that wait for their partner; recordings deliver them in bursts."""

_LEAST_BASELINE = 1e-4
"""Minimum distance of the cameras, in metres."""

Pair = tuple[FrameResult, FrameResult]


def stereo_pair(values: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the names of the left and the right camera, or None without stereo.

    Raises:
        ParameterError: in one sentence, if there are not two cameras.
    """
    names = values["cameras"]
    if not values["stereo"]:
        return None
    if len(names) != 2:
        listed = ", ".join(names) or "one without a name"
        raise ParameterError(
            f"parameter 'cameras' names {listed}, allowed with 'stereo' are two, the left camera first"
        )
    return names[0], names[1]


class Pairing:
    """Finds the left and the right frame of one moment.

    Args:
        cameras: names of the left and the right camera.
        slop: maximum difference of the stamps, in nanoseconds.

    Attributes:
        unpaired: number of frames of each camera so far that found no partner.
        lonely: frames without a partner since the last pair.
    """

    def __init__(self, cameras: tuple[str, str], slop: int) -> None:
        self.cameras, self.slop = cameras, slop
        self.unpaired: Counter[str] = Counter()
        self.lonely = 0
        self._pending: dict[str, deque[FrameResult]] = {camera: deque() for camera in cameras}

    def add(self, result: FrameResult) -> Pair | None:
        """Add a frame; return its pair if that is complete."""
        left, right = self.cameras
        camera = result.frame.camera
        other = self._pending[right if camera == left else left]
        partner = min(other, key=lambda each: self._apart(each, result), default=None)
        if partner is None or self._apart(partner, result) > self.slop:
            own = self._pending[camera]
            own.append(result)
            if len(own) > PENDING:
                self._drop(camera)
            return None
        # Frames arrive in order, so that earlier ones find no partner any more.
        for name, last in ((camera, result), (partner.frame.camera, partner)):
            pending = self._pending[name]
            while pending and pending[0] is not last and pending[0].frame.stamp <= last.frame.stamp:
                self._drop(name)
        other.remove(partner)
        self.lonely = 0
        return (result, partner) if camera == left else (partner, result)

    def finish(self) -> None:
        """Count the frames that still wait."""
        for camera, pending in self._pending.items():
            while pending:
                self._drop(camera)

    def explain(self) -> str:
        """Say why frames find no partner."""
        left, right = self.cameras
        stamps = [[each.frame.stamp for each in self._pending[camera]] for camera in self.cameras]
        if not all(stamps):
            missing, there = (left, right) if not stamps[0] else (right, left)
            return f"no frame of camera '{missing}' belongs to those of '{there}'"
        nearest = min(abs(one - other) for one in stamps[0] for other in stamps[1])
        return (
            f"the closest stamps of cameras '{left}' and '{right}' differ by {nearest * 1e-6:.3f} ms, allowed by "
            f"parameter 'stereo_slop' are {self.slop * 1e-6:g} ms"
        )

    def _drop(self, camera: str) -> None:
        self._pending[camera].popleft()
        self.unpaired[camera] += 1
        self.lonely += 1

    def _apart(self, one: FrameResult, other: FrameResult) -> int:
        return abs(one.frame.stamp - other.frame.stamp)


@dataclass(frozen=True)
class StereoGeometry:
    """The rectified pair.

    Attributes:
        left, right: calibrations of the cameras.
        baseline: distance of the cameras in metres.
    """

    left: Camera
    right: Camera
    baseline: float

    @staticmethod
    def of(cameras: tuple[str, str], left: Camera | None, right: Camera | None) -> StereoGeometry:
        """Relate two calibrated cameras.

        Raises:
            ValueError: in one sentence, if they are no stereo pair.
        """
        for name, calibration in zip(cameras, (left, right), strict=True):
            if calibration is None:
                raise ValueError(f"camera '{name}' is not calibrated, stereo needs camera_info of both cameras")
        assert left is not None and right is not None
        for name, calibration in zip(cameras, (left, right), strict=True):
            check_focal_lengths(calibration.projection, f"P of camera '{name}'")
        across, along = np.subtract(left.offset, right.offset)
        both = f"'{cameras[0]}' and '{cameras[1]}'"
        if abs(along) > abs(across):
            raise ValueError(f"P of {both} has a vertical baseline of {along:g} m, allowed is a horizontal one")
        if abs(across) < _LEAST_BASELINE:
            raise ValueError(
                f"P of {both} has a baseline of {across:g} m, allowed is more than 0: P[0, 3] of the right camera is "
                "minus focal length times baseline"
            )
        if across < 0:
            raise ValueError(
                f"P of {both} has a baseline of {across:g} m, so left and right are swapped; parameter 'cameras' must "
                "name the left camera first"
            )
        return StereoGeometry(left, right, float(across))

    @property
    def focal_length(self) -> float:
        """Return the focal length of the rectified pair in pixels."""
        return float(self.left.projection[0, 0])

    @property
    def rectify(self) -> tuple[Rectify, Rectify]:
        """Return the functions from pixels of either image to those of the rectified pair."""
        return self._rectify(self.left), self._rectify(self.right)

    def _rectify(self, camera: Camera) -> Rectify:
        # Both with the left camera's P, so that infinity has the disparity 0 even if the principal points differ.
        projection = self.left.projection
        return lambda pixels: np.asarray((camera.rectified_rays(pixels) @ projection.T)[:, :2], np.float64)

    def depth(self, disparity: NDArray[np.float32]) -> NDArray[np.float32]:
        """Convert disparities in pixels to depths in metres."""
        return (self.focal_length * self.baseline / disparity).astype(np.float32)

    def points(
        self, keypoints: NDArray[np.float32], depth: NDArray[np.float32], rectified: bool
    ) -> NDArray[np.float32]:
        """Compute (N, 3) points in metres from (N, 2) pixels of the left image, in its optical or rectified frame."""
        points = self.left.rectified_rays(keypoints) * depth[:, None]
        return (points if rectified else points @ self.left.rotation).astype(np.float32)

    def check_sizes(self, left: Features, right: Features) -> None:
        """Check that both images have the size of their calibration.

        Raises:
            ValueError: in one sentence, if one has not.
        """
        for name, calibration, features in (("left", self.left, left), ("right", self.right, right)):
            if calibration.image_size != features.image_size:
                (height, width), (rows, columns) = calibration.image_size, features.image_size
                raise ValueError(
                    f"the calibration of the {name} camera is for {width}x{height} pixels and its image has "
                    f"{columns}x{rows}"
                )


def match_pair(pair: Pair, geometry: StereoGeometry, values: Mapping[str, Any]) -> StereoMatches:
    """Match the frames of a pair by the node's parameters.

    Raises:
        ValueError: in one sentence, if an image is not of its calibration's size.
    """
    left, right = pair
    geometry.check_sizes(left.features, right.features)
    return match_stereo(
        left.features,
        right.features,
        geometry.rectify,
        (to_grey(left.image), to_grey(right.image)) if values["match.refine"] else None,
        max_disparity=geometry.focal_length * geometry.baseline / values["stereo_min_depth"],
        row_tolerance=values["stereo_row_tolerance"],
        min_similarity=values["match.min_similarity"],
        ratio=values["match.ratio"],
    )


def stereo_fields(
    pair: Pair, found: StereoMatches, geometry: StereoGeometry, rectified: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Build the fields of StereoMatches, except the header, and of the left camera's keypoint cloud.

    In the cloud a keypoint without a match has NaN for x, y and z.

    Args:
        rectified: points are in the frame of the rectified left camera.
    """
    left, right = pair
    first, second = found.indices.T
    depth = geometry.depth(found.disparity)
    points = geometry.points(left.features.keypoints[first], depth, rectified)
    cloud = np.full((len(left.features), 4), np.nan, np.float32)
    cloud[first, :3] = points
    cloud[:, 3] = left.features.scores
    fields = {
        "right_stamp": right.frame.stamp,
        "baseline": geometry.baseline,
        "focal_length": geometry.focal_length,
        "left_indices": first.astype(np.uint32),
        "right_indices": second.astype(np.uint32),
        "similarity": found.similarity,
        "refined": found.refined,
        "disparity": found.disparity,
        "disparity_variance": found.variance,
        "row_offset": found.rows_off,
        "row_error": found.row_errors,
        "depth": depth,
        "points": points.reshape(-1),
    }
    return fields, {"points": cloud}
