"""Settings of the training stages, read strictly: an unknown key or a value of the wrong kind is an error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml

from superpoint_ros.training.homographies import Curriculum, HomographyRange
from superpoint_ros.training.loop import LoopConfig
from superpoint_ros.training.objectives import JointLoss
from superpoint_ros.training.photometric import Photometric

T = TypeVar("T")


@dataclass(frozen=True)
class NetworkSizes:
    """Sizes of a new network; the defaults are the paper's (see `superpoint_ros.extraction.network.Architecture`)."""

    encoder: tuple[int, int, int, int, int, int, int, int] = (64, 64, 64, 64, 128, 128, 128, 128)
    detector: int = 256
    descriptor: int = 256
    descriptor_size: int = 256

    __pydantic_config__: ClassVar = {"extra": "forbid"}


@dataclass(frozen=True)
class ShapesConfig(LoopConfig):
    """MagicPoint on Synthetic Shapes.

    Attributes:
        size: (height, width) of the images, multiples of 8.
        ranges: homographies that the shapes are seen through.
        network: sizes of the new network.
    """

    batch: int = 32
    size: tuple[int, int] = (120, 160)
    ranges: HomographyRange = HomographyRange(rotation=180, scale_min=0.6, scale_max=1.4, perspective=0.2, outside=0.3)
    photometric: Photometric = field(default_factory=Photometric)
    network: NetworkSizes = NetworkSizes()


@dataclass(frozen=True)
class DetectorConfig(LoopConfig):
    """MagicPoint on labelled images.

    Attributes:
        size: (height, width) of a view, multiples of 8.
            longer_side: size that images are kept in memory at, in pixels.
        max_points: most labels of an image.
        crop_min: least share of an image's sides that its views are taken from; below 1 some views magnify.
        ranges: homographies from views to images.
        curriculum: how these ranges, and those of close views, grow in the course of the run.
    """

    size: tuple[int, int] = (160, 160)
    longer_side: int = 480
    max_points: int = 300
    crop_min: float = 1.0
    ranges: HomographyRange = HomographyRange(rotation=25, scale_min=0.35)
    curriculum: Curriculum = field(default_factory=Curriculum)
    photometric: Photometric = field(default_factory=Photometric)


@dataclass(frozen=True)
class JointConfig(DetectorConfig):
    """Detector and descriptor on warped pairs of labelled images.

    Attributes:
        loss: which losses, and their weights.
        close: share of the pairs whose second view lies within the first, as the next image of a video would: it is
            they that teach where exactly a keypoint is.
        close_ranges: homographies from those second views to the first ones.
    """

    close: float = 0.0
    close_ranges: HomographyRange = HomographyRange(rotation=5, scale_min=0.8, perspective=0.05, shear=0.02)
    loss: JointLoss = field(default_factory=JointLoss)


def build(kind: type[T], values: Mapping[str, Any], what: str = "setting") -> T:
    """A settings object from nested mappings.

    Raises:
        ValueError: one sentence that names the key, its value and what is allowed.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            names = ", ".join(_keys_beside(kind, first["loc"]))
            raise ValueError(f"{what} '{key}' is unknown, allowed is one of {names}") from error
        if first["type"] == "missing":
            raise ValueError(f"{what} '{key}' is missing") from error
        message = first["msg"][:1].lower() + first["msg"][1:]
        raise ValueError(f"{what} '{key}' is {first['input']!r}: {message}") from error


def _keys_beside(kind: Any, location: tuple[Any, ...]) -> list[str]:
    """The keys allowed where an unknown one stands."""
    from typing import get_type_hints

    for part in location[:-1]:
        kind = get_type_hints(kind).get(part, kind)
    return [one.name for one in fields(kind)]


def overrides(words: Iterable[str]) -> dict[str, Any]:
    """KEY=VALUE words of a command line -> nested mapping; a dot goes down a level, values are YAML.

    Raises:
        ValueError: if a word is no KEY=VALUE.
    """
    result: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise ValueError(f"override '{word}' is not of the form KEY=VALUE")
        *parents, last = key.split(".")
        level = result
        for parent in parents:
            level = level.setdefault(parent, {})
            if not isinstance(level, dict):
                raise ValueError(f"override '{word}' goes below '{parent}', which has a value of its own")
        level[last] = parse_yaml(text, f"override '{word}'")
    return result


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings put together; where both have a value, the second one's counts."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping.

    Raises:
        ValueError: if it is missing, no YAML, or something else.
    """
    if not path.is_file():
        raise ValueError(f"configuration '{path}' does not exist")
    values = parse_yaml(path.read_text(encoding="utf-8"), f"configuration '{path}'")
    if not isinstance(values, dict):
        raise ValueError(f"configuration '{path}' holds no mapping of keys to values")
    return values


def parse_yaml(text: str, what: str) -> Any:
    """YAML, with the trouble named in one sentence."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{what} is no valid YAML: {' '.join(str(error).split())}") from error


def plain(settings: Any) -> Any:
    """Settings as YAML can say them: mappings, lists and scalars."""
    if is_dataclass(settings) and not isinstance(settings, type):
        return {one.name: plain(getattr(settings, one.name)) for one in fields(settings)}
    return [plain(value) for value in settings] if isinstance(settings, (list, tuple)) else settings


def as_yaml(settings: Any) -> str:
    """Settings as YAML text."""
    return yaml.safe_dump(plain(settings), sort_keys=False)
