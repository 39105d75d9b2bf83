"""`superpoint-ros`: one command, a module of `commands` for each of its verbs."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence

from superpoint_ros import __version__
from superpoint_ros.commands.arguments import Misuse

COMMANDS = {
    "detector": "run the detector as a ROS 2 node without a ROS 2 install",
    "odometry": "estimate the camera's poses from what the detector publishes, live or on a recording",
    "demo": "fly a simulated camera over a photograph and watch the detector live",
    "extract": "extract the features of images to files",
    "match": "match two images, or many for COLMAP and hloc",
    "view": "show images, keypoints, matches, depth and trajectory in Rerun",
    "bag": "run the detector on every frame of a recording and write its output to a bag",
    "train": "train the network",
    "evaluate": "evaluate features on standard benchmarks, with classical baselines",
    "bench": "measure speed, memory and messaging, compared with other implementations",
    "weights": "list, inspect, convert and calibrate weights files",
}

EXTRAS = {"detector": "standalone", "odometry": "odometry", "demo": "demo", "bag": "bag", "train": "train",
          "evaluate": "evaluate", "bench": "bench", "view": "view"}  # fmt: skip
"""The pip extras of commands that need more than the base installation."""


def build_parser(verb: str | None = None) -> argparse.ArgumentParser:
    """Build the parser; only the module of `verb` is imported (all of them for None)."""
    parser = argparse.ArgumentParser(prog="superpoint-ros", description="SuperPoint visual front end for robots")
    parser.add_argument("--version", action="version", version=f"superpoint-ros {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        command = verbs.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if verb in (None, name):
            module = importlib.import_module(f"superpoint_ros.commands.{name}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


def _parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """Parse options; KEY=VALUE arguments may also follow options, which argparse does not support."""
    options, rest = parser.parse_known_args(words)
    if rest:
        if not hasattr(options, "overrides") or any(word.startswith("-") or "=" not in word for word in rest):
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        options.overrides += rest
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code: 0, 1 for a failure, 2 for misuse, 130 for Ctrl-C."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    verb = next((word for word in words if word in COMMANDS), "")
    options = _parse(build_parser(verb), words)
    logging.basicConfig(format="[%(levelname)s] %(message)s", level=logging.INFO, stream=sys.stderr)
    try:
        return int(options.run(options) or 0)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 1
    except (ValueError, OSError) as error:
        print(f"superpoint-ros {options.verb}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2 if isinstance(error, Misuse) else 1
    except ModuleNotFoundError as error:
        text = str(error)
        if "pip install" not in text:
            extra = EXTRAS.get(options.verb)
            command = f"pip install 'superpoint_ros[{extra}]'" if extra else f"pip install {error.name}"
            text = f"Python package '{error.name}' is missing, install it with: {command}"
        print(f"superpoint-ros {options.verb}: {text}", file=sys.stderr)
        return 1
