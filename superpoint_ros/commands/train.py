"""superpoint-ros train"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

_SETTINGS = "settings of this stage; dots separate levels, as in ranges.rotation=30; --settings lists them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="stage", required=True, metavar="STAGE")

    shapes = verbs.add_parser("shapes", help="MagicPoint: the detector on Synthetic Shapes, rendered on the fly")
    shapes.add_argument(
        "folder", type=Path, metavar="RUN", nargs="?", help="folder of the run, which is resumed if it exists"
    )
    shapes.add_argument(
        "--preview", type=Path, metavar="PNG", help="only draw examples of every shape class to an image"
    )
    _add_settings(shapes)

    label = verbs.add_parser("label", help="label images by Homographic Adaptation")
    label.add_argument("images", type=Path, metavar="IMAGES", help="folder of images, video or ROS bag")
    label.add_argument("out", type=Path, metavar="OUT", help="output folder of the labels; labelled images are skipped")
    label.add_argument("--detector", default="default", help="run, checkpoint or weights (default: %(default)s)")
    label.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    label.add_argument("--topic", default="", help="image topic of a bag that has several")
    label.add_argument(
        "--every", type=float, default=0.2, help="minimum time between frames in seconds (default: %(default)s)"
    )
    _add_settings(label)

    for name, summary in (
        ("detector", "MagicPoint: the detector on labelled images"),
        ("joint", "detector and descriptor on warped pairs of labelled images"),
    ):
        stage = verbs.add_parser(name, help=summary)
        stage.add_argument("folder", type=Path, metavar="RUN", help="folder of the run, which is resumed if it exists")
        stage.add_argument("images", type=Path, metavar="IMAGES", help="folder of images")
        stage.add_argument("labels", type=Path, metavar="LABELS", help="folder that `train label` wrote")
        stage.add_argument("--start-from", default="default", help="run, checkpoint or weights (default: %(default)s)")
        _add_settings(stage)

    steer = verbs.add_parser("steer", help="make descriptors steerable: a change of basis, without training")
    steer.add_argument("folder", type=Path, metavar="RUN", help="folder of the run")
    steer.add_argument("images", type=Path, metavar="IMAGES", help="folder of images")
    steer.add_argument("--start-from", default="default", help="run, checkpoint or weights (default: %(default)s)")
    _add_settings(steer)

    adapt = verbs.add_parser("adapt", help="fine-tune the default weights to your own camera")
    adapt.add_argument("images", type=Path, metavar="IMAGES|BAG", help="folder of images, video or ROS bag")
    adapt.add_argument("out", type=Path, metavar="OUT", help="folder of the run, which is resumed if it exists")
    _add_settings(adapt)

    recipe = verbs.add_parser("run", help="run a recipe: stages, sizes, steps, data and seeds in one file")
    recipe.add_argument(
        "recipe",
        metavar="RECIPE",
        help="YAML file, or one of default, light (the recipes of these weights) and miniature",
    )
    recipe.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as in images=FOLDER stages.joint.steps=9")

    export = verbs.add_parser("export", help="write the network of a run as weights")
    export.add_argument("folder", type=Path, metavar="RUN", help="folder or checkpoint of `train joint`")
    export.add_argument("weights", type=Path, metavar="WEIGHTS", help="safetensors file")
    export.add_argument("--license", default="", help="license to record in the file")


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=_SETTINGS)
    parser.add_argument("--config", type=Path, metavar="YAML", help="file with settings; KEY=VALUE takes precedence")
    parser.add_argument("--settings", action="store_true", help="print the settings as YAML and exit")


def run(options: argparse.Namespace) -> int:
    handlers: dict[str, Callable[[argparse.Namespace], dict[str, Any] | None]] = {
        "shapes": _shapes, "label": _label, "detector": _detector, "joint": _joint,
        "steer": _steer, "adapt": _adapt, "run": _recipe, "export": _export,
    }  # fmt: skip
    result = handlers[options.stage](options)
    if result is not None and _first_process():
        print(json.dumps(result))
    return 0


def _first_process() -> bool:
    """Tell whether this is the first process, by the environment variables of torchrun and Lightning."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK"))


def _settings(kind: type[Any], options: argparse.Namespace) -> Any:
    """Return the settings of a stage, or None if they were only to be printed."""
    from superpoint_ros.training import config

    values = config.read_yaml(options.config) if options.config else {}
    settings = config.build(kind, config.merge(values, config.parse_overrides(options.overrides)))
    if options.settings:
        print(config.to_yaml(settings), end="")
        return None
    return settings


def _shapes(options: argparse.Namespace) -> dict[str, Any] | None:
    from superpoint_ros.training.config import ShapesConfig

    # Without RUN, argparse takes the first KEY=VALUE for it.
    if options.folder and "=" in options.folder.name:
        options.overrides.insert(0, str(options.folder))
        options.folder = None
    settings = _settings(ShapesConfig, options)
    if settings is None:
        return None
    if options.preview:
        import cv2

        from superpoint_ros.training.shapes.render import preview

        if not cv2.imwrite(str(options.preview), preview(settings.seed, size=settings.size)):
            raise ValueError(f"preview '{options.preview}' cannot be written")
        return {"preview": str(options.preview)}
    if options.folder is None:
        raise ValueError("the folder of the run is missing: superpoint-ros train shapes RUN")
    from superpoint_ros.training import stages

    return {"step": stages.train_shapes(options.folder, settings)}


def _label(options: argparse.Namespace) -> dict[str, Any] | None:
    from superpoint_ros.training import frames, loop, stages
    from superpoint_ros.training.labels import LabelConfig

    settings = _settings(LabelConfig, options)
    if settings is None:
        return None
    accelerator = options.device.split(":")[0]
    processes = loop.launch(loop.LoopConfig(accelerator=accelerator))
    with processes.rank_zero_first():
        images = frames.image_folder(options.images, options.out / "frames", options.topic, options.every)
    done = stages.label(options.detector, images, options.out, settings, processes)
    return {"images": str(images), "labelled": done}


def _detector(options: argparse.Namespace) -> dict[str, Any] | None:
    from superpoint_ros.training import stages
    from superpoint_ros.training.config import DetectorConfig

    settings = _settings(DetectorConfig, options)
    if settings is None:
        return None
    step = stages.train_detector(options.folder, options.start_from, options.images, options.labels, settings)
    return {"step": step}


def _joint(options: argparse.Namespace) -> dict[str, Any] | None:
    from superpoint_ros.training import stages
    from superpoint_ros.training.config import JointConfig
    from superpoint_ros.training.data import held_out_of

    settings = _settings(JointConfig, options)
    if settings is None:
        return None
    measure = _measure_on(held_out_of(options.images)) if settings.measure_every else None
    step = stages.train_joint(
        options.folder, options.start_from, options.images, options.labels, settings, measure=measure
    )
    return {"step": step}


def _steer(options: argparse.Namespace) -> dict[str, Any] | None:
    from superpoint_ros.training import stages
    from superpoint_ros.training.steering import SteerConfig

    settings = _settings(SteerConfig, options)
    if settings is None:
        return None
    found = stages.steer(options.folder, [options.start_from], options.images, settings)
    return {"folder": str(options.folder), **({} if found is None else asdict(found))}


def _measure_on(held_out: list[Path]) -> Any:
    from superpoint_ros.evaluation.development import measure_on

    if not held_out:
        raise ValueError("measure_every is above 0, and none of the images is held out to measure on")
    return measure_on(held_out)


def _adapt(options: argparse.Namespace) -> dict[str, Any] | None:
    from superpoint_ros.training.adapt import AdaptConfig, adapt

    settings = _settings(AdaptConfig, options)
    if settings is None:
        return None
    result = adapt(options.images, options.out, settings, _measure)
    if result.before is None:
        return None
    _print_comparison(result.before, result.after)
    return {
        "weights": str(result.weights),
        "held_out": result.held_out,
        "before": asdict(result.before),
        "after": asdict(result.after),
    }


def _measure(weights: Path | str, held_out: list[Path]) -> Any:
    from superpoint_ros import SuperPoint
    from superpoint_ros.evaluation import planar, warps

    superpoint = SuperPoint(weights)

    def method(image: Any) -> Any:
        features = superpoint.extract(image)
        return features.keypoints, features.descriptors

    return planar.evaluate(method, warps.warp_all(held_out))


def _print_comparison(before: Any, after: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{before.pairs} warped pairs of held-out frames")
    for heading in ("", "repeatability", "localisation (px)", "accuracy at 3 px", "homography at 1, 3, 5 px"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, scores in (("before", before), ("after", after)):
        shares = " ".join(f"{share:.2f}" for share in scores.homography)
        table.add_row(
            name, f"{scores.repeatability:.3f}", f"{scores.localisation:.2f}", f"{scores.matching_accuracy:.3f}", shares
        )
    Console(stderr=True).print(table)


def _recipe(options: argparse.Namespace) -> dict[str, Any]:
    from superpoint_ros.extraction import weights
    from superpoint_ros.training import config, recipe

    target = recipe.run(recipe.read(options.recipe, config.parse_overrides(options.overrides)), _measure_on)
    return {"weights": str(target), "sha256": weights.load(target).sha256}


def _export(options: argparse.Namespace) -> dict[str, Any]:
    from superpoint_ros.extraction import weights
    from superpoint_ros.training import networks

    weights.save(networks.read(options.folder), options.weights, {"license": options.license})
    return {"weights": str(options.weights), "sha256": weights.load(options.weights).sha256}
