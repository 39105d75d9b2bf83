"""What may change between two frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from superpoint_ros.extraction.superpoint import Extraction


@dataclass(frozen=True)
class FrontEndSettings:
    """Settings of the front end, all of which may change between two frames.

    Attributes:
        extraction: the extractor's own settings by name, as `SuperPoint.configure` takes them.
        min_similarity: least cosine similarity of a match.
        ratio: most ratio of the descriptor distances of a match and of its runner-up; 1 turns the test off.
        method: robust estimator of the homography, one of `homography.METHODS`.
        threshold: greatest reprojection error of an inlier, in pixels.
        min_inliers: fewest inliers of a valid homography.
        align: refine the homography to where the two images agree best around the inliers.
        max_gap: longest time between two frames that are matched, in seconds.
        tracking: give keypoints track ids that persist through matches.
        window: search matches only within so many pixels, in x and in y, of where the motion so far lets expect them;
            0 searches everywhere.
        refine: refine matches on the images.
        epipolar: estimate the fundamental matrix where the scene is no plane.
        epipolar_threshold: greatest Sampson error of its inliers, in pixels.
        coast: for how many frames a track goes on while the detector misses it.
    """

    extraction: Mapping[str, Any] = field(default_factory=lambda: asdict(Extraction()))
    min_similarity: float = 0.5
    ratio: float = 1.0
    method: str = "magsac"
    threshold: float = 3.0
    min_inliers: int = 12
    align: bool = True
    max_gap: float = 1.0
    tracking: bool = True
    window: int = 0
    refine: bool = True
    coast: int = 3
    epipolar: bool = True
    epipolar_threshold: float = 1.0
