"""Complete training runs from a recipe: stages, sizes, steps, data and seeds in one YAML file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

from superpoint_ros.extraction import weights
from superpoint_ros.training import config, frames, loop, networks, stages
from superpoint_ros.training.best import Measure
from superpoint_ros.training.config import DetectorConfig, JointConfig, ShapesConfig
from superpoint_ros.training.data import held_out_of
from superpoint_ros.training.labels import LabelConfig
from superpoint_ros.training.steering import SteerConfig

MeasureOn = Callable[[list[Path]], Measure]

_FOLDER = Path(__file__).with_name("recipes")
_KINDS: dict[str, type[Any]] = {
    "shapes": ShapesConfig,
    "label": LabelConfig,
    "detector": DetectorConfig,
    "joint": JointConfig,
    "steer": SteerConfig,
}

_COMMON = tuple(entry.name for entry in fields(loop.Execution))


@dataclass(frozen=True)
class _Contents:
    """The keys of a recipe, besides those of `loop.Execution`.

    Attributes:
            images: folder of images, video or ROS bag, or several folders of images.
            out: folder of the run; every stage has a subfolder of its name.
        stages: by name, in order: `kind` (shapes, label, detector, joint or steer), for all but shapes `start_from` (an
            earlier stage, weights or a checkpoint; default: the last network) or, for steer, `mean_of` (earlier
            stages), for detector and joint `labels` (an earlier stage; default: the last labels), and the settings of
            that kind.
        mean_of: stages whose networks are averaged; default: the last network alone.
        license: recorded in the weights file.
        topic: image topic of a bag.
        every: seconds between two frames of a video or bag.
    """

    images: str | tuple[str, ...]
    out: str
    stages: dict[str, dict[str, Any]]
    mean_of: tuple[str, ...] = ()
    license: str = ""
    topic: str = ""
    every: float = 0.2


@dataclass(frozen=True)
class Recipe(loop.Execution, _Contents):
    """A recipe; its execution settings are the defaults of every training stage."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}


@dataclass(frozen=True)
class Stage:
    """One stage of a recipe, with all defaults resolved."""

    name: str
    kind: Literal["shapes", "label", "detector", "joint", "steer"]
    settings: Any
    start_from: str = ""
    labels: str = ""
    mean_of: tuple[str, ...] = ()


def read(name_or_path: str | Path, changes: Mapping[str, Any]) -> Recipe:
    """Read a recipe, by its name in this package or from a YAML file, and apply changes from the command line.

    Raises:
        ValueError: in one sentence, if a key is unknown or missing, or a value has the wrong type.
    """
    built_in = _FOLDER / f"{name_or_path}.yaml"
    path = built_in if built_in.is_file() else Path(name_or_path)
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in _FOLDER.glob("*.yaml")))
        raise ValueError(f"recipe '{name_or_path}' does not exist, allowed is a YAML file or one of {names}")
    recipe = config.build(Recipe, config.merge(config.read_yaml(path), changes), f"recipe '{path.name}': key")
    plan(recipe)
    return recipe


def plan(recipe: Recipe) -> list[Stage]:
    """Resolve and validate the settings of all stages before the first one starts.

    Raises:
        ValueError: if a stage has an unknown key or refers to a stage that does not precede it.
    """
    result: list[Stage] = []
    network = labels = ""
    for name, values in recipe.stages.items():
        what = f"stage '{name}'"
        kind = values.get("kind")
        if kind not in _KINDS:
            raise ValueError(f"{what} has kind {kind!r}, allowed is one of {', '.join(_KINDS)}")
        own = ("kind", "start_from", "labels") + (("mean_of",) if kind == "steer" else ())
        given = {key: value for key, value in values.items() if key not in own}
        common = {"label": ("seed",), "steer": ()}.get(kind, _COMMON)
        given = {**{key: getattr(recipe, key) for key in common}, **given}
        settings: Any = config.build(_KINDS[kind], given, f"{what}: key")
        start, labelled = values.get("start_from", network), values.get("labels", labels)
        if kind != "shapes" and not start:
            raise ValueError(f"{what} has no network to start from: put a stage before it or give start_from")
        if kind in ("detector", "joint") and labelled not in [s.name for s in result if s.kind == "label"]:
            raise ValueError(f"{what} needs the labels of an earlier stage, '{labelled}' is not one")
        mean_of = tuple(values.get("mean_of", ()))
        _check_networks(mean_of, result, f"{what}: mean_of")
        result.append(Stage(name, kind, settings, start, labelled, mean_of))
        if kind == "label":
            labels = name
        else:
            network = name
    if not network:
        raise ValueError("the recipe trains no network: a stage of kind shapes, detector or joint is missing")
    _check_networks(recipe.mean_of, result, "mean_of")
    return result


def _check_networks(names: Iterable[str], stages: Iterable[Stage], what: str) -> None:
    networks = [stage.name for stage in stages if stage.kind != "label"]
    for name in names:
        if name not in networks:
            raise ValueError(f"{what} names the stage '{name}', allowed is one of {', '.join(networks)}")


def _images(recipe: Recipe, out: Path) -> Path | list[Path]:
    if isinstance(recipe.images, str):
        return frames.image_folder(Path(recipe.images), out / "frames", recipe.topic, recipe.every)
    for folder in recipe.images:
        if not Path(folder).is_dir():
            raise ValueError(f"images '{folder}' is no folder, allowed among several is that only")
    return [Path(folder) for folder in recipe.images]


def run(recipe: Recipe, measure: MeasureOn | None = None) -> Path:
    """Carry out a recipe, going on where it was interrupted. Returns the weights file written at its end.

    Args:
        measure: from held-out images to a function that evaluates weights on them, for stages with `measure_every`.
    """
    for key in ("images", "out"):
        if not getattr(recipe, key):
            raise ValueError(f"recipe: {key} is not given, as in {key}=FOLDER")
    out = Path(recipe.out)
    processes = loop.launch(recipe)
    with processes.rank_zero_first():
        images = _images(recipe, out)
    todo = plan(recipe)
    trained = {stage.name for stage in todo if stage.kind != "label"}
    last = ""
    for stage in todo:
        folder = out / stage.name
        start: str | Path = out / stage.start_from if stage.start_from in trained else stage.start_from
        if stage.kind == "shapes":
            stages.train_shapes(folder, stage.settings)
        elif stage.kind == "label":
            stages.label(start, images, folder, stage.settings, processes)
        elif stage.kind == "steer":
            with processes.rank_zero_first():
                stages.steer(folder, [out / name for name in stage.mean_of] or [start], images, stage.settings)
        elif stage.kind == "detector":
            stages.train_detector(folder, start, images, out / stage.labels, stage.settings)
        else:
            measured = measure(held_out_of(images)) if measure and stage.settings.measure_every else None
            stages.train_joint(folder, start, images, out / stage.labels, stage.settings, measure=measured)
        last = stage.name if stage.kind != "label" else last
    target = out / "weights.safetensors"
    if processes.is_global_zero:
        result = networks.average([out / name for name in recipe.mean_of or (last,)])
        weights.save(result, target, {"license": recipe.license})
    processes.barrier()
    return target
