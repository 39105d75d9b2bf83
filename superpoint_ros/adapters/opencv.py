"""Convert features and matches to and from OpenCV's cv2.KeyPoint, descriptor matrix and cv2.DMatch.

OpenCV puts the origin at the centre of the top-left pixel, as this package does, so coordinates are unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from superpoint_ros.features import Features, Matches

_SIZE = 8.0
"""Side in pixels of the network's cell, the size of keypoints whose own is unknown."""
_LEVELS = 8
"""Number of pyramid levels that the detector may have."""


def to_opencv(
    features: Features, track_ids: NDArray[np.integer[Any]] | None = None
) -> tuple[list[cv2.KeyPoint], NDArray[np.float32]]:
    """Convert features to a list of cv2.KeyPoint and an (N, D) float32 array of descriptors.

    `response` is the score, `size` the side of the network's cell, `octave` the pyramid level, `angle` -1 (none).

    Args:
        track_ids: (N,) ids that become `class_id`; without them, and where one does not fit into 32 bits, it is -1.

    Raises:
        ValueError: if there is not one id per keypoint.
    """
    count = len(features)
    if track_ids is not None and len(track_ids) != count:
        raise ValueError(f"there are {len(track_ids)} track ids, allowed is one for each of {count} keypoints")
    ids = np.full(count, -1) if track_ids is None else np.asarray(track_ids)
    ids = np.where(np.abs(ids) < 2**31, ids, -1)
    sizes = np.full(count, _SIZE, np.float32) if features.sizes is None else features.sizes
    octaves = np.zeros(count, int) if features.levels is None else features.levels
    columns = (features.keypoints[:, 0], features.keypoints[:, 1], sizes, features.scores, octaves, ids)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    keypoints = [cv2.KeyPoint(x, y, size, -1.0, score, octave, id_) for x, y, size, score, octave, id_ in rows]
    return keypoints, np.ascontiguousarray(features.descriptors, np.float32)


def matches_to_opencv(matches: Matches) -> list[cv2.DMatch]:
    """Convert matches to a list of cv2.DMatch: the first image is the query, the second the train image.

    `distance` is the L2 distance of the unit descriptors, as cv2.BFMatcher would compute it.
    """
    distance = np.sqrt(np.maximum(2 - 2 * matches.similarity.astype(np.float64), 0))
    rows = zip(*matches.indices.T.tolist(), distance.tolist(), strict=True)
    return [cv2.DMatch(query, train, length) for query, train, length in rows]


def from_opencv(
    keypoints: Sequence[cv2.KeyPoint], descriptors: NDArray[Any] | None, image_size: tuple[int, int]
) -> Features:
    """Convert OpenCV's keypoints and descriptors, of this package or of SIFT, say, to features.

    They are sorted by descending response, and descriptors are scaled to unit length. Octaves become levels if all are
    numbers of levels; SIFT's, which are packed, do not.

    Args:
        descriptors: (N, D) float; None, which OpenCV returns without keypoints, for none.
        image_size: (height, width) in pixels.

    Raises:
        ValueError: if the descriptors are binary, or there is not one per keypoint.
    """
    rows = np.zeros((0, 0), np.float32) if descriptors is None else np.asarray(descriptors)
    if rows.dtype.kind != "f":
        raise ValueError(f"the descriptors are {rows.dtype}, allowed are float32 or float64, compared by L2 distance")
    if rows.ndim != 2 or len(rows) != len(keypoints):
        raise ValueError(
            f"the descriptors have shape {rows.shape}, allowed is one row for each of {len(keypoints)} keypoints"
        )
    scores = np.array([keypoint.response for keypoint in keypoints], np.float32)
    octaves = np.array([keypoint.octave for keypoint in keypoints], np.int64)
    known = bool(np.all((octaves >= 0) & (octaves < _LEVELS)))
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return Features(
        np.array([keypoint.pt for keypoint in keypoints], np.float32).reshape(-1, 2),
        scores,
        (rows / np.where(lengths > 0, lengths, 1)).astype(np.float32),
        image_size,
        levels=octaves.astype(np.uint8) if known else None,
        sizes=np.array([keypoint.size for keypoint in keypoints], np.float32),
    ).select(np.argsort(-scores, kind="stable"))
