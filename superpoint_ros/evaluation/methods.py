"""Feature extraction methods by name; users add their own as small classes."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Detection:
    """The detections of a method in one image, best keypoint first.

    Attributes:
        keypoints: (N, 2) float32, x right, y down, in pixels; the centre of the top-left pixel is (0, 0).
        scores: (N,) float32, descending.
        descriptors: (N, D) float32 of unit length, or (N, D) uint8 bit strings; None for a pure detector.
    """

    keypoints: NDArray[np.float32]
    scores: NDArray[np.float32]
    descriptors: NDArray[np.float32] | NDArray[np.uint8] | None

    def __len__(self) -> int:
        return len(self.keypoints)

    def select(self, chosen: NDArray[np.generic] | slice) -> Detection:
        """Select keypoints by indices, a mask or a slice."""
        descriptors = None if self.descriptors is None else self.descriptors[chosen]
        return Detection(self.keypoints[chosen], self.scores[chosen], descriptors)


class Method(Protocol):
    """Interface of a method: detects keypoints and, unless it is a pure detector, describes them.

    Attributes:
        name: name in tables.
    """

    name: str

    def settings(self) -> dict[str, Any]:
        """Return everything that determines the output besides the arguments of `detect`, as JSON values.

        Methods with equal settings must give equal detections: the settings are the key of cached predictions.
        """

    def detect(self, image: Image, max_keypoints: int, nms_radius: int) -> Detection:
        """Detect the best keypoints of an (H, W) uint8 image.

        Args:
            max_keypoints: maximum number of keypoints, at least 1.
            nms_radius: radius of non-maximum suppression (Chebyshev distance in whole pixels); 0 disables it.
        """


METHODS = {
    "superpoint": "superpoint_ros.evaluation.learned:SuperPointMethod",
    "magicpoint": "superpoint_ros.evaluation.learned:MagicPointMethod",
    "sift": "superpoint_ros.evaluation.classical:Sift",
    "orb": "superpoint_ros.evaluation.classical:Orb",
    "akaze": "superpoint_ros.evaluation.classical:Akaze",
    "fast": "superpoint_ros.evaluation.classical:Fast",
    "harris": "superpoint_ros.evaluation.classical:Harris",
    "shi": "superpoint_ros.evaluation.classical:ShiTomasi",
}
"""Known methods: name and `package.module:Class`. Classes are imported on demand."""


def create(spec: str) -> Method:
    """Create a method from its specification.

    The specification is a known name or the path `package.module:Class` of a class that implements `Method`, followed
    by optional `:` and comma-separated options: `KEY=VALUE` is a keyword argument, a bare value is `weights`.
    Examples: `sift`, `superpoint:weights.safetensors`, `superpoint:subpixel=false`, `my_package.features:Mine`.

    Raises:
        ValueError: in one sentence, if there is no such method or it does not accept these options.
    """
    name, _, rest = spec.partition(":")
    if name in METHODS:
        path, text = METHODS[name], rest
    else:
        class_name, _, text = rest.partition(":")
        path = f"{name}:{class_name}"
        if not class_name.isidentifier():
            known = ", ".join(METHODS)
            raise ValueError(f"method '{spec}' is unknown, allowed is one of {known}, or package.module:Class")
    factory = _load(path)
    options = _options(text, spec)
    try:
        inspect.signature(factory).bind(**options)
    except TypeError as error:
        raise ValueError(f"method '{spec}' cannot be created: {error}") from error
    method: Method = factory(**options)
    return method


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    try:
        factory = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        # A missing dependency of the module is not a wrong name.
        if error.name and not module.startswith(error.name):
            raise
        raise ValueError(f"method '{path}' is unknown: there is no Python module '{module}'") from error
    if not callable(factory):
        raise ValueError(f"method '{path}' is unknown: module '{module}' has no class '{name}'")
    return factory


def _options(text: str, spec: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for item in filter(None, text.split(",")):
        key, equals, value = item.partition("=")
        name, word = (key, value) if equals else ("weights", item)
        if name in options:
            raise ValueError(f"method '{spec}' gives '{name}' twice")
        options[name] = _value(word) if equals else word
    return options


def _value(word: str) -> Any:
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word
