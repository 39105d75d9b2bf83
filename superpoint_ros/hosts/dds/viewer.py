"""Show the topics of a running detector, and of the odometry behind it, in Rerun."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from superpoint_ros.adapters.rerun import RerunView
from superpoint_ros.hosts.dds.node import Node
from superpoint_ros.node import interface
from superpoint_ros.node.camera import Camera, is_rectified
from superpoint_ros.node.detector import stamp_to_ns
from superpoint_ros.node.images import grey_from_compressed, grey_from_image
from superpoint_ros.node.joining import StampJoiner
from superpoint_ros.node.names import parse_remappings
from superpoint_ros.node.poses import matrix_from_pose
from superpoint_ros.node.warnings import ThrottledWarnings, format_error, unexpected
from superpoint_ros.odometry import interface as odometry

_log = logging.getLogger(__name__)

NODE_NAME = "superpoint_view"
_KEPT = 10
"""Number of images that wait for their features."""


class LiveViewer:
    """A node that shows what the detector publishes.

    Args:
        view: where it is shown; it is closed by `close`, or here if this fails.
        camera: name of the camera among the detector's `cameras`, empty for a single one.
        remappings: such as "image:=/camera/image_raw"; without them the detector and the odometry are expected in the
            same namespace, as `superpoint_detector` and `superpoint_odometry`.
        environ: environment variables, in which those of ROS 2 are read.

    Raises:
        ValueError: in one sentence, if a name is invalid or a package is missing.
    """

    def __init__(
        self,
        view: RerunView,
        camera: str = "",
        remappings: Sequence[str] = (),
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._view, self._lock, self._stop = view, threading.Lock(), threading.Event()
        self._calibration: tuple[Any, ...] = ()
        self._joiner = StampJoiner(("features", "matched_homography"))
        self._images: dict[int, Any] = {}
        self._last = 0
        self.frames = 0
        self._warn = ThrottledWarnings(lambda text: _log.warning("%s", text))
        with ExitStack() as stack:
            stack.callback(view.close)
            self._node = stack.enter_context(Node(NODE_NAME, environ=environ, remappings=parse_remappings(remappings)))
            self._subscribe(camera)
            self._close = stack.pop_all().close

    def _subscribe(self, camera: str) -> None:
        inputs = odometry.inputs(camera, stereo=True)
        names = {key: (inputs[key].name, inputs[key].type) for key in
                 ("features", "matched_homography", "stereo_matches", "camera_info")}  # fmt: skip
        image = interface.topic("image").for_camera(camera)
        names["image"] = (image.name, image.type)
        self._image = self._node.resolve(image.name)
        compressed = interface.topic("image_compressed")
        names["image_compressed"] = (interface.with_transport(compressed, self._image), compressed.type)
        names["odometry"] = (f"{odometry.NODE_NAME}/odometry", odometry.topic("odometry").type)
        for key, (name, type_name) in names.items():
            qos = interface.Qos(reliable=False, depth=20)
            self._node.create_subscription(name, type_name, qos, lambda message, key=key: self._show(key, message))  # type: ignore[misc]
        _log.info("waiting for %s", self._node.resolve(names["features"][0]))

    def _show(self, key: str, message: Any) -> None:
        """Show a message; one that cannot be shown costs one warning."""
        with self._lock:
            try:
                stamp = stamp_to_ns(message.header.stamp)
                if key in ("image", "image_compressed"):
                    self._images[stamp] = (key, message)
                    self._images = dict(list(self._images.items())[-_KEPT:])
                elif key == "camera_info":
                    self._add_calibration(message)
                elif key == "odometry":
                    self._view.set_time(stamp)
                    self._view.add_pose(matrix_from_pose(message.pose.pose))
                elif key == "stereo_matches":
                    self._view.set_time(stamp)
                    self._view.add_stereo(message)
                else:
                    parts = self._joiner.add(key, stamp, message)
                    if parts is not None:
                        self._show_frame(stamp, parts)
            except Exception as error:
                self._warn(f"{key} not shown", format_error(error), unexpected(error))

    def _show_frame(self, stamp: int, parts: Mapping[str, Any]) -> None:
        self._view.set_time(stamp)
        found = self._images.pop(stamp, None)
        if found is not None:
            key, message = found
            self._view.add_image(grey_from_image(message) if key == "image" else grey_from_compressed(message))
        self._view.add_frame(parts["features"], parts["matched_homography"])
        self._view.add_time("latency", (time.time_ns() - stamp) * 1e-9)
        if 0 < self._last < stamp:
            self._view.add_time("period", (stamp - self._last) * 1e-9)
        self._last = stamp
        self.frames += 1

    def _add_calibration(self, message: Any) -> None:
        camera = Camera.from_message(message, is_rectified("auto", self._image))
        if camera is None:
            return
        calibration = camera.image_size, *camera.matrix.reshape(-1).tolist()
        if calibration != self._calibration:  # Rerun keeps every static value that it is given
            self._view.add_calibration(camera.matrix, camera.image_size)
            self._calibration = calibration

    def spin(self) -> None:
        """Wait until `stop`."""
        self._stop.wait()

    def stop(self) -> None:
        """Make `spin` return; may be called from any thread or signal handler."""
        self._stop.set()

    def close(self) -> None:
        """Leave the ROS graph and finish the recording. Idempotent."""
        self._close()

    def __enter__(self) -> LiveViewer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
