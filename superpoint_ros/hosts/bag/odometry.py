"""Run the odometry on what the detector published into a recording."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from superpoint_ros.hosts.bag.reading import Recording
from superpoint_ros.hosts.bag.writing import BagWriter
from superpoint_ros.hosts.wire import messages
from superpoint_ros.io.files import write_text
from superpoint_ros.node.errors import StandaloneError
from superpoint_ros.node.names import NameRules, parse_remappings
from superpoint_ros.node.parameters import read_parameters
from superpoint_ros.odometry import interface
from superpoint_ros.odometry.node import OdometryNode

_log = logging.getLogger(__name__)

WRITTEN = ("odometry", "path", "tf")
"""Outputs that are written to a bag."""


class RecordingOdometry:
    """The node `superpoint_odometry` on a recording of the detector's outputs.

    Poses are recorded at the time of the last message of their moment, the path once at the end. After `close` the
    written files are readable, even if the work was interrupted.

    Args:
        recording: with features and what else `odometry.interface.INPUTS` lists. A topic may be in another namespace,
            and the camera_info may have any name, if there is only one.
        calibration: another recording, from which the first camera_info is taken.
        trajectory: file to write at the end in TUM's format: stamp x y z qx qy qz qw of every pose of the base frame.
        out: folder of a bag to write; must not exist.
        storage: one of `writing.STORAGES`.
        params_files, assignments, remappings: see `dds.standalone.StandaloneNode`.

    Attributes:
        topics: names in the recording by the keys of the inputs; without `camera_info` if it is from another recording.
        odometry: the node itself.
        length: of the path, in its unit.

    Raises:
        ValueError: in one sentence, if any of these is invalid, a topic is missing, or a file cannot be written.
    """

    def __init__(
        self,
        recording: Recording,
        calibration: Recording | None = None,
        trajectory: str | Path | None = None,
        out: str | Path | None = None,
        storage: str = "mcap",
        params_files: Sequence[str | Path] = (),
        assignments: Sequence[str] = (),
        remappings: Sequence[str] = (),
    ) -> None:
        self._names = NameRules(interface.NODE_NAME, remappings=parse_remappings(remappings))
        parameters = read_parameters(params_files, assignments, self._names.full_name, interface.PARAMETERS)
        if parameters.warning:
            self.warn(parameters.warning)
        self.odometry = OdometryNode(parameters.values, self, live=False)
        self._recording, self._calibration = recording, calibration
        self.topics = {
            key: name
            for key in self.odometry.inputs
            if not (key == "camera_info" and calibration) and (name := self._find(key, recording))
        }
        self.length, self._before = 0.0, np.zeros(0)
        self._stamp = 0
        self._lines: list[str] = []
        self._trajectory = Path(trajectory) if trajectory else None
        if self._trajectory is not None and not self._trajectory.parent.is_dir():
            raise StandaloneError(f"trajectory '{trajectory}' cannot be written: its folder does not exist")
        outputs = [interface.topic(key) for key in WRITTEN]
        names = {topic.key: (self._names.resolve(topic.name), topic.type) for topic in outputs}
        self._writer = BagWriter(out, storage, names) if out else None

    def _find(self, key: str, recording: Recording) -> str:
        """Find an input topic: of its name, of its name in any namespace, or the only calibration."""
        topic = self.odometry.inputs[key]
        name = self._names.resolve(topic.name)
        held = sorted(found for found, type_ in recording.types.items() if type_ == topic.type)
        if name in held:
            return name
        for fitting in ([each for each in held if each.endswith(name)], held if key == "camera_info" else []):
            if len(fitting) == 1:
                return fitting[0]
        if key == "speed":
            return ""
        others = f", those of its type are {', '.join(held)}" if held else " and no other of its type"
        raise StandaloneError(f"bag '{recording.path}' contains no topic {name}{others}")

    def run(self) -> Iterator[None]:
        """Process the recording; yield after each message of features."""
        recording, keys = self._recording, {name: key for key, name in self.topics.items()}
        source = self._calibration or recording
        # Use it from the first frame on, which may precede it in the recording.
        for _, _, message in source.messages(self.topics.get("camera_info") or self._find("camera_info", source)):
            self.odometry.submit("camera_info", message)
            break
        for name, self._stamp, message in recording.messages(*keys):
            self.odometry.submit(keys[name], message)
            if self._writer is not None:
                self._writer.check()
            if keys[name] == "features":
                yield

    def close(self) -> None:
        """Finish the files.

        Raises:
            ValueError, OSError: in one sentence, if one cannot be written; the other is finished in any case.
        """
        with ExitStack() as stack:
            if self._trajectory is not None:
                stack.callback(write_text, self._trajectory, "".join(self._lines))
            if self._writer is not None:
                stack.callback(self._writer.close)
                if self.odometry.path["poses"]:
                    self._write("path", self.odometry.path)

    # The `Host` protocol

    def subscriber_count(self, key: str) -> int:
        return int(key != "path" and self._writer is not None)

    def publish(self, key: str, fields: Mapping[str, Any]) -> None:
        if key == "odometry":
            self._add_pose(fields["header"]["stamp"], fields["pose"]["pose"])
        if self._writer is not None:
            self._write(key, fields)

    def warn(self, text: str) -> None:
        _log.warning("%s", text)

    def input_name(self, key: str) -> str:
        return self.topics.get(key) or self._names.resolve(self.odometry.inputs[key].name)

    def _write(self, key: str, fields: Mapping[str, Any]) -> None:
        assert self._writer is not None
        self._writer.write(key, self._stamp, messages.create_message(interface.topic(key).type, None, fields))

    def _add_pose(self, stamp: int, pose: Mapping[str, Mapping[str, float]]) -> None:
        position = np.array(list(pose["position"].values()))
        if len(self._before):
            self.length += float(np.linalg.norm(position - self._before))
        self._before = position
        if self._trajectory is not None:
            seconds, nanoseconds = divmod(stamp, 10**9)
            numbers = " ".join(f"{value:.9g}" for part in ("position", "orientation") for value in pose[part].values())
            self._lines.append(f"{seconds}.{nanoseconds:09d} {numbers}\n")
