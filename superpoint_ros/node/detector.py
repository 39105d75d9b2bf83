"""The detector that every host runs: messages and parameters in, fields of messages out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from superpoint_ros.extraction.checks import ImageError
from superpoint_ros.features import Mask
from superpoint_ros.frontend.frames import Frame, FrameResult
from superpoint_ros.frontend.frontend import FrontEnd
from superpoint_ros.node import interface
from superpoint_ros.node.camera import Camera, is_rectified
from superpoint_ros.node.diagnostics import SKIPPED_FRAMES, CameraHealth, Diagnostics
from superpoint_ros.node.host import Host
from superpoint_ros.node.images import Grey, grey_from_compressed, grey_from_image
from superpoint_ros.node.intensity import Intensity
from superpoint_ros.node.masks import CameraMasks
from superpoint_ros.node.outputs import Outputs
from superpoint_ros.node.qos import explain_mismatch
from superpoint_ros.node.settings import settings_from_parameters, superpoint_from_parameters
from superpoint_ros.node.state import CameraState
from superpoint_ros.node.stereo import stereo_pair
from superpoint_ros.node.stereo_outputs import StereoOutputs
from superpoint_ros.node.topics import TRANSPORTS, VIDEO_TYPE
from superpoint_ros.node.video import VideoStream, require_decoder
from superpoint_ros.node.warnings import ThrottledWarnings, format_error, unexpected


class Detector:
    """SuperPoint on the cameras of a host.

    Args:
        values: parameter values by name; missing ones take their defaults.
        host: where results are published.
        cv_bridge_to_mono8: see `images.grey_from_image`.
        live: a worker processes the newest frame and drops older ones; otherwise every submission is processed before
            it returns.

    Raises:
        ValueError: in one sentence, if weights, device, runtime, precision or a parameter is invalid or unavailable.
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
        if self.image_input[0].type == VIDEO_TYPE:
            require_decoder()
        pair, slop = stereo_pair(self.values), round(float(str(self.values["stereo_slop"])) * 1e9)
        superpoint = superpoint_from_parameters(self.values)
        self.label = superpoint.weights.label
        settings = settings_from_parameters(self.values)
        self.front_end = FrontEnd(superpoint, settings, self._publish, self._on_problem, pair=pair, slop=slop)
        self._warn = ThrottledWarnings(host.warn) if live else ThrottledWarnings(host.warn, clock=None)
        self._cameras = {name: self._camera_state(name) for name in self.cameras}
        self._outputs = Outputs(host, self._warn, self._cameras, self.label, self.adapters)
        self._stereo = self._create_stereo(pair, slop) if pair else None
        self._submit_frame: Callable[[Frame], Any] = self.front_end.process
        if live:
            self.front_end.start()
            self._submit_frame = self.front_end.submit

    def _camera_state(self, camera: str) -> CameraState:
        health = CameraHealth()

        def report(what: str, reason: str | None) -> None:
            health.set_problem(what, reason)
            if reason is not None:
                self._warn(f"{self._host.image_topic(camera)}: {what}", reason)

        masks, intensity = CameraMasks(self.values, camera, report), Intensity(str(self.values["intensity"]))
        return CameraState(health, masks, intensity, VideoStream(self._max_pixels, partial(report, "video")))

    @property
    def cameras(self) -> tuple[str, ...]:
        """Return the names of the cameras; the name of a single one is empty."""
        names = self.values["cameras"]
        assert isinstance(names, tuple)
        return names

    @property
    def outputs(self) -> dict[tuple[str, str], interface.Topic]:
        """Return the output topics by key and camera, see `interface.outputs`."""
        return interface.outputs(self.cameras, self._stereo is not None, self.adapters)

    @property
    def adapters(self) -> tuple[str, ...]:
        """Return the names of the adapters that are on."""
        names = self.values["adapters"]
        assert isinstance(names, tuple)
        return tuple(filter(None, names))

    @property
    def unpaired(self) -> int | None:
        """Return the number of frames without a stereo partner so far; None without stereo."""
        return None if self._stereo is None else sum(self._stereo.pairing.unpaired.values())

    @property
    def image_input(self) -> tuple[interface.Topic, Callable[..., None]]:
        """Return the image topic selected by `image_transport`, and the method that takes its messages."""
        topic = interface.topic(TRANSPORTS[str(self.values["image_transport"])])
        return topic, self.image_inputs[topic.type]

    @property
    def image_inputs(self) -> dict[str, Callable[..., None]]:
        """Return the method that takes the messages of an image topic, by their type."""
        return {
            "sensor_msgs/msg/Image": self.submit_image,
            "sensor_msgs/msg/CompressedImage": self.submit_compressed,
            "foxglove_msgs/msg/CompressedImage": self.submit_compressed,
            VIDEO_TYPE: self.submit_video,
        }

    def submit_image(self, message: Any, camera: str = "") -> None:
        """Submit a sensor_msgs/Image."""
        intensity = self._cameras[camera].intensity
        self._submit(message, camera, lambda: grey_from_image(message, self._to_mono8, self._max_pixels, intensity))

    def submit_compressed(self, message: Any, camera: str = "") -> None:
        """Submit a sensor_msgs/CompressedImage or foxglove_msgs/CompressedImage."""
        intensity = self._cameras[camera].intensity
        self._submit(message, camera, lambda: grey_from_compressed(message, self._max_pixels, intensity))

    def submit_video(self, message: Any, camera: str = "") -> None:
        """Submit a foxglove_msgs/CompressedVideo; it is decoded at once, whether its frame is dropped or not."""
        video = self._cameras[camera].video
        try:
            frames = video.decode(message)
        except ImageError as error:
            self.front_end.discard(camera, str(error))
            return
        if video.waiting:
            self.front_end.discard(camera)
        for frame in frames:
            self._submit(frame.message, camera, frame.grey)

    @property
    def _max_pixels(self) -> int:
        return int(self.values["max_pixels"])  # type: ignore[arg-type]

    def _submit(self, message: Any, camera: str, decode: Callable[[], Grey]) -> None:
        state, stamp = self._cameras[camera], image_stamp(message)
        with_header = hasattr(message, "header")
        header = message.header if with_header else self._host.header(message.timestamp, message.frame_id)
        mask = partial(self._mask, state, stamp)
        self._submit_frame(Frame(stamp, decode, camera, header, state.pinhole, mask))

    def submit_mask(self, message: Any, camera: str = "") -> None:
        """Submit a sensor_msgs/Image whose zeros are masked."""
        stamp = stamp_to_ns(message.header.stamp)
        self._cameras[camera].masks.add(stamp, message, self._max_pixels)

    def _mask(self, state: CameraState, stamp: int, size: tuple[int, int]) -> Mask | None:
        return state.masks.mask(stamp, size, self.values)

    def set_camera_info(self, message: Any, camera: str = "") -> None:
        """Use a sensor_msgs/CameraInfo from now on; warn if it is unusable."""
        state, image = self._cameras[camera], self._host.image_topic(camera)
        try:
            rectified = is_rectified(str(self.values["rectified"]), image)
            calibration, reason = Camera.from_message(message, rectified), None
            undistort = self.values["undistort"] == "points" and not rectified
            state.pinhole = None if calibration is None else calibration.pinhole(undistort)
            state.calibration = calibration
        except Exception as error:
            state.calibration, state.pinhole, reason = None, None, format_error(error)
            self._warn(f"{image}: calibration ignored", reason, unexpected(error))
        state.health.set_problem("calibration ignored", reason)
        if self._stereo is not None:
            self._stereo.calibrate(*(self._cameras[name].calibration for name in self._stereo.cameras))

    def report_unreadable(self, topic: str, error: Exception, camera: str = "") -> None:
        """Count and warn about an input message that the host failed to read or process."""
        self._cameras[camera].health.count_problem("unreadable messages", f"{topic}: {format_error(error)}")
        self._warn(f"{topic}: message skipped", format_error(error), unexpected(error))

    def report_incompatible_qos(self, key: str, topic: str, policy: str, camera: str = "") -> None:
        """Warn that another node's endpoint does not match this node's.

        Args:
            key: key of the topic in the table.
            topic: full name of the topic.
            policy: see `qos.explain_mismatch`.
        """
        published = any(key == entry.key for entry in interface.OUTPUTS)
        reason = explain_mismatch(topic, "publisher" if published else "subscription", policy)
        self._warn(f"{topic}: a node's quality of service does not match", reason)
        if key == self.image_input[0].key:
            self._cameras[camera].health.set_problem("image publisher", reason)
        else:
            self._cameras[camera or self.cameras[0]].health.set_value(f"quality of service of {topic}", reason)

    def set_parameters(self, changes: Mapping[str, Any]) -> None:
        """Change parameters, all or none of them.

        Raises:
            ParameterError: in one sentence; nothing is changed.
        """
        values = interface.TABLE.changed(self.values, changes)
        try:
            self.front_end.configure(settings_from_parameters(values))
        except ValueError as error:
            raise interface.ParameterError(str(error)) from error
        self.values = values

    def _create_stereo(self, pair: tuple[str, str], slop: int) -> StereoOutputs:
        health = self._cameras[pair[0]].health
        publish = self._outputs.publish_optional
        stopwatch, adapters = self.front_end.stopwatch, self.adapters
        return StereoOutputs(pair, slop, self._host, self._warn, health, stopwatch, publish, adapters)

    def close(self) -> None:
        """Finish the current frame and stop. Idempotent."""
        self.front_end.close()
        if self._stereo is not None:
            self._stereo.pairing.finish()

    def _publish(self, result: FrameResult) -> None:
        with_pair = () if self._stereo is None else self._stereo.keys_of(result.frame.camera)
        self._outputs.publish(result, str(self.values["descriptor_type"]), with_pair)
        if self._stereo is not None:
            self._stereo.add(result, self.values)

    def _on_problem(self, camera: str, reason: str) -> None:
        self._cameras[camera].health.count_problem(SKIPPED_FRAMES, reason)
        self._warn(f"{self._host.image_topic(camera)}: frame skipped", reason)

    def diagnostics(self) -> list[Diagnostics]:
        """Report the state of each camera since the last call; call it about once a second."""
        return [self._camera_diagnostics(camera) for camera in self.cameras]

    def _camera_diagnostics(self, camera: str) -> Diagnostics:
        runtime, counters = self.front_end.superpoint.runtime, self.front_end.counters_of(camera)
        topic, timeout = self._host.image_topic(camera), float(str(self.values["image_timeout"]))
        level, message, found = self._cameras[camera].health.summarise(counters, topic, timeout)
        values = {name: str(count) for name, count in asdict(counters).items()} | found
        if self._stereo is not None:
            values["frames without a stereo partner"] = str(self._stereo.pairing.unpaired[camera])
        values |= {"device": str(runtime.device), "runtime": runtime.name, "precision": runtime.precision}
        for stage, seconds in self.front_end.stopwatch.medians().items():
            values[f"{stage}, median (ms)"] = f"{seconds * 1e3:.2f}"
        return Diagnostics(f"front end {camera}".rstrip(), level, message, self.label, values)


def stamp_to_ns(stamp: Any) -> int:
    """Convert builtin_interfaces/Time to nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def image_stamp(message: Any) -> int:
    """Return the stamp of an image's message in nanoseconds; those of Foxglove have no header."""
    return stamp_to_ns(message.header.stamp if hasattr(message, "header") else message.timestamp)


def ns_to_stamp(nanoseconds: int) -> tuple[int, int]:
    """Convert nanoseconds to (sec, nanosec) of builtin_interfaces/Time."""
    return divmod(int(nanoseconds), 1_000_000_000)
