"""The benchmarks: the metrics of an image pair, the parameters of the protocol, and the summary over pairs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.evaluation import metrics
from superpoint_ros.evaluation.framing import Framing
from superpoint_ros.evaluation.methods import Detection
from superpoint_ros.evaluation.pairs import Pair
from superpoint_ros.features import Homography, Status
from superpoint_ros.two_view.homography import homography_from_points

Values = dict[str, float]

EPSILONS = (1, 3, 5)
CURVE = tuple(range(1, 11))
"""Thresholds in pixels of homography correctness and of the matching accuracy curve."""


@dataclass(frozen=True)
class Benchmark(ABC):
    """Parameters of a protocol.

    Attributes:
        framing: size that images are scaled and cropped to.
        max_keypoints: maximum number of keypoints per image.
        nms_radius: radius of non-maximum suppression, the same for every method.
        epsilon: correctness threshold, in pixels.
    """

    name: ClassVar[str]
    descriptors: ClassVar[bool]

    framing: Framing
    max_keypoints: int
    nms_radius: int
    epsilon: float = 3.0

    def settings(self) -> dict[str, Any]:
        """Return all parameters as JSON values."""
        return {"benchmark": self.name, **asdict(self), "framing": str(self.framing)}

    @abstractmethod
    def score(self, pair: Pair, first: Detection, second: Detection) -> Values:
        """Compute the metrics of one pair; NaN where a metric is undefined."""

    @abstractmethod
    def summarise(self, pairs: Sequence[Values]) -> Values:
        """Summarise the metrics of many pairs."""


@dataclass(frozen=True)
class Repeatability(Benchmark):
    """Repeatability of a detector: 240 x 320 pixels, 300 points in the common view, NMS 4 (paper, section 7.1).

    Attributes:
        most: maximum number of keypoints in the common view.
    """

    name: ClassVar[str] = "repeatability"
    descriptors: ClassVar[bool] = False

    framing: Framing = field(default_factory=lambda: Framing(crop=(240, 320)))
    max_keypoints: int = 1000
    nms_radius: int = 4
    most: int = 300

    def score(self, pair: Pair, first: Detection, second: Detection) -> Values:
        """Compute `metrics.repeatability`."""
        share, distance = metrics.repeatability(
            first.keypoints, second.keypoints, pair.homography, pair.first.shape, pair.second.shape, self.epsilon,
            self.most,
        )  # fmt: skip
        return {"repeatability": share, "localisation_error": distance, "keypoints": (len(first) + len(second)) / 2}

    def summarise(self, pairs: Sequence[Values]) -> Values:
        """Average each metric over the pairs for which it is defined."""
        return _means(pairs)


@dataclass(frozen=True)
class Estimate:
    """An estimated homography and its correspondences.

    Attributes:
        first, second: the keypoints that were matched.
        matches: (M, 2) indices into them.
        homography: the estimate, with (M,) inliers.
    """

    first: Detection
    second: Detection
    matches: NDArray[np.int64]
    homography: Homography


@dataclass(frozen=True)
class HomographyEstimation(Benchmark):
    """Homography estimation: 480 x 640 pixels, 1000 points, NMS 8, mutual matches, RANSAC (paper, section 7.3).

    Attributes:
        estimator: a method of `superpoint_ros.two_view.homography`; the published evaluation uses OpenCV's RANSAC.
        threshold: maximum reprojection error of an inlier, in pixels.
        align: refine on the images, as `estimate_homography` does if given them.
        common_view: match only keypoints of the common view, as the published evaluation does.
    """

    name: ClassVar[str] = "homography"
    descriptors: ClassVar[bool] = True

    framing: Framing = field(default_factory=lambda: Framing(crop=(480, 640)))
    max_keypoints: int = 1000
    nms_radius: int = 8
    estimator: str = "ransac"
    threshold: float = 3.0
    align: bool = False
    common_view: bool = True

    def estimate(self, pair: Pair, first: Detection, second: Detection) -> Estimate:
        """Match the keypoints of a pair and estimate its homography."""
        if self.common_view:
            visible = metrics.common_view(
                first.keypoints, second.keypoints, pair.homography, pair.first.shape, pair.second.shape
            )
            first, second = first.select(visible[0]), second.select(visible[1])
        matches = metrics.mutual_matches(_distances(first, second))
        found = homography_from_points(
            first.keypoints[matches[:, 0]],
            second.keypoints[matches[:, 1]],
            method=self.estimator,
            threshold=self.threshold,
            min_inliers=4,
            images=(pair.first, pair.second) if self.align else None,
        )
        return Estimate(first, second, matches, found)

    def score(self, pair: Pair, first: Detection, second: Detection) -> Values:
        """Compute the corner error in pixels (infinite without an estimate) and the numbers of matches and inliers."""
        estimate = self.estimate(pair, first, second)
        found, error = estimate.homography, np.inf
        if found.status == Status.OK:
            error = metrics.corner_error(found.matrix, pair.homography, pair.first.shape)
        return {
            "corner_error": error if np.isfinite(error) else np.inf,
            "matches": len(estimate.matches),
            "inliers": found.inlier_count,
        }

    def summarise(self, pairs: Sequence[Values]) -> Values:
        """Compute correctness and AUC at 1, 3 and 5 pixels, and the mean numbers of matches and inliers."""
        errors = np.array([values["corner_error"] for values in pairs])
        result = {f"correctness_{e}": metrics.correctness(errors, e) for e in EPSILONS}
        result |= {f"auc_{e}": metrics.area_under_curve(errors, e) for e in EPSILONS}
        return result | _means([{name: values[name] for name in ("matches", "inliers")} for values in pairs])


@dataclass(frozen=True)
class Matching(Benchmark):
    """Descriptor matching, with images and keypoints as in homography estimation (paper, appendix).

    Matching accuracy is computed on mutual matches of all keypoints; nearest-neighbour mAP and matching score on
    one-sided matches in the common view.
    """

    name: ClassVar[str] = "matching"
    descriptors: ClassVar[bool] = True

    framing: Framing = field(default_factory=lambda: Framing(crop=(480, 640)))
    max_keypoints: int = 1000
    nms_radius: int = 8

    def score(self, pair: Pair, first: Detection, second: Detection) -> Values:
        """Compute `metrics.nearest_neighbours` and `metrics.matching_accuracy`."""
        distances = _distances(first, second)
        sizes = pair.first.shape, pair.second.shape
        nearest = metrics.nearest_neighbours(
            first.keypoints, second.keypoints, distances, pair.homography, *sizes, self.epsilon
        )
        matches = metrics.mutual_matches(distances)
        accuracy = metrics.matching_accuracy(
            first.keypoints[matches[:, 0]], second.keypoints[matches[:, 1]], pair.homography, np.array(CURVE, float)
        )
        values = {"nn_map": nearest.average_precision, "matching_score": nearest.matching_score}
        values |= {f"mma_{t}": float(share) for t, share in zip(CURVE, accuracy, strict=True)}
        return values | {"matches": len(matches)}

    def summarise(self, pairs: Sequence[Values]) -> Values:
        """Average each metric over the pairs for which it is defined."""
        return _means(pairs)


BENCHMARKS: dict[str, Callable[[], Benchmark]] = {
    "repeatability": Repeatability,
    "homography": HomographyEstimation,
    "matching": Matching,
}
"""Benchmarks by name, with the published parameters."""


def _distances(first: Detection, second: Detection) -> np.ndarray:
    if first.descriptors is None or second.descriptors is None:
        raise ValueError("the method has no descriptors")
    return metrics.descriptor_distances(first.descriptors, second.descriptors)


def _means(pairs: Sequence[Values]) -> Values:
    result = {}
    for name in pairs[0] if pairs else ():
        defined = [values[name] for values in pairs if not np.isnan(values[name])]
        result[name] = float(np.mean(defined)) if defined else float("nan")
    return result
