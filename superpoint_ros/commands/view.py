"""superpoint-ros view"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.commands.arguments import Misuse, add_node_options, int_at_least, track_progress
from superpoint_ros.commands.signals import on_signal

if TYPE_CHECKING:
    from superpoint_ros.adapters.rerun import RerunView
    from superpoint_ros.hosts.local import Moment
    from superpoint_ros.node.camera import Camera

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
Images = Iterator[tuple[int, Image, Image | None]]

_log = logging.getLogger(__name__)

_OF_SOURCES = ("topic", "stereo", "frames", "params_file", "param")
_OF_LIVE_TOPICS = ("camera", "remap")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        nargs="?",
        default="",
        help="a recording, the folder of a sequence in the layout of EuRoC, TUM RGB-D or KITTI odometry, or room "
        "(simulated); without it, the topics of a running detector are shown",
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--save", type=Path, metavar="FILE.rrd", help="write a file for Rerun instead of showing it")
    output.add_argument("--connect", default="", metavar="URL", help="send to a viewer that is already running")
    parser.add_argument("--camera", default="", help="name of the camera among those of the detector, for live topics")
    parser.add_argument("--topic", default="", help="image topic of a recording that has several")
    parser.add_argument("--stereo", action="store_true", help="also use the right images of a sequence")
    parser.add_argument("--frames", type=int_at_least(1), help="maximum number of frames of a source")
    add_node_options(parser)


def run(options: argparse.Namespace) -> int:
    for name in _OF_LIVE_TOPICS if options.source else _OF_SOURCES:
        if getattr(options, name):
            use = "live topics, leave the source out" if options.source else "a source, name one"
            raise Misuse(f"--{name.replace('_', '-')} is for {use}")
    if options.save is not None and options.save.suffix != ".rrd":
        raise ValueError(f"--save is '{options.save}', allowed is a file with the suffix .rrd")
    if options.save is not None and options.save.is_dir():
        raise ValueError(f"--save is '{options.save}', which is a folder")
    frames = _show(options) if options.source else _live(options)
    print(f"{frames} frames shown" + (f", written: {options.save}" if options.save else ""))
    return 0


def _open_view(options: argparse.Namespace) -> RerunView:
    """Open Rerun, which replaces the file of --save."""
    from superpoint_ros.adapters.rerun import RerunView

    return RerunView(options.save, options.connect)


def _live(options: argparse.Namespace) -> int:
    from superpoint_ros.hosts.dds.viewer import LiveViewer

    with LiveViewer(_open_view(options), options.camera, options.remap) as viewer:
        on_signal(viewer.stop)
        viewer.spin()
    return viewer.frames


def _show(options: argparse.Namespace) -> int:
    """Run the detector on a source, and the odometry if it is installed and the camera is calibrated."""
    from superpoint_ros.hosts.local import LocalDetector
    from superpoint_ros.node import interface, parameters

    values = parameters.read_parameters(options.params_file, options.param, f"/{interface.NODE_NAME}").values
    images, camera, baseline = _open(options)
    if (first := next(images, None)) is None:
        raise ValueError(f"'{options.source}' contains no frame that can be shown")
    images = chain((first,), images)
    locate = None if camera is None else _odometry(camera)
    shown = 0
    with LocalDetector(values, camera, baseline) as detector, closing(_open_view(options)) as view:
        if camera is not None:
            view.add_calibration(camera.matrix, camera.image_size)
        for stamp, left, right in track_progress(islice(images, options.frames), "view", options.frames):
            start = time.perf_counter()
            moment = detector.process(stamp, left, right)
            view.set_time(stamp)
            view.add_image(left)
            if moment is None:
                continue
            view.add_time("detector", time.perf_counter() - start)
            view.add_frame(moment.features, moment.homography)
            if moment.stereo is not None:
                view.add_stereo(moment.stereo)
            pose = None if locate is None else locate(moment)
            if pose is not None:
                view.add_pose(pose)
            shown += 1
    return shown


def _open(options: argparse.Namespace) -> tuple[Images, Camera | None, float]:
    """Open a source: stamps with their images, the calibration, and the baseline of a stereo pair."""
    from superpoint_ros.hosts.bag import reading

    path = Path(options.source)
    if reading.is_bag(path):
        from superpoint_ros.hosts.bag.calibration import read_calibration

        images = ((max(stamp, 1), image, None) for stamp, image in reading.read_images(path, options.topic))
        return images, read_calibration(path, options.topic), 0.0
    from superpoint_ros.evaluation.system_sources import open_source

    sequence = open_source(options.source, options.stereo)
    stamps = [round(seconds * 1e9) + 1 for seconds in sequence.times.tolist()]
    pairs = zip(stamps, sequence.images(), strict=True)
    return ((stamp, *images) for stamp, images in pairs), sequence.camera, sequence.baseline


def _odometry(camera: Camera) -> Callable[[Moment], Array | None] | None:
    """Return what gives the pose of the base at a moment, or None if the odometry is not installed."""
    try:
        from superpoint_ros.odometry.odometry import Odometry
    except ModuleNotFoundError as error:
        print(f"no trajectory: Python package '{error.name}' is missing, install it with: "
              "pip install 'superpoint_ros[odometry]'", file=sys.stderr)  # fmt: skip
        return None
    from superpoint_ros.odometry.messages import base_pose, camera_in_base, frame_from_messages
    from superpoint_ros.odometry.values import State

    odometry, place = Odometry(), camera_in_base(0, 0, 0, 0, 0, 0)
    warned = False

    def locate(moment: Moment) -> Array | None:
        nonlocal warned
        try:
            frame = frame_from_messages(moment.features, moment.homography, moment.stereo, camera)
        except ValueError as error:
            if not warned:
                _log.warning("no pose: %s", error)
            warned = True
            return None
        estimate = odometry.register(frame)
        return base_pose(estimate, place)[0] if estimate.state is State.TRACKING else None

    return locate
