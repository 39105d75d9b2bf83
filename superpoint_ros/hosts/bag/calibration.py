"""The calibration of a recorded camera."""

from __future__ import annotations

from pathlib import Path

from superpoint_ros.hosts.bag.reading import open_recording
from superpoint_ros.hosts.bag.recording import as_ros2, topic_next_to
from superpoint_ros.node.camera import Camera, is_rectified


def read_calibration(path: str | Path, topic: str = "") -> Camera | None:
    """Read the first camera_info next to an image topic; None if there is none, or the camera is not calibrated.

    Args:
        topic: may be empty if the recording has only one image topic.

    Raises:
        ValueError: in one sentence, if the recording cannot be read, the topic is not in it, or the calibration cannot
            be used.
    """
    with open_recording(path) as recording:
        topic = recording.image_topic(topic)
        name = topic_next_to(topic, "camera_info", recording)
        for _, _, message in recording.messages(name) if name else ():
            return Camera.from_message(as_ros2(message), is_rectified("auto", topic))
    return None
