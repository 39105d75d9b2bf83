"""OpenCV's detectors and descriptors as methods to evaluate, under the same non-maximum suppression as the network.

The published evaluations (rpautrat's, and the paper's section 7) suppress neighbours of classical keypoints too:
without it the scores would compare densities.
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
"""Raised whenever a change of this file changes what its methods find."""


def suppress_points(
    keypoints: NDArray[np.floating], scores: NDArray[np.floating], radius: int, most: int
) -> NDArray[np.int64]:
    """Greedy non-maximum suppression: indices of the kept points, best first, at most `most`.

    A point is dropped if a better one lies within `radius` pixels (Chebyshev, positions rounded to whole pixels, as the
    heat map of the network has them). Radius 0 drops nothing. Equal scores keep their order.

    Args:
        keypoints: (N, 2) in pixels, not negative.
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
    """Settings, suppression and the order by score are the same for all."""

    name: str
    parameters: dict[str, Any]

    def settings(self) -> dict[str, Any]:
        """Parameters and OpenCV's version."""
        return {"method": self.name, "opencv": cv2.__version__, "revision": _REVISION, **self.parameters}

    def detect(self, image: Image, max_keypoints: int, nms_radius: int) -> Detection:
        """See `superpoint_ros.evaluation.methods.Method`."""
        found = self._candidates(image, max_keypoints)
        return found.select(suppress_points(found.keypoints, found.scores, nms_radius, max_keypoints))

    @abstractmethod
    def _candidates(self, image: Image, max_keypoints: int) -> Detection:
        """Keypoints in any order, more than are wanted, so that enough are left after suppression."""


class _Described(_Classical):
    """Detectors that describe what they find; OpenCV's KeyPoint has its coordinates at pixel centres, as ours."""

    def _candidates(self, image: Image, max_keypoints: int) -> Detection:
        keypoints, descriptors = self._detector(max_keypoints).detectAndCompute(image, None)
        points, scores = _arrays(keypoints)
        if descriptors is None:
            descriptors = self._empty()
        return Detection(points, scores, self._normalised(descriptors))

    @abstractmethod
    def _detector(self, max_keypoints: int) -> Any: ...

    def _empty(self) -> NDArray[Any]:
        return np.zeros((0, 32), np.uint8)

    def _normalised(self, descriptors: NDArray[Any]) -> NDArray[Any]:
        return descriptors


class Sift(_Described):
    """SIFT (Lowe, 2004), with every keypoint that OpenCV finds as a candidate.

    Args:
        rootsift: Hellinger distance instead of the Euclidean one (Arandjelovic and Zisserman, 2012).
    """

    name = "sift"

    def __init__(self, rootsift: bool = False) -> None:
        self.parameters = {"rootsift": rootsift}

    def _detector(self, max_keypoints: int) -> Any:
        return cv2.SIFT.create()

    def _empty(self) -> NDArray[Any]:
        return np.zeros((0, 128), np.float32)

    def _normalised(self, descriptors: NDArray[Any]) -> NDArray[Any]:
        if self.parameters["rootsift"]:
            descriptors = np.sqrt(descriptors / np.maximum(np.abs(descriptors).sum(axis=1, keepdims=True), 1e-12))
        norm = np.linalg.norm(descriptors, axis=1, keepdims=True)
        return np.asarray(descriptors / np.maximum(norm, 1e-12), np.float32)


class Orb(_Described):
    """ORB (Rublee et al., 2011).

    Args:
        candidates: keypoints asked for, as a multiple of the number wanted, so that suppression leaves enough.
    """

    name = "orb"

    def __init__(self, candidates: int = 10) -> None:
        if candidates < 1:
            raise ValueError(f"candidates of method 'orb' is {candidates}, allowed is 1 or more")
        self.parameters = {"candidates": candidates}

    def _detector(self, max_keypoints: int) -> Any:
        return cv2.ORB.create(nfeatures=self.parameters["candidates"] * max_keypoints)


class Akaze(_Described):
    """AKAZE with its binary descriptor (Alcantarilla et al., 2013).

    Args:
        threshold: least detector response.

    Raises:
        ValueError: if this OpenCV has no AKAZE; since version 5 it is one of the contrib modules.
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
        threshold: least difference in brightness; the published evaluation has 10.
    """

    name = "fast"

    def __init__(self, threshold: int = 10) -> None:
        self.parameters = {"threshold": threshold}

    def _candidates(self, image: Image, max_keypoints: int) -> Detection:
        keypoints = cv2.FastFeatureDetector.create(threshold=self.parameters["threshold"]).detect(image)
        return Detection(*_arrays(keypoints), None)


class Harris(_Classical):
    """Harris corners (Harris and Stephens, 1988), local maxima of OpenCV's response; a detector only.

    Args:
        block, aperture, k: as OpenCV's cornerHarris has them; the published evaluation has 4, 3 and 0.04.
    """

    name = "harris"

    def __init__(self, block: int = 4, aperture: int = 3, k: float = 0.04) -> None:
        self.parameters = {"block": block, "aperture": aperture, "k": k}

    def _candidates(self, image: Image, max_keypoints: int) -> Detection:
        p = self.parameters
        return _peaks(cv2.cornerHarris(image, p["block"], p["aperture"], p["k"]))


class ShiTomasi(_Classical):
    """Shi-Tomasi corners (1994): local maxima of the smaller eigenvalue; a detector only.

    Args:
        block: window of the gradients' covariance, 3 as in OpenCV's goodFeaturesToTrack.
    """

    name = "shi"

    def __init__(self, block: int = 3) -> None:
        self.parameters = {"block": block}

    def _candidates(self, image: Image, max_keypoints: int) -> Detection:
        return _peaks(cv2.cornerMinEigenVal(image, self.parameters["block"]))


def _arrays(keypoints: Sequence[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    points = np.array([k.pt for k in keypoints], np.float32).reshape(-1, 2)
    return points, np.array([k.response for k in keypoints], np.float32)


def _peaks(response: NDArray[np.floating], least: float = 1e-6) -> Detection:
    """Pixels that are the greatest of their 3 x 3 window and not mere rounding, as keypoints."""
    response = np.asarray(response, np.float32)
    peak = (response == cv2.dilate(response, np.ones((3, 3), np.uint8))) & (response > least * response.max())
    y, x = np.nonzero(peak & (response > 0))
    return Detection(np.column_stack((x, y)).astype(np.float32), response[y, x], None)
