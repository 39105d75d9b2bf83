"""Drawing keypoints, tracks and matches over an image."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from superpoint_ros.features import Features, Status
from superpoint_ros.frontend.frames import FrameResult

_INLIER, _OUTLIER, _TEXT = (80, 220, 80), (60, 60, 230), (255, 255, 255)
_SHIFT = 4


def annotate(result: FrameResult) -> NDArray[np.uint8]:
    """The result's image as (H, W, 3) BGR uint8, with what was found in it.

    Keypoints are circles from blue (low score) to yellow (high); a matched keypoint trails a line to where it was in
    the frame before, green for inliers of the homography and red for others.
    """
    canvas = draw_features(result.image, result.features)
    if result.reference is not None:
        first, second = result.matches.indices[:, 0], result.matches.indices[:, 1]
        pairs = np.stack((result.reference.keypoints[first], result.features.keypoints[second]), axis=1)
        for inlier, colour in ((False, _OUTLIER), (True, _INLIER)):
            lines = _fixed(pairs[result.homography.inliers == inlier])
            cv2.polylines(canvas, list(lines), False, colour, 1, cv2.LINE_AA, _SHIFT)
    _write(canvas, _caption(result))
    return canvas


def draw_features(image: NDArray[np.uint8], features: Features) -> NDArray[np.uint8]:
    """A copy of a (H, W) grey or (H, W, 3) BGR image, in colour, with a circle around each keypoint."""
    canvas = np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image.copy(), np.uint8)
    # Scores fall off steeply, so colours follow their rank.
    rank = np.linspace(255, 60, max(len(features), 1)).astype(np.uint8)
    colours = cv2.applyColorMap(rank[:, None], cv2.COLORMAP_PLASMA)[:, 0].tolist()
    for (x, y), colour in zip(_fixed(features.keypoints).tolist(), colours, strict=False):
        cv2.circle(canvas, (x, y), 2 << _SHIFT, colour, 1, cv2.LINE_AA, _SHIFT)
    return canvas


def _caption(result: FrameResult) -> str:
    homography = result.homography
    text = f"{len(result.features)} keypoints"
    if homography.status == Status.OK:
        return f"{text}  {homography.inlier_count}/{len(result.matches)} inliers  rmse {homography.rmse:.2f} px"
    return f"{text}  {homography.status.name}"


def _write(canvas: NDArray[np.uint8], text: str) -> None:
    """A line of text on a dark bar in the top left corner."""
    scale = max(canvas.shape[1] / 1000, 0.4)
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    bar = canvas[: height + below + 8, : width + 12]
    bar[:] = bar // 4
    cv2.putText(canvas, text, (6, height + 4), cv2.FONT_HERSHEY_SIMPLEX, scale, _TEXT, 1, cv2.LINE_AA)


def _fixed(points: NDArray[np.floating]) -> NDArray[np.int32]:
    return np.round(np.asarray(points) * (1 << _SHIFT)).astype(np.int32)
