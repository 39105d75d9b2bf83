"""The data classes shared by all modules: Features, Matches, Homography, EpipolarGeometry."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
"""(H, W) of an image's size, False for pixels to ignore."""


@dataclass(frozen=True, eq=False)
class Link:
    """Matches that the runtime computed along with the features, padded to K entries.

    Attributes:
        own: identity of this frame.
        before: identity of the frame that it is matched with; None if there is none.
        forward: (K,) int64, the mutual nearest neighbour in this frame of each keypoint of the previous one, or -1.
        best, second: (K,) float32 cosine similarity of the nearest and the second nearest neighbour.
    """

    own: object
    before: object | None
    forward: NDArray[np.int64]
    best: NDArray[np.float32]
    second: NDArray[np.float32]


_COLUMNS = ("keypoints", "scores", "descriptors", "covariance", "levels", "sizes")
"""The fields of `Features` with a row per keypoint, apart from `device_descriptors`."""


@dataclass(frozen=True, eq=False)
class Features:
    """Keypoints of one image with scores and descriptors, by descending score.

    Attributes:
        keypoints: (N, 2) float32, x right, y down, in pixels of the image; the centre of the top-left pixel is (0, 0).
        scores: (N,) float32 detection probabilities, descending.
        descriptors: (N, D) float32 of unit length.
        image_size: (height, width) in pixels.
        device_descriptors: the descriptors as a tensor on the network's device, or None; matching uses it to save a
            transfer.
        link: matches with the previous frame, if the runtime has computed them.
        covariance: (N, 3) float32 of each keypoint's error as xx, xy, yy in px^2; None if not estimated.
        levels: (N,) uint8, the level of the image pyramid on which each was found, 0 the finest; None where unknown.
        sizes: (N,) float32 side in pixels of the network's cell around each, 8 where the image was given to the network
            as it is and more on coarser levels; None where unknown.
    """

    keypoints: NDArray[np.float32]
    scores: NDArray[np.float32]
    descriptors: NDArray[np.float32]
    image_size: tuple[int, int]
    device_descriptors: Any = field(default=None, repr=False)
    link: Link | None = field(default=None, repr=False)
    covariance: NDArray[np.float32] | None = None
    levels: NDArray[np.uint8] | None = None
    sizes: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.keypoints)

    def select(self, chosen: NDArray[np.integer]) -> Features:
        """Return the features of chosen keypoints, given by index; `device_descriptors` follow, `link` does not."""
        device = self.device_descriptors
        if device is not None:
            import torch  # here, so that features in NumPy arrays alone do not need it

            device = device[torch.from_numpy(chosen).to(device.device)]
        columns: dict[str, Any] = {name: getattr(self, name) for name in _COLUMNS}
        columns = {name: None if column is None else column[chosen] for name, column in columns.items()}
        return replace(self, device_descriptors=device, link=None, **columns)

    @staticmethod
    def join(parts: Sequence[Features]) -> Features:
        """Concatenate features of one image, at least one, in the given order; `link` is dropped, like a column that
        one of them lacks. `device_descriptors` are joined on the device of the first ones, None if those have none."""
        columns: dict[str, Any] = {}
        for name in _COLUMNS:
            known = [getattr(part, name) for part in parts if getattr(part, name) is not None]
            columns[name] = np.concatenate(known) if len(known) == len(parts) else None
        device = parts[0].device_descriptors
        if device is not None:
            import torch

            rows = [
                torch.from_numpy(part.descriptors).to(device.device, device.dtype)
                if part.device_descriptors is None
                else part.device_descriptors
                for part in parts
            ]
            device = torch.cat(rows)
        return replace(parts[0], device_descriptors=device, link=None, **columns)

    @staticmethod
    def empty(image_size: tuple[int, int], descriptor_size: int = 256) -> Features:
        """Create the features of an image without keypoints."""
        return Features(
            np.zeros((0, 2), np.float32),
            np.zeros(0, np.float32),
            np.zeros((0, descriptor_size), np.float32),
            image_size,
        )


@dataclass(frozen=True, eq=False)
class Matches:
    """Pairs of keypoints with similar descriptors.

    Attributes:
        indices: (M, 2) int64 into the keypoints of the first and of the second image.
        similarity: (M,) float32 cosine similarity of the descriptors.
        refined: (M,) bool, whether the point in the second image was refined on the images; None if not attempted.
        covariance: (M, 3) float32 of the second point's error as xx, xy, yy in px^2, assuming an exact first point;
            None if not estimated.
    """

    indices: NDArray[np.int64]
    similarity: NDArray[np.float32]
    refined: NDArray[np.bool_] | None = None
    covariance: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.indices)

    @staticmethod
    def empty() -> Matches:
        """Create an empty set of matches."""
        return Matches(np.zeros((0, 2), np.int64), np.zeros(0, np.float32))


def matched_points(
    first: Features, second: Features, matches: Matches
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the (M, 2) matched keypoints of the first and of the second image."""
    return first.keypoints[matches.indices[:, 0]], second.keypoints[matches.indices[:, 1]]


class Status(enum.IntEnum):
    """Status of a homography, with the numbers of MatchedHomography.msg."""

    OK = 0
    FIRST_FRAME = 1
    TOO_FEW_MATCHES = 2
    NO_CONSENSUS = 3
    TIME_JUMP = 4
    IMAGE_CHANGED = 5


@dataclass(frozen=True, eq=False)
class Homography:
    """A homography with x_second ~ H x_first in pixels, and its accuracy.

    Attributes:
        status: everything but `inliers` is zero unless this is OK.
        matrix: (3, 3) float64 with h33 = 1.
        inliers: (M,) bool, one per match.
        rmse: root mean square reprojection error of the inliers in the second image, in pixels.
        covariance: (8, 8) float64 of (h11, h12, h13, h21, h22, h23, h31, h32).
    """

    status: Status
    matrix: NDArray[np.float64]
    inliers: NDArray[np.bool_]
    rmse: float
    covariance: NDArray[np.float64]

    @property
    def inlier_count(self) -> int:
        return int(np.count_nonzero(self.inliers))

    @staticmethod
    def failed(status: Status, matches: int = 0) -> Homography:
        """Create a failed homography with its reason."""
        return Homography(status, np.zeros((3, 3)), np.zeros(matches, bool), 0.0, np.zeros((8, 8)))


class Scene(enum.IntEnum):
    """The model that explains the matches of two images, with the numbers of MatchedHomography.msg."""

    UNKNOWN = 0
    PLANAR = 1
    GENERAL = 2


@dataclass(frozen=True, eq=False)
class EpipolarGeometry:
    """The epipolar geometry of two images of a scene with depth.

    Attributes:
        scene: PLANAR if the homography explains the matches: the scene is planar, or the camera rotated, stood still or
            moved too little to tell. GENERAL if they show depth. UNKNOWN if no model has enough inliers.
        fundamental: (3, 3) float64 of unit norm with x_second^T F x_first = 0 in pixels; zeros unless GENERAL.
        inliers: (M,) bool, whether each match is an inlier of it; all false unless GENERAL.
    """

    scene: Scene
    fundamental: NDArray[np.float64]
    inliers: NDArray[np.bool_]

    @property
    def inlier_count(self) -> int:
        return int(np.count_nonzero(self.inliers))

    @staticmethod
    def unknown(matches: int = 0) -> EpipolarGeometry:
        """Create the result for an unknown model."""
        return EpipolarGeometry(Scene.UNKNOWN, np.zeros((3, 3)), np.zeros(matches, bool))

    @staticmethod
    def planar(matches: int) -> EpipolarGeometry:
        """Create the result for matches explained by a homography."""
        return EpipolarGeometry(Scene.PLANAR, np.zeros((3, 3)), np.zeros(matches, bool))


def explained(homography: Homography, epipolar: EpipolarGeometry) -> NDArray[np.bool_]:
    """Return the (M,) inliers of the model that explains the matches: the fundamental matrix, or the homography."""
    return epipolar.inliers if epipolar.scene == Scene.GENERAL else homography.inliers
