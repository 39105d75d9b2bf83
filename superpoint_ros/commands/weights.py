"""superpoint-ros weights"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from superpoint_ros.commands.arguments import add_parameters

_DECODING = ("max_keypoints", "nms_radius", "detection_threshold", "border")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="list known weights")
    info = actions.add_parser("info", help="show what a weights file contains")
    info.add_argument("weights", help="known name, file or folder")
    convert = actions.add_parser("convert", help="write weights of any known layout as safetensors or as a model file")
    convert.add_argument("weights", help="known name, file or folder")
    convert.add_argument("out", type=Path, help="file to write")
    _add_export_arguments(convert)
    fetch = actions.add_parser("fetch", help="download a weights file and verify its checksum")
    fetch.add_argument("url", help="address of the file")
    fetch.add_argument("out", type=Path, help="file to write")
    fetch.add_argument("--sha256", required=True, help="expected checksum, 64 hex digits")
    calibrate = actions.add_parser("calibrate", help="add the activation ranges for int8 precision, measured on images")
    calibrate.add_argument("weights", help="known name, file or folder")
    calibrate.add_argument("out", type=Path, help="safetensors file to write")
    calibrate.add_argument(
        "pictures", nargs="+", metavar="IMAGE", help="image files or folders; up to 20 images are used"
    )
    for action in (listing, info, convert, fetch, calibrate):
        action.add_argument("--json", action="store_true", help="print JSON on stdout")


def _add_export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--to",
        default="safetensors",
        choices=("safetensors", "onnx", "openvino", "torchscript", "tensorrt"),
        help="safetensors contains the weights alone; the others are complete models from grey image to features, with "
        "the sizes and settings below (default: %(default)s)",
    )
    add_parameters(parser, ("descriptor_size",))
    parser.add_argument("--height", type=int, default=480, help="image height in pixels (default: %(default)s)")
    parser.add_argument("--width", type=int, default=640, help="image width in pixels (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=1, help="batch size (default: %(default)s)")
    add_parameters(parser, _DECODING)
    parser.add_argument("--no-subpixel", action="store_true", help="keep keypoints at whole pixels")


def run(options: argparse.Namespace) -> int:
    actions = {"list": _list, "info": _info, "convert": _convert, "fetch": _fetch, "calibrate": _calibrate}
    result = actions[options.action](options)
    if options.json:
        print(json.dumps(result))
    else:
        for key, value in result.items():
            print(f"{key + ':':14} {value}")
    return 0


def _list(options: argparse.Namespace) -> dict[str, Any]:
    from superpoint_ros.extraction.weights import KNOWN

    return {name: text if path.is_file() else f"{text}; not installed" for name, (path, text) in KNOWN.items()}


def _info(options: argparse.Namespace) -> dict[str, Any]:
    from superpoint_ros.extraction import weights

    found = weights.load(options.weights)
    architecture = found.network.architecture
    result = {
        "name": found.name,
        "path": str(found.path),
        "sha256": found.sha256,
        "layout": found.layout,
        "encoder": "-".join(map(str, architecture.encoder)),
        "descriptor": architecture.descriptor_size,
        "normalisation": architecture.norm,
        "parameters": sum(parameter.numel() for parameter in found.network.parameters()),
    }
    result.update({key: value for key, value in weights.metadata(found.path).items() if value})
    return result


def _convert(options: argparse.Namespace) -> dict[str, Any]:
    from superpoint_ros.extraction import weights

    if options.to != "safetensors":
        return _export(options)
    if options.out.suffix != ".safetensors":
        raise ValueError(f"output '{options.out}' is not allowed, its name must end in .safetensors")
    found = weights.load(options.weights, options.descriptor_size)
    weights.save(found.network, options.out, weights.metadata(found.path))
    return {"weights": str(options.out), "sha256": weights.load(options.out).sha256}


def _export(options: argparse.Namespace) -> dict[str, Any]:
    from superpoint_ros.extraction import export, weights
    from superpoint_ros.extraction.decoding import Decoding
    from superpoint_ros.node import interface

    settings: dict[str, Any] = interface.checked({name: getattr(options, name) for name in _DECODING})
    decoding = Decoding(**settings, subpixel=not options.no_subpixel)
    shape = export.Shape(options.height, options.width, options.batch, decoding)
    found = weights.load(options.weights, options.descriptor_size)
    export.export(found.network, options.out, options.to, shape)
    return {
        "model": str(options.out),
        "format": options.to,
        "weights": found.label,
        "images": f"{options.batch}x1x{options.height}x{options.width} uint8",
        "outputs": ", ".join(export.NAMES),
    }


def _fetch(options: argparse.Namespace) -> dict[str, Any]:
    import pooch

    from superpoint_ros.extraction import weights

    if not re.fullmatch(r"[0-9a-fA-F]{64}", options.sha256):
        raise ValueError(f"sha256 '{options.sha256}' is not allowed, it must be 64 hex digits")
    path = pooch.retrieve(
        options.url, f"sha256:{options.sha256.lower()}", fname=options.out.name, path=options.out.resolve().parent
    )
    return {"weights": path, "layout": weights.load(path).layout, "sha256": options.sha256.lower()}


_PICTURES = 20
_SIDE = 480


def _calibrate(options: argparse.Namespace) -> dict[str, Any]:
    import numpy as np
    from rich.progress import track

    from superpoint_ros.extraction import ranges, weights
    from superpoint_ros.io.images import list_images, read_grey

    if options.out.suffix != ".safetensors":
        raise ValueError(f"output '{options.out}' is not allowed, its name must end in .safetensors")
    found = weights.load(options.weights)
    named = [Path(name) for name in options.pictures]
    paths = [path for name in named for path in (list_images(name) if name.is_dir() else [name])]
    # Spread evenly, since neighbours in a folder are often alike.
    paths = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, min(_PICTURES, len(paths))).astype(int))]
    quiet = options.json or not sys.stderr.isatty()
    images = (read_grey(path, _SIDE) for path in track(paths, "calibrating", disable=quiet))
    found_ranges = ranges.calibrate(found.network, images)
    weights.save(found.network, options.out, weights.metadata(found.path), found_ranges)
    return {"weights": str(options.out), "pictures": len(paths), "sha256": weights.load(options.out).sha256}
