"""superpoint-ros train"""

from __future__ import annotations

import argparse
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    stages = parser.add_subparsers(dest="stage", required=True, metavar="STAGE")

    shapes = stages.add_parser("shapes", help="MagicPoint: the detector on Synthetic Shapes, made on the fly")
    shapes.add_argument("checkpoint", type=Path, help="checkpoint file; the run goes on from it where it exists")
    shapes.add_argument("--preview", type=Path, metavar="PNG", help="only draw every shape class into a picture")
    _add_loop_options(shapes, steps=20000, batch=32)

    label = stages.add_parser("label", help="label pictures by Homographic Adaptation")
    label.add_argument("checkpoint", type=Path, help="checkpoint of a detector")
    label.add_argument("images", type=Path, help="folder of pictures")
    label.add_argument("out", type=Path, help="folder for the labels; labelled pictures are left alone")
    label.add_argument("--warps", type=int, default=100, help="homographies per picture (default: %(default)s)")
    label.add_argument("--longer-side", type=int, default=320, help="size in pixels (default: %(default)s)")
    label.add_argument("--threshold", type=float, default=0.005, help="least probability (default: %(default)s)")
    label.add_argument("--max-points", type=int, default=300, help="most labels per picture (default: %(default)s)")
    label.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")

    joint = stages.add_parser("joint", help="detector and descriptor on warped pairs of labelled pictures")
    joint.add_argument("checkpoint", type=Path, help="checkpoint file; the run goes on from it where it exists")
    joint.add_argument("images", type=Path, help="folder of pictures")
    joint.add_argument("labels", type=Path, help="folder that `train label` wrote")
    joint.add_argument("--start-from", type=Path, help="checkpoint whose network a new run starts with")
    _add_loop_options(joint, steps=50000, batch=8)

    export = stages.add_parser("export", help="write a checkpoint's network as weights")
    export.add_argument("checkpoint", type=Path, help="checkpoint of `train joint`")
    export.add_argument("weights", type=Path, help="safetensors file")
    export.add_argument("--license", default="", help="licence to note in the file")


def _add_loop_options(parser: argparse.ArgumentParser, steps: int, batch: int) -> None:
    parser.add_argument("--steps", type=int, default=steps, help="of the whole run (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=batch, help="samples a step (default: %(default)s)")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="greatest rate (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and data (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes making samples (default: %(default)s)")
    parser.add_argument("--accelerator", default="auto", help="cpu, cuda or auto (default: %(default)s)")
    parser.add_argument("--precision", default="bf16-mixed", help="as Lightning names it (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    result = {"shapes": _shapes, "label": _label, "joint": _joint, "export": _export}[options.stage](options)
    print(json.dumps(result))
    return 0


def _loop_config(options: argparse.Namespace) -> Any:
    from superpoint_ros.training.loop import LoopConfig

    given = {field.name: getattr(options, field.name) for field in fields(LoopConfig) if hasattr(options, field.name)}
    return LoopConfig(**given)


def _shapes(options: argparse.Namespace) -> dict[str, Any]:
    if options.preview:
        import cv2

        from superpoint_ros.training.shapes import preview

        if not cv2.imwrite(str(options.preview), preview(seed=options.seed)):
            raise ValueError(f"preview '{options.preview}' cannot be written")
        return {"preview": str(options.preview)}
    from superpoint_ros.training import stages

    return {"step": stages.train_shapes(options.checkpoint, _loop_config(options))}


def _label(options: argparse.Namespace) -> dict[str, Any]:
    from superpoint_ros.training import stages
    from superpoint_ros.training.labels import LabelConfig

    given = {name: getattr(options, name) for name in ("warps", "longer_side", "threshold", "max_points")}
    config = replace(LabelConfig(), **given)
    return {"labelled": stages.label(options.checkpoint, options.images, options.out, config, options.device)}


def _joint(options: argparse.Namespace) -> dict[str, Any]:
    from superpoint_ros.training import stages

    step = stages.train_joint(
        options.checkpoint, options.start_from, options.images, options.labels, _loop_config(options)
    )
    return {"step": step}


def _export(options: argparse.Namespace) -> dict[str, Any]:
    from superpoint_ros import weights
    from superpoint_ros.training.stages import read_checkpoint

    weights.save(read_checkpoint(options.checkpoint), options.weights, {"license": options.license})
    return {"weights": str(options.weights), "sha256": weights.load(options.weights).sha256}
