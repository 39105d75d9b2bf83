"""Publishing stereo matches and the cloud at true depth, and warning of what is in their way."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from superpoint_ros.frontend.frames import FrameResult
from superpoint_ros.frontend.timing import STEREO, Stopwatch
from superpoint_ros.node.adapters import rgbd_pair
from superpoint_ros.node.camera import Camera
from superpoint_ros.node.diagnostics import CameraHealth
from superpoint_ros.node.stereo import PENDING, Pair, Pairing, StereoGeometry, match_pair, stereo_fields
from superpoint_ros.node.warnings import ThrottledWarnings, format_error, unexpected

SWAPPED = (
    "almost all disparities are negative, as if left and right were swapped; check the image topics and that "
    "parameter 'cameras' names the left camera first"
)


class _Host(Protocol):
    def subscriber_count(self, key: str, camera: str) -> int: ...

    def image_topic(self, camera: str) -> str: ...


class StereoOutputs:
    """The outputs of a stereo pair. Their failure does not affect the features of a frame.

    Args:
        cameras: names of the left and the right camera.
        slop: maximum difference of the stamps of a pair, in nanoseconds.
        host: the program around the detector.
        warn: receives the warnings.
        health: of the left camera.
        stopwatch: receives the time of the stage `STEREO`.
        publish: publishes the fields of a topic with the header of a frame, given the topic's key and camera.
        adapters: names of the adapters that are on.
    """

    def __init__(
        self,
        cameras: tuple[str, str],
        slop: int,
        host: _Host,
        warn: ThrottledWarnings,
        health: CameraHealth,
        stopwatch: Stopwatch,
        publish: Callable[[str, FrameResult, Callable[[], Mapping[str, Any]], str], None],
        adapters: Collection[str] = (),
    ) -> None:
        self.cameras = cameras
        self.pairing = Pairing(cameras, slop)
        self._calibrations: tuple[Camera | None, Camera | None] = (None, None)
        self._geometry: StereoGeometry | None = None
        self._host, self._warn, self._health, self._publish = host, warn, health, publish
        self._stopwatch = stopwatch
        keys = [("stereo_matches", ""), ("keypoints_cloud", cameras[0]), ("rgbd_image", cameras[0])]
        self._topics = keys if "rtabmap" in adapters else keys[:2]

    def calibrate(self, left: Camera | None, right: Camera | None) -> None:
        """Use these calibrations from now on; whether they are a pair is reported with the next frames."""
        self._calibrations = left, right
        try:
            self._geometry = StereoGeometry.of(self.cameras, left, right)
        except ValueError:
            self._geometry = None

    def keys_of(self, camera: str) -> tuple[str, ...]:
        """Return the keys of the camera's topics whose messages come with the pairs, if at all."""
        has_cloud = self._geometry is not None and camera == self.cameras[0]
        return ("keypoints_cloud", "rgbd_image") if has_cloud else ("rgbd_image",)

    def add(self, result: FrameResult, values: Mapping[str, Any]) -> None:
        """Add a frame; publish what belongs to the pair that it completes."""
        try:
            pair = self.pairing.add(result)
            if pair is not None:
                self._report("frames without a partner", None)
            elif self.pairing.lonely > PENDING:
                self._report("frames without a partner", self.pairing.explain())
            wanted = [topic for topic in self._topics if self._host.subscriber_count(*topic)]
            if pair is not None and wanted:
                self._publish_pair(pair, wanted, values)
            elif pair is not None:
                self._report("no matches", None)
        except Exception as error:
            self._report("no matches", format_error(error), unexpected(error))

    def _publish_pair(self, pair: Pair, wanted: list[tuple[str, str]], values: Mapping[str, Any]) -> None:
        geometry = self._geometry or StereoGeometry.of(self.cameras, *self._calibrations)
        with self._stopwatch.stage(STEREO):
            found = match_pair(pair, geometry, values)
            fields, cloud = stereo_fields(pair, found, geometry, rectified=values["undistort"] == "points")
        self._report("no matches", SWAPPED if found.swapped else None)
        contents: dict[str, Callable[[], Mapping[str, Any]]] = {
            "stereo_matches": lambda: fields,
            "keypoints_cloud": lambda: cloud,
            "rgbd_image": lambda: rgbd_pair(*pair, (geometry.left, geometry.right), cloud["points"][:, :3]),
        }
        for key, camera in wanted:
            self._publish(key, pair[0], contents[key], camera)

    def _report(self, what: str, reason: str | None, error: Exception | None = None) -> None:
        """Warn of a problem, or clear it if there is no reason any more."""
        if reason is not None:
            self._warn(f"stereo of {' and '.join(map(self._host.image_topic, self.cameras))}: {what}", reason, error)
        self._health.set_problem(f"stereo: {what}", reason)
