"""Draw keypoints, tracks and matches on an image."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from superpoint_ros.adapters.palette import INLIER, OUTLIER, colours, shades, shades_by_rank
from superpoint_ros.features import Features, Matches, Scene, Status, matched_points
from superpoint_ros.frontend.frames import FrameResult

_TEXT, _DARK = (255, 255, 255), (40, 20, 20)
_SHIFT = 4


def annotate(result: FrameResult) -> NDArray[np.uint8]:
    """Draw the result on its image, as (H, W, 3) BGR uint8.

    Keypoints are circles, from blue for new tracks to yellow for old ones, or by score if tracking is off; coasting
    ones are thin. A line connects a matched keypoint to its position in the previous frame, green for inliers of the
    model that explains the matches, the homography or the fundamental matrix, and red for outliers.
    """
    canvas = _in_colour(result.image)
    if result.reference is not None:
        _draw_lines(canvas, np.stack(result.points, axis=1), result.inliers, _thickness(canvas))
    _draw_keypoints(canvas, result.features, shades(result), result.coasted)
    _write(canvas, _caption(result))
    return canvas


def draw_features(image: NDArray[np.uint8], features: Features) -> NDArray[np.uint8]:
    """Draw a circle around each keypoint, coloured by score, on a copy of an (H, W) grey or (H, W, 3) BGR image."""
    canvas = _in_colour(image)
    _draw_keypoints(canvas, features, shades_by_rank(len(features)), np.zeros(len(features), bool))
    return canvas


def draw_matches(
    images: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    features: tuple[Features, Features],
    matches: Matches,
    inliers: NDArray[np.bool_],
) -> NDArray[np.uint8]:
    """Draw two images side by side with keypoints and lines between matches: green for inliers, red for others."""
    left, right = (draw_features(image, found) for image, found in zip(images, features, strict=True))
    canvas = np.zeros((max(len(left), len(right)), left.shape[1] + right.shape[1], 3), np.uint8)
    canvas[: len(left), : left.shape[1]] = left
    canvas[: len(right), left.shape[1] :] = right
    pairs = np.stack(matched_points(*features, matches), axis=1) + np.array([[0, 0], [left.shape[1], 0]])
    _draw_lines(canvas, pairs, inliers, _thickness(left))
    return canvas


def _draw_lines(
    canvas: NDArray[np.uint8], pairs: NDArray[np.floating], inliers: NDArray[np.bool_], thickness: int
) -> None:
    """Draw lines between (M, 2, 2) pairs of pixels, those of inliers last."""
    for inlier, colour in ((False, OUTLIER), (True, INLIER)):
        lines = _to_fixed_point(pairs[inliers == inlier])
        cv2.polylines(canvas, list(lines), False, colour, thickness, cv2.LINE_AA, _SHIFT)


def _in_colour(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image.copy(), np.uint8)


def _thickness(canvas: NDArray[np.uint8]) -> int:
    return max(1, round(canvas.shape[1] / 900))


def _draw_keypoints(
    canvas: NDArray[np.uint8], features: Features, shade: NDArray[np.floating], thin: NDArray[np.bool_]
) -> None:
    """Draw circles sized relative to the image, each inside a dark one for contrast."""
    if not len(features):
        return
    thickness = _thickness(canvas)
    radius = round(max(3.0, canvas.shape[1] / 200) * (1 << _SHIFT))
    places = _to_fixed_point(features.keypoints).tolist()
    for centre, faint in zip(places, thin.tolist(), strict=True):
        if not faint:
            cv2.circle(canvas, centre, radius + (thickness << _SHIFT), _DARK, thickness, cv2.LINE_AA, _SHIFT)
    for centre, colour in zip(places, colours(shade), strict=True):
        cv2.circle(canvas, centre, radius, colour, thickness, cv2.LINE_AA, _SHIFT)


def _caption(result: FrameResult) -> str:
    homography = result.homography
    text = f"{len(result.features)} keypoints"
    if result.epipolar.scene == Scene.GENERAL:
        return f"{text}  {result.epipolar.inlier_count}/{len(result.matches)} inliers of the fundamental matrix"
    if homography.status == Status.OK:
        return f"{text}  {homography.inlier_count}/{len(result.matches)} inliers  rmse {homography.rmse:.2f} px"
    return f"{text}  {homography.status.name}"


def _write(canvas: NDArray[np.uint8], text: str) -> None:
    """Write a line of text on a dark bar in the top left corner."""
    scale = max(canvas.shape[1] / 1000, 0.4)
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    bar = canvas[: height + below + 8, : width + 12]
    bar[:] = bar // 4
    cv2.putText(canvas, text, (6, height + 4), cv2.FONT_HERSHEY_SIMPLEX, scale, _TEXT, 1, cv2.LINE_AA)


def _to_fixed_point(points: NDArray[np.floating]) -> NDArray[np.int32]:
    return np.round(np.asarray(points) * (1 << _SHIFT)).astype(np.int32)
