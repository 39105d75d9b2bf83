"""Run the detector on every frame of a recording, and write what the node would publish to another."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from superpoint_ros.frontend.frames import Counters
from superpoint_ros.hosts.bag.reading import Recording
from superpoint_ros.hosts.bag.writing import BagWriter
from superpoint_ros.hosts.wire import messages
from superpoint_ros.node import interface
from superpoint_ros.node.detector import Detector, image_stamp, stamp_to_ns
from superpoint_ros.node.errors import StandaloneError
from superpoint_ros.node.names import NameRules, parse_remappings
from superpoint_ros.node.parameters import read_parameters
from superpoint_ros.node.topics import SUFFIXES, VIDEO_TYPE, without_transport
from superpoint_ros.node.video import require_decoder

_log = logging.getLogger(__name__)

ALWAYS = ("features", "matched_homography", "stereo_matches")
"""Outputs that are written in any case, as are those of adapters; the last one if there is a stereo pair."""
OPTIONAL = ("keypoints_cloud", "image_annotated")


class RecordingDetector:
    """The node `superpoint_detector` on a recording, which drops no frames.

    Results are recorded at the time of their image, and the camera_info next to an image topic is copied. After `close`
    the written bag is readable, even if the work was interrupted.

    Args:
        recording: the recording to process.
        topics: image topics, one for each camera in the order of parameter `cameras`. If empty, a single camera takes
            the only image topic, and each of several the topic that the node would subscribe to, with its transport.
        out: folder of the bag to write; must not exist.
        keys: output topics of `OPTIONAL` to write in addition to `ALWAYS`.
        storage: one of `writing.STORAGES`.
        params_files, assignments, remappings: see `dds.standalone.StandaloneNode`.

    Raises:
        ValueError: in one sentence, if any of these is invalid, or if `out` exists.
    """

    def __init__(
        self,
        recording: Recording,
        topics: Sequence[str],
        out: str | Path,
        keys: Iterable[str] = (),
        storage: str = "mcap",
        params_files: Sequence[str | Path] = (),
        assignments: Sequence[str] = (),
        remappings: Sequence[str] = (),
    ) -> None:
        self._names = NameRules(interface.NODE_NAME, remappings=parse_remappings(remappings))
        parameters = read_parameters(params_files, assignments, self._names.full_name)
        if parameters.warning:
            self.warn(parameters.warning)
        cameras = {**interface.defaults(), **parameters.values}["cameras"]
        assert isinstance(cameras, tuple)
        self._recording = recording
        self._inputs = self._find_images(cameras, topics)
        if VIDEO_TYPE in map(recording.types.get, self._inputs.values()):
            require_decoder()
        self._detector = Detector(parameters.values, self, live=False)
        written = {*ALWAYS, *keys}
        outputs: dict[Any, tuple[str, str]] = {
            place: (self._names.resolve(topic.name), topic.type)
            for place, topic in self._detector.outputs.items()
            if place[0] in written or topic.adapter
        }
        self._calibrations = self._find_calibrations()
        info = interface.topic("camera_info").type
        self._stamp = 0
        self._writer = BagWriter(out, storage, outputs | {name: (name, info) for name in self._calibrations})

    @property
    def counters(self) -> Counters:
        """Return the counts of frames so far."""
        return self._detector.front_end.counters

    @property
    def unpaired(self) -> int | None:
        """Return the number of frames without a stereo partner so far; None without stereo."""
        return self._detector.unpaired

    @property
    def topics(self) -> tuple[str, ...]:
        """Return the image topics in the order of the cameras."""
        return tuple(self._inputs.values())

    def _find_images(self, cameras: Sequence[str], names: Sequence[str]) -> dict[str, str]:
        recording = self._recording
        if not names and len(cameras) > 1:
            images = [self._names.resolve(interface.topic("image").for_camera(camera).name) for camera in cameras]
            names = [self._with_transport(image) for image in images]
        names = names or [""]
        if len(names) != len(cameras):
            several = f" of parameter 'cameras': {', '.join(cameras)}" if len(cameras) > 1 else ""
            raise StandaloneError(f"{len(names)} image topics are named, allowed is one for each camera{several}")
        if len(set(names)) < len(names):
            raise StandaloneError(f"two cameras have the same image topic, they are {', '.join(names)}")
        return {camera: recording.image_topic(name) for camera, name in zip(cameras, names, strict=True)}

    def _with_transport(self, image: str) -> str:
        """Return the image topic of this name or, if it is not in the recording, the one of a transport."""
        return next((image + suffix for suffix in SUFFIXES if image + suffix in self._recording.types), image)

    def _find_calibrations(self) -> dict[str, list[str]]:
        """List the cameras of each topic of camera_info."""
        found: dict[str, list[str]] = {}
        for camera, topic in self._inputs.items():
            found.setdefault(topic_next_to(topic, "camera_info", self._recording), []).append(camera)
        found.pop("", None)
        return found

    def run(self) -> Iterator[None]:
        """Process the image topic of each camera with the camera_info next to it, if any; yield after each image."""
        recording = self._recording
        for name, cameras in self._calibrations.items():
            # Use it from the first image on, which may precede it in the recording.
            for _, _, message in recording.messages(name):
                self._calibrate(cameras, message)
                break
        # A mask is often recorded after the image that it is made from.
        names = {camera: topic_next_to(topic, "mask", recording) for camera, topic in self._inputs.items()}
        with ExitStack() as stack:
            masks = {
                camera: _Ahead(stack.enter_context(recording.reopened()).messages(name))
                for camera, name in names.items()
                if name
            }
            yield from self._process(masks)

    def _process(self, masks: Mapping[str, _Ahead]) -> Iterator[None]:
        recording, detector, calibrations = self._recording, self._detector, self._calibrations
        cameras = {topic: camera for camera, topic in self._inputs.items()}
        for name, self._stamp, message in recording.messages(*cameras, *calibrations):
            if name in calibrations:
                self._calibrate(calibrations[name], message)
                copy = messages.create_message(interface.topic("camera_info").type, None, vars(as_ros2(message)))
                self._writer.write(name, self._stamp, copy)
                continue
            camera, stamp = cameras[name], image_stamp(message)
            for earlier in masks[camera].until(stamp) if camera in masks else ():
                detector.submit_mask(as_ros2(earlier), camera)
            detector.image_inputs[recording.types[name]](as_ros2(message), camera)
            # To the front end a failure of the writer is one of a frame, but it ends the run.
            self._writer.check()
            yield

    def _calibrate(self, cameras: Sequence[str], message: Any) -> None:
        for camera in cameras:
            self._detector.set_camera_info(as_ros2(message), camera)

    def close(self) -> None:
        """Finish the bag with its index."""
        self._detector.close()
        self._writer.close()

    # The `Host` protocol

    def subscriber_count(self, key: str, camera: str) -> int:
        return int((key, camera) in self._writer)

    def publish(self, key: str, camera: str, header: Any, values: Mapping[str, Any]) -> None:
        type_name = interface.topic(key).type
        if key == "keypoints_cloud":
            message = messages.cloud_message(header, values["points"])
        else:
            message = messages.create_message(type_name, header, values)
        self._writer.write((key, camera), self._stamp, message)

    def now(self) -> int:
        return self._stamp

    def warn(self, text: str) -> None:
        _log.warning("%s", text)

    def header(self, stamp: Any, frame_id: str) -> Any:
        return messages.header_message(stamp_to_ns(stamp), frame_id)

    def image_topic(self, camera: str) -> str:
        return self._inputs[camera]


def as_ros2(message: Any) -> Any:
    """Convert a message of either ROS version to ROS 2's fields.

    In ROS 1 headers have a sequence number, and the matrices of a calibration have upper-case names.
    """
    values = {one.name.lower(): getattr(message, one.name) for one in fields(message)}
    if "header" in values:
        values["header"] = messages.header_message(stamp_to_ns(message.header.stamp), message.header.frame_id)
    return SimpleNamespace(**values)


class _Ahead:
    """Reads messages of one topic in the order of their headers' stamps, ahead of the rest of the recording."""

    def __init__(self, messages: Iterator[tuple[str, int, Any]]) -> None:
        self._messages, self._next = messages, None

    def until(self, stamp: int) -> Iterator[Any]:
        """Yield the messages up to a stamp in nanoseconds."""
        while True:
            if self._next is None:
                self._next = next((message for _, _, message in self._messages), None)
            if self._next is None or stamp_to_ns(self._next.header.stamp) > stamp:
                return
            message, self._next = self._next, None
            yield message


def topic_next_to(topic: str, key: str, recording: Recording) -> str:
    """Find the topic `key` next to an image topic, as image_transport names camera_info; empty if there is none."""
    name = without_transport(topic).rpartition("/")[0] + f"/{key}"
    return name if recording.types.get(name) == interface.topic(key).type and recording.count(name) else ""
