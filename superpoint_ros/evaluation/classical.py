"""OpenCV's detectors and descriptors as evaluation methods, with the same non-maximum suppression as the network.

The published evaluations (rpautrat's, and the paper's section 7) apply it to classical keypoints too; without it the
metrics would mostly compare keypoint densities.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from superpoint_ros.evaluation.methods import Detection, Image

_REVISION = 1
"""Incremented with every change of this file that changes detections; part of the cache key."""


def suppress_points(
    keypoints: NDArray[np.floating], scores: NDArray[np.floating], radius: int, most: int
) -> NDArray[np.int64]:
    """Apply greedy non-maximum suppression; return the indices of at most `most` kept points, best first.

    A point is suppressed if a better one lies within `radius` pixels (Chebyshev distance of positions rounded to whole
    pixels, as in the network's heat map). Radius 0 suppresses nothing. Equal scores keep their order.

    Args:
        keypoints: (N, 2) non-negative pixels.
        scores: (N,).
    """
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    if radius == 0 or not len(order):
        return np.asarray(order[:most])
    pixels = np.maximum(np.rint(keypoints).astype(np.int64), 0)
    width, height = pixels.max(axis=0) + 1
    taken = np.zeros((height + radius, width + radius), bool)
    kept = []
    for index in order:
        x, y = pixels[index]
        if taken[y, x]:
            continue
        taken[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1] = True
        kept.append(index)
        if len(kept) == most:
            break
    return np.array(kept, np.int64)


class _Classical(ABC):
    """Base class: settings, suppression and sorting by score."""

    name: str
    parameters: dict[str, Any]

    def settings(self) -> dict[str, Any]:
        """Return the parameters and OpenCV's version."""
        return {"method": self.name, "opencv": cv2.__version__, "revision": _REVISION, **self.parameters}

    def detect(self, image: Image, max_keypoints: int, nms_radius: int) -> Detection:
        """Detect as `superpoint_ros.evaluation.methods.Method` specifies."""
        found = self._detect_all(image, max_keypoints)
        return found.select(suppress_points(found.keypoints, found.scores, nms_radius, max_keypoints))

    @abstractmethod
    def _detect_all(self, image: Image, max_keypoints: int) -> Detection:
        """Return keypoints in any order, and enough of them that sufficiently many survive suppression."""


class _WithDescriptors(_Classical):
    """Detectors with descriptors; OpenCV's KeyPoint puts the origin at a pixel centre, as this package does."""

    def _detect_all(self, image: Image, max_keypoints: int) -> Detection:
        keypoints, descriptors = self._detector(max_keypoints).detectAndCompute(image, None)
        points, scores = _to_arrays(keypoints)
        if descriptors is None:
            descriptors = self._empty()
        return Detection(points, scores, self._normalise(descriptors))

    @abstractmethod
    def _detector(self, max_keypoints: int) -> Any: ...

    def _empty(self) -> NDArray[Any]:
        return np.zeros((0, 32), np.uint8)

    def _normalise(self, descriptors: NDArray[Any]) -> NDArray[Any]:
        return descriptors


class Sift(_WithDescriptors):
    """SIFT (Lowe, 2004), with all of OpenCV's keypoints as candidates.

    Args:
        rootsift: use the Hellinger distance instead of the Euclidean one (Arandjelovic and Zisserman, 2012).
    """

    name = "sift"

    def __init__(self, rootsift: bool = False) -> None:
        self.parameters = {"rootsift": rootsift}

    def _detector(self, max_keypoints: int) -> Any:
        return cv2.SIFT.create()

    def _empty(self) -> NDArray[Any]:
        return np.zeros((0, 128), np.float32)

    def _normalise(self, descriptors: NDArray[Any]) -> NDArray[Any]:
        if self.parameters["rootsift"]:
            descriptors = np.sqrt(descriptors / np.maximum(np.abs(descriptors).sum(axis=1, keepdims=True), 1e-12))
        norm = np.linalg.norm(descriptors, axis=1, keepdims=True)
        return np.asarray(descriptors / np.maximum(norm, 1e-12), np.float32)


class Orb(_WithDescriptors):
    """ORB (Rublee et al., 2011).

    Args:
        candidates: requested keypoints as a multiple of the maximum number, so that enough survive suppression.
    """

    name = "orb"

    def __init__(self, candidates: int = 10) -> None:
        if candidates < 1:
            raise ValueError(f"candidates of method 'orb' is {candidates}, allowed is 1 or more")
        self.parameters = {"candidates": candidates}

    def _detector(self, max_keypoints: int) -> Any:
        return cv2.ORB.create(nfeatures=self.parameters["candidates"] * max_keypoints)


class Akaze(_WithDescriptors):
    """AKAZE with its binary descriptor (Alcantarilla et al., 2013).

    Args:
        threshold: minimum detector response.

    Raises:
        ValueError: if OpenCV lacks AKAZE, which moved to the contrib modules in version 5.
    """

    name = "akaze"

    def __init__(self, threshold: float = 0.001) -> None:
        self.parameters = {"threshold": threshold}
        self._create: Any = getattr(cv2, "AKAZE", None) or getattr(getattr(cv2, "xfeatures2d", None), "AKAZE", None)
        if self._create is None:
            raise ValueError(
                f"method 'akaze' is not in OpenCV {cv2.__version__} as installed, "
                "it comes with opencv-python-headless<5 and with opencv-contrib-python-headless"
            )

    def _detector(self, max_keypoints: int) -> Any:
        return self._create.create(threshold=self.parameters["threshold"])

    def _empty(self) -> NDArray[Any]:
        return np.zeros((0, 61), np.uint8)


class Fast(_Classical):
    """FAST (Rosten and Drummond, 2006); a detector only.

    Args:
        threshold: minimum brightness difference; 10 in the published evaluation.
    """

    name = "fast"

    def __init__(self, threshold: int = 10) -> None:
        self.parameters = {"threshold": threshold}

    def _detect_all(self, image: Image, max_keypoints: int) -> Detection:
        keypoints = cv2.FastFeatureDetector.create(threshold=self.parameters["threshold"]).detect(image)
        return Detection(*_to_arrays(keypoints), None)


class Harris(_Classical):
    """Harris corners (Harris and Stephens, 1988), local maxima of OpenCV's response; a detector only.

    Args:
        block, aperture, k: as in OpenCV's cornerHarris; 4, 3 and 0.04 in the published evaluation.
    """

    name = "harris"

    def __init__(self, block: int = 4, aperture: int = 3, k: float = 0.04) -> None:
        self.parameters = {"block": block, "aperture": aperture, "k": k}

    def _detect_all(self, image: Image, max_keypoints: int) -> Detection:
        p = self.parameters
        return _peaks(cv2.cornerHarris(image, p["block"], p["aperture"], p["k"]))


class ShiTomasi(_Classical):
    """Shi-Tomasi corners (1994): local maxima of the smaller eigenvalue; a detector only.

    Args:
        block: window of the structure tensor, 3 as in OpenCV's goodFeaturesToTrack.
    """

    name = "shi"

    def __init__(self, block: int = 3) -> None:
        self.parameters = {"block": block}

    def _detect_all(self, image: Image, max_keypoints: int) -> Detection:
        return _peaks(cv2.cornerMinEigenVal(image, self.parameters["block"]))


def _to_arrays(keypoints: Sequence[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    points = np.array([k.pt for k in keypoints], np.float32).reshape(-1, 2)
    return points, np.array([k.response for k in keypoints], np.float32)


def _peaks(response: NDArray[np.floating], relative_floor: float = 1e-6) -> Detection:
    """Return the local maxima of 3 x 3 windows above the noise floor as keypoints."""
    response = np.asarray(response, np.float32)
    peak = (response == cv2.dilate(response, np.ones((3, 3), np.uint8))) & (response > relative_floor * response.max())
    y, x = np.nonzero(peak & (response > 0))
    return Detection(np.column_stack((x, y)).astype(np.float32), response[y, x], None)
