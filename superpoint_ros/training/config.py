"""Settings of the training stages, validated strictly: unknown keys and values of the wrong type are errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

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
        ranges: random homographies applied to the shapes.
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
            longer_side: longer side of the images kept in memory, in pixels.
        max_points: maximum number of labels per image.
        crop_min: minimum size of the crops that views are taken from, relative to the image; below 1 some magnify.
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
        heads: what is trained: both; detector, the encoder included, which keeps the descriptor head as it is; or
            descriptor, that head alone, which takes half the time and leaves all detections as they are.
        frozen: number of encoder layers that stay as they are, from the first one, 0 to 8; with
            heads descriptor all do.
        replay: with frozen layers, number of earlier pairs that each step learns from beside its `batch` new ones.
            What the frozen layers make of them is kept, so that they take less time; each pair is used about
            1 + replay / batch times.
        replay_capacity: maximum number of pairs that are kept, each of which takes the memory of those outputs in
            float16: with the default network and size 0.2 MB if six layers or more are frozen.
        loss: choice and weights of the losses.
        close: fraction of the pairs whose second view lies within the first, like the next frame of a video; they teach
            precise localisation.
        close_ranges: homographies from these second views to the first ones.
        occlusion: fraction of the pairs in which a part of another image is in front and moves otherwise, so that
            there are parallax, motion edges and hidden points.
        occlusion_ranges: homographies of that part within the first view, or their inverses.
    """

    heads: Literal["both", "detector", "descriptor"] = "both"
    frozen: int = 0
    replay: int = 0
    replay_capacity: int = 10_000
    close: float = 0.0
    close_ranges: HomographyRange = HomographyRange(rotation=5, scale_min=0.8, perspective=0.05, shear=0.02)
    occlusion: float = 0.0
    occlusion_ranges: HomographyRange = HomographyRange(rotation=5, scale_min=0.75, perspective=0.05, shear=0.02)
    loss: JointLoss = field(default_factory=JointLoss)


def build(kind: type[T], values: Mapping[str, Any], what: str = "setting") -> T:
    """Build a settings object from nested mappings.

    Raises:
        ValueError: in one sentence that names the key, its value and what is allowed.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            names = ", ".join(_allowed_keys(kind, first["loc"]))
            raise ValueError(f"{what} '{key}' is unknown, allowed is one of {names}") from error
        if first["type"] == "missing":
            raise ValueError(f"{what} '{key}' is missing") from error
        message = first["msg"][:1].lower() + first["msg"][1:]
        raise ValueError(f"{what} '{key}' is {first['input']!r}: {message}") from error


def _allowed_keys(kind: Any, location: tuple[Any, ...]) -> list[str]:
    """List the keys that are allowed at the level of an unknown one."""
    from typing import get_type_hints

    for part in location[:-1]:
        kind = get_type_hints(kind).get(part, kind)
    return [entry.name for entry in fields(kind)]


def parse_overrides(arguments: Iterable[str]) -> dict[str, Any]:
    """Parse KEY=VALUE arguments into a nested mapping; a dot in a key descends one level, values are YAML.

    Raises:
        ValueError: if an argument is not of the form KEY=VALUE.
    """
    result: dict[str, Any] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals or not key:
            raise ValueError(f"override '{argument}' is not of the form KEY=VALUE")
        *parents, last = key.split(".")
        level = result
        for parent in parents:
            level = level.setdefault(parent, {})
            if not isinstance(level, dict):
                raise ValueError(f"override '{argument}' descends into '{parent}', which is a value, not a mapping")
        level[last] = parse_yaml(text, f"override '{argument}'")
    return result


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested mappings; values of `changes` take precedence."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        result[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        ValueError: if the file is missing, is not valid YAML or does not hold a mapping.
    """
    if not path.is_file():
        raise ValueError(f"configuration '{path}' does not exist")
    values = parse_yaml(path.read_text(encoding="utf-8"), f"configuration '{path}'")
    if not isinstance(values, dict):
        raise ValueError(f"configuration '{path}' is not a mapping of keys to values")
    return values


def parse_yaml(text: str, what: str) -> Any:
    """Parse YAML; raise ValueError with a one-sentence message if it is invalid."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{what} is not valid YAML: {' '.join(str(error).split())}") from error


def to_plain(settings: Any) -> Any:
    """Convert settings to what YAML can represent: mappings, lists and scalars."""
    if is_dataclass(settings) and not isinstance(settings, type):
        return {entry.name: to_plain(getattr(settings, entry.name)) for entry in fields(settings)}
    return [to_plain(value) for value in settings] if isinstance(settings, (list, tuple)) else settings


def to_yaml(settings: Any) -> str:
    """Format settings as YAML."""
    return yaml.safe_dump(to_plain(settings), sort_keys=False)
