"""Convert results of frames to the messages of Foxglove."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.adapters.palette import INLIER, OUTLIER, colours, shades
from superpoint_ros.frontend.frames import FrameResult

POINTS, LINE_LIST = 1, 4
"""Types of foxglove_msgs/PointsAnnotation."""
_SHADES = 8
"""Number of colours of keypoints. Those of one colour share an annotation: a colour takes more bytes than a point."""
_TRANSPARENT = {"r": 0.0, "g": 0.0, "b": 0.0, "a": 0.0}


def image_annotations(result: FrameResult) -> dict[str, Any]:
    """Build the fields of foxglove_msgs/msg/ImageAnnotations: what the annotated image shows.

    Keypoints are points, from blue for new tracks to yellow for old ones, or by score if tracking is off. A line
    connects a matched keypoint to its position in the previous frame, green for inliers and red for outliers.
    Positions are those in the image, whatever `undistort` is.

    Returns:
        Nested messages as dictionaries, lists of points as (N, 2) float64 with the origin at the corner of the
        top-left pixel, times in nanoseconds.
    """
    width, stamp = result.features.image_size[1], result.frame.stamp
    annotations = []
    if result.reference is not None:
        pairs = np.stack(result.points, axis=1)
        for inlier, colour in ((False, OUTLIER), (True, INLIER)):
            ends = pairs[result.inliers == inlier].reshape(-1, 2)
            annotations.append(_annotation(stamp, LINE_LIST, ends, colour, max(1.0, width / 900)))
    steps = np.round(shades(result) * (_SHADES - 1)).astype(np.int64)
    for step, colour in enumerate(colours(np.arange(_SHADES) / (_SHADES - 1))):
        points = result.features.keypoints[steps == step]
        annotations.append(_annotation(stamp, POINTS, points, colour, max(4.0, width / 120)))
    drawn = [annotation for annotation in annotations if len(annotation["points"])]
    return {"timestamp": stamp, "circles": [], "points": drawn, "texts": [], "metadata": []}


def _annotation(
    stamp: int, kind: int, points: NDArray[np.floating], colour: tuple[int, int, int], thickness: float
) -> dict[str, Any]:
    """Build a foxglove_msgs/PointsAnnotation from (N, 2) pixels and a colour in BGR."""
    blue, green, red = (level / 255 for level in colour)
    return {
        "timestamp": stamp,
        "type": kind,
        "points": np.asarray(points, np.float64) + 0.5,
        "outline_color": {"r": red, "g": green, "b": blue, "a": 1.0},
        "outline_colors": [],
        "fill_color": _TRANSPARENT,
        "thickness": float(thickness),
        "metadata": [],
    }
