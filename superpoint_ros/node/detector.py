"""What every host does: messages and parameters in, fields of messages out. The hosts only carry them."""

from __future__ import annotations

import logging
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from superpoint_ros.extraction.superpoint import SuperPoint
from superpoint_ros.frontend.frames import Counters, Frame, FrameResult
from superpoint_ros.frontend.frontend import FrontEnd
from superpoint_ros.node import interface
from superpoint_ros.node.camera import Camera, flat_cloud
from superpoint_ros.node.images import Grey, grey_from_compressed, grey_from_image
from superpoint_ros.node.messages import features_fields, homography_fields
from superpoint_ros.node.overlay import annotate
from superpoint_ros.node.settings import settings_from_parameters

_log = logging.getLogger(__name__)

_WARNING_INTERVAL = 5.0


class Host(Protocol):
    """What the detector needs of the program around it."""

    def listeners(self, key: str, camera: str) -> int:
        """How many subscribers a camera's output topic with this key has."""

    def publish(self, key: str, camera: str, header: Any, fields: Mapping[str, Any]) -> None:
        """Publish a message of the topic's type; `header` is the image's."""

    def now(self) -> int:
        """The host's clock in nanoseconds, the one that stamps images."""

    def warn(self, text: str) -> None:
        """Log a warning."""

    def input_name(self, camera: str) -> str:
        """The full name of a camera's image topic."""


@dataclass(frozen=True)
class Diagnostics:
    """State of a camera for /diagnostics: whose, level 0 (OK) or 1 (warning), one line, and named values."""

    name: str
    level: int
    message: str
    hardware_id: str
    values: Mapping[str, str]


class _Camera:
    """What is known of a camera beside its frames."""

    def __init__(self) -> None:
        self.calibration: Camera | None = None
        self.ages: deque[float] = deque(maxlen=101)
        self.before = (time.monotonic(), Counters())


class Detector:
    """SuperPoint on the cameras of a host.

    Args:
        values: parameter values as `interface.checked` gives them; missing ones take their defaults.
        host: where results go.
        cv_bridge_to_mono8: see `images.grey_from_image`.
        live: a worker takes the newest frame, and older ones are dropped; otherwise every frame is processed before
            the call that hands it in returns.

    Raises:
        ValueError: in one sentence, if weights, device, runtime, precision or a parameter cannot be had.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        host: Host,
        cv_bridge_to_mono8: Callable[[Any], Grey] | None = None,
        live: bool = True,
    ) -> None:
        self.values = {**interface.defaults(), **interface.checked(values)}
        self._host = host
        self._to_mono8 = cv_bridge_to_mono8
        choices = {name: str(self.values[name]) for name in ("weights", "device", "runtime", "precision")}
        superpoint = SuperPoint(**choices)  # type: ignore[arg-type]
        self.label = superpoint.weights.label
        self.front_end = FrontEnd(superpoint, settings_from_parameters(self.values), self._publish, self._on_problem)
        self._cameras = {name: _Camera() for name in self.cameras}
        self._warned: dict[str, tuple[float, int]] = {}
        self._live = live
        self._take: Callable[[Frame], Any] = self.front_end.process
        if live:
            self.front_end.start()
            self._take = self.front_end.submit

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras; a single one has none."""
        names = self.values["cameras"]
        assert isinstance(names, tuple)
        return names

    @property
    def image_input(self) -> tuple[interface.Topic, Callable[..., None]]:
        """The input that `image_transport` asks for, and the method that takes its messages."""
        if self.values["image_transport"] == "compressed":
            return interface.topic("image_compressed"), self.submit_compressed
        return interface.topic("image"), self.submit_image

    def submit_image(self, message: Any, camera: str = "") -> None:
        """Hand in a sensor_msgs/Image."""
        self._submit(message, camera, lambda: grey_from_image(message, self._to_mono8, self._max_pixels))

    def submit_compressed(self, message: Any, camera: str = "") -> None:
        """Hand in a sensor_msgs/CompressedImage."""
        self._submit(message, camera, lambda: grey_from_compressed(message, self._max_pixels))

    @property
    def _max_pixels(self) -> int:
        return int(self.values["max_pixels"])  # type: ignore[arg-type]

    def _submit(self, message: Any, camera: str, decode: Callable[[], Grey]) -> None:
        self._take(Frame(stamp_to_ns(message.header.stamp), decode, camera, message.header))

    def set_camera_info(self, message: Any, camera: str = "") -> None:
        """Use a sensor_msgs/CameraInfo for the keypoint cloud from now on."""
        try:
            self._cameras[camera].calibration = Camera.from_message(message)
        except ValueError as error:
            self._cameras[camera].calibration = None
            self._warn_throttled(f"{self._host.input_name(camera)}: calibration left out", str(error))

    def set_parameters(self, changes: Mapping[str, Any]) -> None:
        """Change parameters, all or none of them.

        Raises:
            ParameterError: in one sentence; nothing has changed then.
        """
        changes = interface.checked(changes)
        for name, value in changes.items():
            if interface.parameter(name).read_only and value != self.values[name]:
                raise interface.ParameterError(f"parameter '{name}' is read-only, it is fixed when the node starts")
        values = {**self.values, **changes}
        try:
            self.front_end.configure(settings_from_parameters(values))
        except ValueError as error:
            raise interface.ParameterError(str(error)) from error
        self.values = values

    def close(self) -> None:
        """Finish the frame in work and stop. Safe to call again."""
        self.front_end.close()

    def _publish(self, result: FrameResult) -> None:
        header, camera, host = result.frame.context, result.frame.camera, self._host
        known = self._cameras[camera]
        descriptor_type = str(self.values["descriptor_type"])
        host.publish("features", camera, header, features_fields(result, self.label, descriptor_type))
        reference = {"reference_stamp": result.reference_stamp}
        host.publish("matched_homography", camera, header, {**homography_fields(result), **reference})
        known.ages.append((host.now() - result.frame.stamp) * 1e-9)
        if host.listeners("image_annotated", camera):
            image = annotate(result)
            height, width = image.shape[:2]
            fields = {"height": height, "width": width, "encoding": "bgr8", "is_bigendian": 0, "step": width * 3}
            host.publish("image_annotated", camera, header, {**fields, "data": image.reshape(-1)})
        if host.listeners("keypoints_cloud", camera):
            calibration, keypoints = known.calibration, result.features.keypoints
            if calibration is not None and calibration.image_size == result.features.image_size:
                points = calibration.rays(keypoints)
            else:
                points = flat_cloud(keypoints)
            cloud = {"points": np.column_stack((points, result.features.scores))}
            host.publish("keypoints_cloud", camera, header, cloud)

    def _on_problem(self, camera: str, reason: str) -> None:
        self._warn_throttled(f"{self._host.input_name(camera)}: frame left out", reason)

    def _warn_throttled(self, what: str, reason: str) -> None:
        """Warn of what happened; live, repetitions within five seconds are only counted."""
        if not self._live:
            self._host.warn(f"{what}: {reason}")
            return
        now = time.monotonic()
        last, count = self._warned.get(what, (-_WARNING_INTERVAL, 0))
        if now - last < _WARNING_INTERVAL:
            self._warned[what] = (last, count + 1)
            return
        more = f" ({count} more since the last warning)" if count else ""
        self._warned[what] = (now, 0)
        self._host.warn(f"{what}: {reason}{more}")

    def diagnostics(self) -> list[Diagnostics]:
        """State of each camera since the last call; call it about once a second."""
        return [self._state(camera) for camera in self.cameras]

    def _state(self, camera: str) -> Diagnostics:
        known, runtime = self._cameras[camera], self.front_end.superpoint.runtime
        now, counters = time.monotonic(), self.front_end.counters_of(camera)
        then, before = known.before
        known.before = (now, counters)
        rate = (counters.processed - before.processed) / max(now - then, 1e-9)
        level, message = 0, f"{rate:.1f} frames per second"
        if counters.failed > before.failed:
            level, message = 1, f"{counters.failed - before.failed} frames failed"
        elif counters.received == before.received:
            message = f"no image on {self._host.input_name(camera)}"
        values = {name: str(count) for name, count in asdict(counters).items()}
        values |= {
            "rate (Hz)": f"{rate:.2f}",
            "device": str(runtime.device),
            "runtime": runtime.name,
            "precision": runtime.precision,
        }
        if known.ages:
            values["age of results, median (ms)"] = f"{statistics.median(list(known.ages)) * 1e3:.1f}"
        for stage, seconds in self.front_end.stopwatch.medians().items():
            values[f"{stage}, median (ms)"] = f"{seconds * 1e3:.2f}"
        return Diagnostics(f"front end {camera}".rstrip(), level, message, self.label, values)


def stamp_to_ns(stamp: Any) -> int:
    """builtin_interfaces/Time -> nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def ns_to_stamp(nanoseconds: int) -> tuple[int, int]:
    """Nanoseconds -> (sec, nanosec) of builtin_interfaces/Time."""
    return divmod(int(nanoseconds), 1_000_000_000)
