"""What every host does: messages and parameters in, fields of messages out. The hosts only carry them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np

from superpoint_ros.extraction.superpoint import SuperPoint
from superpoint_ros.frontend.frames import Frame, FrameResult
from superpoint_ros.frontend.frontend import FrontEnd
from superpoint_ros.node import interface
from superpoint_ros.node.camera import Camera, is_rectified
from superpoint_ros.node.diagnostics import FRAMES, CameraHealth, Diagnostics
from superpoint_ros.node.images import Grey, grey_from_compressed, grey_from_image
from superpoint_ros.node.messages import features_fields, homography_fields
from superpoint_ros.node.pictures import annotated_fields, cloud_fields
from superpoint_ros.node.qos import incompatible
from superpoint_ros.node.settings import settings_from_parameters
from superpoint_ros.node.warnings import Warnings, sentence


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


class _Camera:
    """What is known of a camera beside its frames."""

    def __init__(self) -> None:
        self.calibration: Camera | None = None
        self.health = CameraHealth()


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
        self._warn = Warnings(host.warn) if live else Warnings(host.warn, clock=None)
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
        """Use a sensor_msgs/CameraInfo for the keypoint cloud from now on; one that cannot be used is warned about."""
        known, image = self._cameras[camera], self._host.input_name(camera)
        try:
            rectified = is_rectified(str(self.values["rectified"]), image)
            known.calibration, reason = Camera.from_message(message, rectified), None
        except Exception as error:
            known.calibration, reason = None, sentence(error)
            self._warn(f"{image}: calibration left out", reason, _unexpected(error))
        known.health.holds("calibration left out", reason)

    def unreadable(self, topic: str, error: Exception, camera: str = "") -> None:
        """Count and warn about a message of an input topic that the host cannot read, or what went wrong with it."""
        self._cameras[camera].health.happened("messages that cannot be read", f"{topic}: {sentence(error)}")
        self._warn(f"{topic}: message left out", sentence(error), _unexpected(error))

    def incompatible_qos(self, key: str, topic: str, policy: str, camera: str = "") -> None:
        """Warn that another node's end of a topic does not match this node's.

        Args:
            key: of the topic in the table.
            topic: its full name.
            policy: see `qos.incompatible`.
        """
        published = any(key == entry.key for entry in interface.OUTPUTS)
        reason = incompatible(topic, "publisher" if published else "subscription", policy)
        self._warn(f"{topic}: a node's quality of service does not match", reason)
        if key == self.image_input[0].key:
            self._cameras[camera].health.holds("image publisher", reason)
        else:
            self._cameras[camera or self.cameras[0]].health.notes(f"quality of service of {topic}", reason)

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
        known.health.answered((host.now() - result.frame.stamp) * 1e-9)
        if host.listeners("image_annotated", camera):
            self._publish_optional("image_annotated", result, lambda: annotated_fields(result))
        if host.listeners("keypoints_cloud", camera):
            self._check_size(known, result)
            self._publish_optional("keypoints_cloud", result, lambda: self._cloud(known, result))

    def _publish_optional(self, key: str, result: FrameResult, fields: Callable[[], Mapping[str, Any]]) -> None:
        """Publish what a frame can do without: its failure must not cost the frame its features, which are out."""
        camera = result.frame.camera
        try:
            self._host.publish(key, camera, result.frame.context, fields())
        except Exception as error:
            self._cameras[camera].health.happened(f"{key} left out", sentence(error))
            self._warn(f"{self._host.input_name(camera)}: {key} left out", sentence(error), _unexpected(error))

    def _cloud(self, known: _Camera, result: FrameResult) -> Mapping[str, Any]:
        fields = cloud_fields(result, known.calibration)
        known.health.counts("keypoints without a viewing ray", int(np.isnan(fields["points"][:, 0]).sum()))
        return fields

    def _check_size(self, known: _Camera, result: FrameResult) -> None:
        reason, calibration = None, known.calibration
        if calibration is not None and calibration.image_size != result.features.image_size:
            (height, width), (rows, columns) = calibration.image_size, result.features.image_size
            reason = (
                f"it is for images of {width}x{height} pixels and this one has {columns}x{rows}, so the cloud holds "
                f"pixels at z = 0"
            )
            self._warn(f"{self._host.input_name(result.frame.camera)}: calibration of another size", reason)
        known.health.holds("calibration of another size", reason)

    def _on_problem(self, camera: str, reason: str) -> None:
        self._cameras[camera].health.happened(FRAMES, reason)
        self._warn(f"{self._host.input_name(camera)}: frame left out", reason)

    def diagnostics(self) -> list[Diagnostics]:
        """State of each camera since the last call; call it about once a second."""
        return [self._state(camera) for camera in self.cameras]

    def _state(self, camera: str) -> Diagnostics:
        runtime, counters = self.front_end.superpoint.runtime, self.front_end.counters_of(camera)
        topic, timeout = self._host.input_name(camera), float(str(self.values["image_timeout"]))
        level, message, found = self._cameras[camera].health.state(counters, topic, timeout)
        values = {name: str(count) for name, count in asdict(counters).items()} | found
        values |= {"device": str(runtime.device), "runtime": runtime.name, "precision": runtime.precision}
        for stage, seconds in self.front_end.stopwatch.medians().items():
            values[f"{stage}, median (ms)"] = f"{seconds * 1e3:.2f}"
        return Diagnostics(f"front end {camera}".rstrip(), level, message, self.label, values)


def _unexpected(error: Exception) -> Exception | None:
    """The error where its traceback may be of use: a ValueError says it all."""
    return None if isinstance(error, ValueError) else error


def stamp_to_ns(stamp: Any) -> int:
    """builtin_interfaces/Time -> nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def ns_to_stamp(nanoseconds: int) -> tuple[int, int]:
    """Nanoseconds -> (sec, nanosec) of builtin_interfaces/Time."""
    return divmod(int(nanoseconds), 1_000_000_000)
