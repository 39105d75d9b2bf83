"""The values that everything hands on: Features, Matches, Homography, EpipolarGeometry."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Link:
    """Matches that the runtime found along with the features, for fixed numbers of places.

    Attributes:
        own: tells the frame from all others.
        before: that of the frame to which the matches lead back; None where there is none.
        forward: (K,) int64, for each keypoint of the frame before its mutual nearest neighbour in this one, or -1.
        best, second: (K,) float32 cosine similarity of the nearest and the second nearest.
    """

    own: object
    before: object | None
    forward: NDArray[np.int64]
    best: NDArray[np.float32]
    second: NDArray[np.float32]


@dataclass(frozen=True)
class Features:
    """Keypoints of one image with scores and descriptors, best score first.

    Attributes:
        keypoints: (N, 2) float32, x right, y down, in pixels of the image; the centre of the top-left pixel is (0, 0).
        scores: (N,) float32 detection probabilities, descending.
        descriptors: (N, D) float32 of unit length.
        image_size: (height, width) in pixels.
        device_descriptors: the descriptors as the tensor that the network left on its device, where there is one;
            matching uses it to save a transfer.
        link: matches with the frame before, where the runtime found them already.
        covariance: (N, 3) float32 of each keypoint's error as xx, xy, yy in px^2; None where nobody estimated it.
        levels: (N,) uint8, the level of the image pyramid on which each was found, 0 the finest; None where unknown.
        sizes: (N,) float32 side in pixels of the network's cell around each, 8 where the image was given to the network
            as it is and more on coarser levels; None where unknown.
    """

    keypoints: NDArray[np.float32]
    scores: NDArray[np.float32]
    descriptors: NDArray[np.float32]
    image_size: tuple[int, int]
    device_descriptors: Any = field(default=None, repr=False, compare=False)
    link: Link | None = field(default=None, repr=False, compare=False)
    covariance: NDArray[np.float32] | None = None
    levels: NDArray[np.uint8] | None = None
    sizes: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.keypoints)

    @staticmethod
    def empty(image_size: tuple[int, int], descriptor_size: int = 256) -> Features:
        """Features of an image without keypoints."""
        return Features(
            np.zeros((0, 2), np.float32),
            np.zeros(0, np.float32),
            np.zeros((0, descriptor_size), np.float32),
            image_size,
        )


@dataclass(frozen=True)
class Matches:
    """Pairs of keypoints with similar descriptors.

    Attributes:
        indices: (M, 2) int64 into the keypoints of the first and of the second image.
        similarity: (M,) float32 cosine similarity of the descriptors.
        refined: (M,) bool, whether the images say where the point of the second image lies, better than its detection
            does; None where nobody asked them.
        covariance: (M, 3) float32 of the second point's error, the first taken as exact, as xx, xy, yy in px^2; None
            where nobody estimated it.
    """

    indices: NDArray[np.int64]
    similarity: NDArray[np.float32]
    refined: NDArray[np.bool_] | None = None
    covariance: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.indices)

    @staticmethod
    def empty() -> Matches:
        """No matches."""
        return Matches(np.zeros((0, 2), np.int64), np.zeros(0, np.float32))


class Status(enum.IntEnum):
    """What became of a homography; the numbers are those of MatchedHomography.msg."""

    OK = 0
    FIRST_FRAME = 1
    TOO_FEW_MATCHES = 2
    NO_CONSENSUS = 3
    TIME_JUMP = 4
    IMAGE_CHANGED = 5


@dataclass(frozen=True)
class Homography:
    """A homography with x_second ~ H x_first in pixels, and how far to trust it.

    Attributes:
        status: everything but `inliers` is zero unless this is OK.
        matrix: (3, 3) float64 with h33 = 1.
        inliers: (M,) bool, one for each match.
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
        """No homography, for the reason given."""
        return Homography(status, np.zeros((3, 3)), np.zeros(matches, bool), 0.0, np.zeros((8, 8)))


class Scene(enum.IntEnum):
    """Which model explains the matches of two images; the numbers are those of MatchedHomography.msg."""

    UNKNOWN = 0
    PLANAR = 1
    GENERAL = 2


@dataclass(frozen=True)
class EpipolarGeometry:
    """What relates two images of a scene with depth.

    Attributes:
        scene: PLANAR where the homography explains the matches: the scene is a plane, the camera turned or stood still,
            or moved too little to tell. GENERAL where they show depth. UNKNOWN where too few agree on anything.
        fundamental: (3, 3) float64 of unit norm with x_second^T F x_first = 0 in pixels; zeros unless GENERAL.
        inliers: (M,) bool, whether each match agrees with it; all false unless GENERAL.
    """

    scene: Scene
    fundamental: NDArray[np.float64]
    inliers: NDArray[np.bool_]

    @property
    def inlier_count(self) -> int:
        return int(np.count_nonzero(self.inliers))

    @staticmethod
    def unknown(matches: int = 0) -> EpipolarGeometry:
        """Nothing is known."""
        return EpipolarGeometry(Scene.UNKNOWN, np.zeros((3, 3)), np.zeros(matches, bool))

    @staticmethod
    def planar(matches: int) -> EpipolarGeometry:
        """A homography explains the matches."""
        return EpipolarGeometry(Scene.PLANAR, np.zeros((3, 3)), np.zeros(matches, bool))
