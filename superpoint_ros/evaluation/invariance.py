"""Matching accuracy by angle and by scale, on images that are turned and shrunk by known amounts."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from superpoint_ros.evaluation import methods
from superpoint_ros.evaluation.engine import Engine
from superpoint_ros.evaluation.methods import Detection, Image
from superpoint_ros.evaluation.metrics import descriptor_distances, mutual_matches
from superpoint_ros.evaluation.pairs import Matrix, Skipped
from superpoint_ros.features import Features
from superpoint_ros.io.images import evenly_spaced, list_images, read_grey, resize_image
from superpoint_ros.training.data import held_out_of
from superpoint_ros.two_view.geometry import project
from superpoint_ros.two_view.matching import match
from superpoint_ros.two_view.rotation import check_rotation

ANGLES = (0.0, 15.0, 30.0, 45.0, 60.0, 75.0, 90.0, 120.0, 135.0, 150.0, 180.0)
FACTORS = (1.0, 1.5, 2.0, 3.0, 4.0)
BOTH = ((30.0, 1.5), (45.0, 2.0), (90.0, 2.0), (135.0, 3.0), (180.0, 3.0))


@dataclass(frozen=True)
class Transform:
    """What the second image of a pair has undergone.

    Attributes:
        angle: rotation in degrees, clockwise on the screen.
        factor: how many times smaller the image is.
    """

    angle: float = 0.0
    factor: float = 1.0

    def __str__(self) -> str:
        return f"{self.angle:g} deg, 1/{self.factor:g}"


_ALONE = [*(Transform(angle=angle) for angle in ANGLES), *(Transform(factor=factor) for factor in FACTORS)]
TRANSFORMS = tuple(dict.fromkeys([*_ALONE, *(Transform(angle, factor) for angle, factor in BOTH)]))
"""Rotated, scaled, and both."""


@dataclass(frozen=True)
class Protocol:
    """How pairs are made and matched.

    Attributes:
        size: side in pixels of the first image of a pair, a square from the middle of the original; smaller originals
            are magnified.
        max_keypoints, nms_radius: of both images.
        epsilon: maximum error of a correct match, in pixels of the second image.
        rotation: of methods with float descriptors, see `two_view.matching.match`.
    """

    size: int = 480
    max_keypoints: int = 1000
    nms_radius: int = 4
    epsilon: float = 3.0
    rotation: str = "upright"

    def __post_init__(self) -> None:
        check_rotation(self.rotation)


@dataclass(frozen=True)
class Row:
    """One method on one image with one transform: matches in the common view, and those of them that are right."""

    method: str
    image: str
    transform: Transform
    matches: int
    right: int

    @property
    def accuracy(self) -> float:
        """Share of the matches that are right; 0 without matches."""
        return self.right / self.matches if self.matches else 0.0


@dataclass(frozen=True)
class Summary:
    """Means over images: share of matches that are right, and their number."""

    method: str
    transform: Transform
    images: int
    accuracy: float
    right: float


def transformed(image: Image, transform: Transform, size: int) -> tuple[Image, Image, Matrix]:
    """Cut the middle out of an (H, W) image, as it is and transformed: two square images, and the homography between
    them.

    Both show the same within the inscribed circle, whatever the angle; in its corners the second one shows what the
    original has there, or the original mirrored.
    """
    shorter = min(image.shape)
    if shorter < size:
        scale = size / shorter
        image = resize_image(image, (round(image.shape[0] * scale), round(image.shape[1] * scale)))
    height, width = image.shape
    top, left = (height - size) // 2, (width - size) // 2
    first = np.ascontiguousarray(image[top : top + size, left : left + size])
    middle, angle = (size - 1) / 2, math.radians(transform.angle)
    cosine, sine = math.cos(angle), math.sin(angle)
    turn = np.array(
        [[cosine, -sine, middle * (1 - cosine + sine)], [sine, cosine, middle * (1 - sine - cosine)], [0, 0, 1]]
    )
    to_first = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1]], float)
    second = cv2.warpPerspective(
        image, turn @ to_first, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    side = max(round(size / transform.factor), 1)
    ratio = side / size
    shrink = np.array([[ratio, 0, (ratio - 1) / 2], [0, ratio, (ratio - 1) / 2], [0, 0, 1]])
    return first, resize_image(np.asarray(second, np.uint8), (side, side)), shrink @ turn


def matched(
    first: Detection, second: Detection, homography: Matrix, sizes: tuple[int, int], protocol: Protocol
) -> tuple[int, int]:
    """How many keypoints of the common circle match mutually, and how many of these matches are right."""
    inner = [found.select(_in_circle(found, size)) for found, size in zip((first, second), sizes, strict=True)]
    one, other = inner
    if one.descriptors is None or other.descriptors is None:
        raise ValueError("the method has no descriptors")
    if one.descriptors.dtype == np.uint8:
        pairs = mutual_matches(descriptor_distances(one.descriptors, other.descriptors))
    else:
        rows = [np.asarray(found.descriptors, np.float32) for found in inner]
        features = [
            Features(found.keypoints, found.scores, table, (size, size))
            for found, table, size in zip(inner, rows, sizes, strict=True)
        ]
        pairs = match(features[0], features[1], min_similarity=-1.0, rotation=protocol.rotation).indices
    if not len(pairs):
        return 0, 0
    error = np.linalg.norm(project(homography, one.keypoints[pairs[:, 0]]) - other.keypoints[pairs[:, 1]], axis=1)
    return len(pairs), int((error <= protocol.epsilon).sum())


def _in_circle(found: Detection, size: int) -> np.ndarray:
    middle = (size - 1) / 2
    return np.asarray(np.hypot(*(found.keypoints - middle).T) <= middle)


@dataclass(frozen=True)
class _Task:
    path: Path
    name: str
    method: str
    transforms: tuple[Transform, ...]
    protocol: Protocol


def evaluate(
    images: Iterable[Path],
    names: Sequence[str],
    protocol: Protocol | None = None,
    transforms: Sequence[Transform] = TRANSFORMS,
    engine: Engine | None = None,
) -> tuple[list[Row], list[Skipped]]:
    """Every transform of every image with every method (see `methods.create`), and what could not be used.

    Raises:
        ValueError: if a method cannot be made, or nothing at all could be evaluated.
    """
    names = list(dict.fromkeys(names))
    for name in names:
        methods.create(name)
    how, wanted = protocol or Protocol(), tuple(transforms)
    tasks = [_Task(path, f"{path.parent.name}/{path.name}", name, wanted, how) for path in images for name in names]
    results = list((engine or Engine()).run(_run, tasks, "evaluating"))
    skipped = sorted({item for item in results if isinstance(item, Skipped)}, key=lambda item: item.name)
    rows = [row for item in results if not isinstance(item, Skipped) for row in item]
    if not rows:
        why = f": {skipped[0]}" if skipped else ""
        raise ValueError(f"no image could be evaluated{why}")
    return rows, skipped


def _run(task: _Task) -> list[Row] | Skipped:
    try:
        image, method = read_grey(task.path), methods.create(task.method)
        return measure(image, task.name, task.method, method, task.transforms, task.protocol)
    except ValueError as error:
        return Skipped(f"{task.name}, {task.method}", str(error))


def measure(
    image: Image,
    name: str,
    label: str,
    method: methods.Method,
    transforms: Sequence[Transform],
    protocol: Protocol,
) -> list[Row]:
    """One method, called `label`, on one image; features of the first image are computed once."""
    rows, before = [], None
    for transform in transforms:
        first, second, homography = transformed(image, transform, protocol.size)
        if before is None:
            before = method.detect(first, protocol.max_keypoints, protocol.nms_radius)
        after = method.detect(second, protocol.max_keypoints, protocol.nms_radius)
        sizes = first.shape[0], second.shape[0]
        rows.append(Row(label, name, transform, *matched(before, after, homography, sizes, protocol)))
    return rows


def summaries(rows: Sequence[Row]) -> list[Summary]:
    """Means by method and transform, in the order in which they appear."""
    groups: dict[tuple[str, Transform], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.method, row.transform), []).append(row)
    return [
        Summary(
            method,
            transform,
            len(own),
            float(np.mean([row.accuracy for row in own])),
            float(np.mean([row.right for row in own])),
        )
        for (method, transform), own in groups.items()
    ]


def choose(folder: Path, limit: int, only_held_out: bool = False) -> list[Path]:
    """At most `limit` images below a folder, spread evenly over their names; 0 for all.

    Raises:
        ValueError: if there is none.
    """
    found = held_out_of(folder) if only_held_out else list_images(folder)
    if not found:
        raise ValueError(f"folder '{folder}' has no image that training keeps out")
    return evenly_spaced(found, limit or len(found))


def as_dict(rows: Sequence[Row], skipped: Sequence[Skipped], protocol: Protocol, began: float) -> dict[str, Any]:
    """Everything, as JSON can hold it; `began` is that of `time.monotonic`."""

    def said(transform: Transform) -> dict[str, float]:
        return {"angle": transform.angle, "factor": transform.factor}

    return {
        "protocol": dict(vars(protocol)),
        "seconds": round(time.monotonic() - began, 1),
        "summaries": [
            {"method": s.method, **said(s.transform), "images": s.images, "accuracy": s.accuracy, "right": s.right}
            for s in summaries(rows)
        ],
        "rows": [
            {"method": r.method, "image": r.image, **said(r.transform), "matches": r.matches, "right": r.right}
            for r in rows
        ],
        "left_out": [asdict(item) for item in skipped],
    }
