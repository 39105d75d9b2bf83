"""Photographs turned and shrunk by known amounts: how matching bears each angle and each scale."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from superpoint_ros.evaluation import methods
from superpoint_ros.evaluation.engine import Engine
from superpoint_ros.evaluation.methods import Detection, Image
from superpoint_ros.evaluation.metrics import descriptor_distances, mutual_matches
from superpoint_ros.evaluation.pairs import LeftOut, Matrix
from superpoint_ros.features import Features
from superpoint_ros.io.images import list_images, read_grey, resize_image
from superpoint_ros.two_view.geometry import project
from superpoint_ros.two_view.matching import ROTATIONS, match

ANGLES = (0.0, 15.0, 30.0, 45.0, 60.0, 75.0, 90.0, 120.0, 135.0, 150.0, 180.0)
FACTORS = (1.0, 1.5, 2.0, 3.0, 4.0)
BOTH = ((30.0, 1.5), (45.0, 2.0), (90.0, 2.0), (135.0, 3.0), (180.0, 3.0))


@dataclass(frozen=True)
class Change:
    """What makes the second picture of the first.

    Attributes:
        angle: turn in degrees, clockwise on the screen.
        factor: how many times smaller it is.
    """

    angle: float = 0.0
    factor: float = 1.0

    def __str__(self) -> str:
        return f"{self.angle:g} deg, 1/{self.factor:g}"


CHANGES = tuple(dict.fromkeys(
    [*(Change(angle=a) for a in ANGLES), *(Change(factor=f) for f in FACTORS), *(Change(a, f) for a, f in BOTH)]
))  # fmt: skip
"""Turned, shrunk, and both."""


@dataclass(frozen=True)
class Protocol:
    """How changes are measured.

    Attributes:
        size: side of the square in the middle of a photograph that is the first picture, in pixels; smaller photographs
            are magnified.
        max_keypoints, nms_radius: of both pictures.
        epsilon: most pixels by which a right match is off, in the second picture.
        rotation: of methods with float descriptors, see `two_view.matching.match`.
    """

    size: int = 480
    max_keypoints: int = 1000
    nms_radius: int = 4
    epsilon: float = 3.0
    rotation: str = "upright"

    def __post_init__(self) -> None:
        if self.rotation not in ROTATIONS:
            raise ValueError(f"rotation '{self.rotation}' is unknown, allowed is one of {', '.join(ROTATIONS)}")


@dataclass(frozen=True)
class Row:
    """One method on one photograph with one change: matches in the common view, and those of them that are right."""

    method: str
    picture: str
    change: Change
    matches: int
    right: int

    @property
    def accuracy(self) -> float:
        """Share of the matches that are right; 0 without matches."""
        return self.right / self.matches if self.matches else 0.0


@dataclass(frozen=True)
class Summary:
    """Means over photographs: share of matches that are right, and their number."""

    method: str
    change: Change
    pictures: int
    accuracy: float
    right: float


def changed(photograph: Image, change: Change, size: int) -> tuple[Image, Image, Matrix]:
    """The middle of a (H, W) photograph as it is and changed: two square pictures, and the map from the first's pixels
    to the second's.

    Within the circle around the middle both show the same, whatever the angle; in the corners the second one shows what
    the photograph has there, or its mirror image.
    """
    shorter = min(photograph.shape)
    if shorter < size:
        scale = size / shorter
        photograph = resize_image(photograph, (round(photograph.shape[0] * scale), round(photograph.shape[1] * scale)))
    height, width = photograph.shape
    top, left = (height - size) // 2, (width - size) // 2
    first = np.ascontiguousarray(photograph[top : top + size, left : left + size])
    middle, angle = (size - 1) / 2, math.radians(change.angle)
    cosine, sine = math.cos(angle), math.sin(angle)
    turn = np.array(
        [[cosine, -sine, middle * (1 - cosine + sine)], [sine, cosine, middle * (1 - sine - cosine)], [0, 0, 1]]
    )
    to_first = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1]], float)
    second = cv2.warpPerspective(
        photograph, turn @ to_first, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    side = max(round(size / change.factor), 1)
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
    picture: Path
    name: str
    method: str
    changes: tuple[Change, ...]
    protocol: Protocol


def evaluate(
    photographs: Iterable[Path],
    names: Sequence[str],
    protocol: Protocol | None = None,
    changes: Sequence[Change] = CHANGES,
    engine: Engine | None = None,
) -> tuple[list[Row], list[LeftOut]]:
    """Every change of every photograph with every method (see `methods.create`), and what could not be used.

    Raises:
        ValueError: if a method cannot be made, or nothing at all could be evaluated.
    """
    names = list(dict.fromkeys(names))
    for name in names:
        methods.create(name)
    how, wanted = protocol or Protocol(), tuple(changes)
    tasks = [
        _Task(path, f"{path.parent.name}/{path.name}", name, wanted, how) for path in photographs for name in names
    ]
    results = list((engine or Engine()).run(_run, tasks, "evaluating"))
    left_out = sorted({item for item in results if isinstance(item, LeftOut)}, key=lambda item: item.name)
    rows = [row for item in results if not isinstance(item, LeftOut) for row in item]
    if not rows:
        why = f": {left_out[0].name}: {left_out[0].reason}" if left_out else ""
        raise ValueError(f"no photograph could be evaluated{why}")
    return rows, left_out


def _run(task: _Task) -> list[Row] | LeftOut:
    try:
        photograph, method = read_grey(task.picture), methods.create(task.method)
        return measure(photograph, task.name, task.method, method, task.changes, task.protocol)
    except ValueError as error:
        return LeftOut(f"{task.name}, {task.method}", str(error))


def measure(
    photograph: Image,
    name: str,
    label: str,
    method: methods.Method,
    changes: Sequence[Change],
    protocol: Protocol,
) -> list[Row]:
    """One method, called `label`, on one photograph; the first picture is looked at once."""
    rows, before = [], None
    for change in changes:
        first, second, homography = changed(photograph, change, protocol.size)
        if before is None:
            before = method.detect(first, protocol.max_keypoints, protocol.nms_radius)
        after = method.detect(second, protocol.max_keypoints, protocol.nms_radius)
        sizes = first.shape[0], second.shape[0]
        rows.append(Row(label, name, change, *matched(before, after, homography, sizes, protocol)))
    return rows


def summaries(rows: Sequence[Row]) -> list[Summary]:
    """Means by method and change, in the order in which they appear."""
    groups: dict[tuple[str, Change], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.method, row.change), []).append(row)
    return [
        Summary(
            method,
            change,
            len(own),
            float(np.mean([row.accuracy for row in own])),
            float(np.mean([row.right for row in own])),
        )
        for (method, change), own in groups.items()
    ]


def chosen(folder: Path, limit: int) -> list[Path]:
    """At most `limit` pictures below a folder, spread evenly over their names; 0 for all."""
    found = list_images(folder)
    if not limit or len(found) <= limit:
        return found
    return [found[index] for index in np.linspace(0, len(found) - 1, limit).round().astype(int)]


def as_dict(rows: Sequence[Row], left_out: Sequence[LeftOut], protocol: Protocol, began: float) -> dict[str, Any]:
    """Everything, as JSON can hold it; `began` is that of `time.monotonic`."""

    def said(change: Change) -> dict[str, float]:
        return {"angle": change.angle, "factor": change.factor}

    return {
        "protocol": dict(vars(protocol)),
        "seconds": round(time.monotonic() - began, 1),
        "summaries": [
            {"method": s.method, **said(s.change), "pictures": s.pictures, "accuracy": s.accuracy, "right": s.right}
            for s in summaries(rows)
        ],
        "rows": [
            {"method": r.method, "picture": r.picture, **said(r.change), "matches": r.matches, "right": r.right}
            for r in rows
        ],
        "left_out": [{"name": item.name, "reason": item.reason} for item in left_out],
    }
