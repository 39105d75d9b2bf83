"""Settings of the front end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from superpoint_ros.extraction.superpoint import Extraction
from superpoint_ros.two_view.homography import check_method
from superpoint_ros.two_view.rotation import check_rotation


@dataclass(frozen=True)
class FrontEndSettings:
    """Settings of the front end, all of which may change between two frames.

    Attributes:
        extraction: the extractor's own settings by name, as `SuperPoint.configure` takes them.
        min_similarity: minimum cosine similarity of a match.
        ratio: maximum ratio of the descriptor distances of a match and its runner-up; 1 disables the test.
        rotation: upright or any, see `matching.match`.
        method: robust estimator of the homography, one of `homography.METHODS`.
        threshold: maximum reprojection error of an inlier, in pixels.
        min_inliers: minimum number of inliers of a valid homography.
        align: refine the homography by aligning the two images around the inliers.
        max_gap: maximum time between two matched frames, in seconds.
        tracking: give keypoints track ids that persist through matches.
        window: search for matches only within this distance in x and y, in pixels, of their predicted position; 0
            searches the whole image.
        refine: refine matches on the images.
        epipolar: estimate the fundamental matrix if the scene is not planar.
        epipolar_threshold: maximum Sampson error of its inliers, in pixels.
        coast: number of frames for which a track continues while the detector misses it.

    Raises:
        ValueError: in one sentence, if `rotation` or `method` is unknown.
    """

    extraction: Mapping[str, Any] = field(default_factory=lambda: asdict(Extraction()))
    min_similarity: float = 0.5
    ratio: float = 1.0
    rotation: str = "upright"
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

    def __post_init__(self) -> None:
        check_rotation(self.rotation)
        check_method(self.method)
