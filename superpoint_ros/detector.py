"""What every host does: messages and parameters in, fields of messages out. The hosts only carry them."""

from __future__ import annotations

import logging
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from superpoint_ros import interface
from superpoint_ros.camera import Camera, flat_cloud
from superpoint_ros.frames import Counters, Frame, FrameResult
from superpoint_ros.frontend import FrontEnd
from superpoint_ros.images import Grey, grey_from_compressed, grey_from_image
from superpoint_ros.messages import features_fields, homography_fields
from superpoint_ros.overlay import annotate
from superpoint_ros.settings import FrontEndSettings
from superpoint_ros.superpoint import SuperPoint

_log = logging.getLogger(__name__)

_WARNING_INTERVAL = 5.0


class Host(Protocol):
    """What the detector needs of the program around it."""

    def listeners(self, key: str) -> int:
        """How many subscribers the output topic with this key has."""

    def publish(self, key: str, header: Any, fields: Mapping[str, Any]) -> None:
        """Publish a message of the topic's type; `header` is the image's."""

    def now(self) -> int:
        """The host's clock in nanoseconds, the one that stamps images."""

    def warn(self, text: str) -> None:
        """Log a warning."""

    def input_name(self) -> str:
        """The full name of the image topic."""


@dataclass(frozen=True)
class Diagnostics:
    """State of the detector for /diagnostics: level 0 (OK) or 1 (warning), one line, and named values."""

    level: int
    message: str
    hardware_id: str
    values: Mapping[str, str]


class Detector:
    """SuperPoint on one camera for a host.

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
        self.front_end = FrontEnd(
            superpoint, FrontEndSettings.from_parameters(self.values), self._publish, self._on_problem
        )
        self._camera: Camera | None = None
        self._warned: dict[str, tuple[float, int]] = {}
        self._ages: deque[float] = deque(maxlen=101)
        self._previous = (time.monotonic(), Counters())
        self._live = live
        self._take: Callable[[Frame], Any] = self.front_end.process
        if live:
            self.front_end.start()
            self._take = self.front_end.submit

    def submit_image(self, message: Any) -> None:
        """Hand in a sensor_msgs/Image."""
        self._submit(message, lambda: grey_from_image(message, self._to_mono8))

    def submit_compressed(self, message: Any) -> None:
        """Hand in a sensor_msgs/CompressedImage."""
        self._submit(message, lambda: grey_from_compressed(message))

    def _submit(self, message: Any, decode: Callable[[], Grey]) -> None:
        self._take(Frame(stamp_to_ns(message.header.stamp), decode, context=message.header))

    def set_camera_info(self, message: Any) -> None:
        """Use a sensor_msgs/CameraInfo for the keypoint cloud from now on."""
        try:
            self._camera = Camera.from_message(message)
        except ValueError as error:
            self._camera = None
            self.warn_throttled("camera_info", str(error))

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
            self.front_end.configure(FrontEndSettings.from_parameters(values))
        except ValueError as error:
            raise interface.ParameterError(str(error)) from error
        self.values = values

    def close(self) -> None:
        """Finish the frame in work and stop. Safe to call again."""
        self.front_end.close()

    def _publish(self, result: FrameResult) -> None:
        header, publish, wanted = result.frame.context, self._host.publish, self._host.listeners
        publish("features", header, features_fields(result, self.label, str(self.values["descriptor_type"])))
        reference = {"reference_stamp": result.reference_stamp}
        publish("matched_homography", header, {**homography_fields(result), **reference})
        self._ages.append((self._host.now() - result.frame.stamp) * 1e-9)
        if wanted("image_annotated"):
            image = annotate(result)
            height, width = image.shape[:2]
            fields = {"height": height, "width": width, "encoding": "bgr8", "is_bigendian": 0, "step": width * 3}
            publish("image_annotated", header, {**fields, "data": image.reshape(-1)})
        if wanted("keypoints_cloud"):
            camera, keypoints = self._camera, result.features.keypoints
            calibrated = camera is not None and camera.image_size == result.features.image_size
            points = camera.rays(keypoints) if camera is not None and calibrated else flat_cloud(keypoints)
            publish("keypoints_cloud", header, {"points": np.column_stack((points, result.features.scores))})

    def _on_problem(self, camera: str, reason: str) -> None:
        self.warn_throttled(self._host.input_name(), reason)

    def warn_throttled(self, topic: str, reason: str) -> None:
        """Warn about a frame; live, repetitions within five seconds are only counted."""
        if not self._live:
            self._host.warn(f"{topic}: frame left out: {reason}")
            return
        now = time.monotonic()
        last, count = self._warned.get(topic, (-_WARNING_INTERVAL, 0))
        if now - last < _WARNING_INTERVAL:
            self._warned[topic] = (last, count + 1)
            return
        more = f" ({count} more since the last warning)" if count else ""
        self._warned[topic] = (now, 0)
        self._host.warn(f"{topic}: frame left out: {reason}{more}")

    def diagnostics(self) -> Diagnostics:
        """State since the last call; call it about once a second."""
        now, counters = time.monotonic(), self.front_end.counters
        before, previous = self._previous
        self._previous = (now, counters)
        rate = (counters.processed - previous.processed) / max(now - before, 1e-9)
        level, message = 0, f"{rate:.1f} frames per second"
        if counters.failed > previous.failed:
            level, message = 1, f"{counters.failed - previous.failed} frames failed"
        elif counters.received == previous.received:
            message = f"no image on {self._host.input_name()}"
        values = {
            "received": str(counters.received),
            "processed": str(counters.processed),
            "dropped": str(counters.dropped),
            "failed": str(counters.failed),
            "rate (Hz)": f"{rate:.2f}",
            "device": str(self.front_end.superpoint.runtime.device),
            "runtime": self.front_end.superpoint.runtime.name,
            "precision": self.front_end.superpoint.runtime.precision,
        }
        if self._ages:
            values["age of results, median (ms)"] = f"{statistics.median(list(self._ages)) * 1e3:.1f}"
        for stage, seconds in self.front_end.stopwatch.medians().items():
            values[f"{stage}, median (ms)"] = f"{seconds * 1e3:.2f}"
        return Diagnostics(level, message, self.label, values)


def stamp_to_ns(stamp: Any) -> int:
    """builtin_interfaces/Time -> nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def ns_to_stamp(nanoseconds: int) -> tuple[int, int]:
    """Nanoseconds -> (sec, nanosec) of builtin_interfaces/Time."""
    return divmod(int(nanoseconds), 1_000_000_000)
