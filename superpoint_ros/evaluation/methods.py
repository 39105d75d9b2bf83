"""Feature methods by name: what is compared with what. A method is a small class, and anybody can add one."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Detection:
    """What a method finds in one image, best keypoint first.

    Attributes:
        keypoints: (N, 2) float32, x right, y down, in pixels; the centre of the top-left pixel is (0, 0).
        scores: (N,) float32, descending.
        descriptors: (N, D) float32 of unit length, or (N, D) uint8 bit strings; None for a mere detector.
    """

    keypoints: NDArray[np.float32]
    scores: NDArray[np.float32]
    descriptors: NDArray[np.float32] | NDArray[np.uint8] | None

    def __len__(self) -> int:
        return len(self.keypoints)

    def select(self, chosen: NDArray[np.generic] | slice) -> Detection:
        """The keypoints that an index, a mask or a slice chooses."""
        descriptors = None if self.descriptors is None else self.descriptors[chosen]
        return Detection(self.keypoints[chosen], self.scores[chosen], descriptors)


class Method(Protocol):
    """Finds keypoints, and describes them unless it is a mere detector.

    Attributes:
        name: what it is called in tables.
    """

    name: str

    def settings(self) -> dict[str, Any]:
        """All that decides the output beside the image and `detect`'s numbers, as JSON can hold it.

        Two methods with equal settings find the same in the same image: predictions are kept by them.
        """

    def detect(self, image: Image, max_keypoints: int, nms_radius: int) -> Detection:
        """The best keypoints of a (H, W) uint8 image.

        Args:
            max_keypoints: most keypoints, at least 1.
            nms_radius: no two keypoints lie within this Chebyshev distance in whole pixels; 0 turns this off.
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
"""Known methods: name and `package.module:Class`. A class is imported only when it is asked for."""


def create(spec: str) -> Method:
    """The method that a text names.

    The text is a known name or the dotted path `package.module:Class` of any class that is a `Method`, and may go on
    with `:` and options, separated by commas: `KEY=VALUE` goes to the class by keyword, a bare value is its `weights`.
    Examples: `sift`, `superpoint:weights.safetensors`, `superpoint:subpixel=false`, `my_package.features:Mine`.

    Raises:
        ValueError: in one sentence, if there is no such method or it does not take these options.
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
    made = _load(path)
    options = _options(text, spec)
    try:
        inspect.signature(made).bind(**options)
    except TypeError as error:
        raise ValueError(f"method '{spec}' cannot be made: {error}") from error
    method: Method = made(**options)
    return method


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    try:
        made = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        # A package that the module itself lacks is another matter than a wrong name.
        if error.name and not module.startswith(error.name):
            raise
        raise ValueError(f"method '{path}' is unknown: there is no Python module '{module}'") from error
    if not callable(made):
        raise ValueError(f"method '{path}' is unknown: module '{module}' has no class '{name}'")
    return made


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
