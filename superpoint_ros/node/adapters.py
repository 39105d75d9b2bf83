"""What fills the topics of the adapters, the outputs in the forms of other systems."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from superpoint_ros.adapters import foxglove
from superpoint_ros.frontend.frames import FrameResult
from superpoint_ros.node.camera import Camera


def _image_annotations(result: FrameResult, calibration: Camera | None) -> Mapping[str, Any]:
    return foxglove.image_annotations(result)


CONVERSIONS: Mapping[str, Callable[[FrameResult, Camera | None], Mapping[str, Any]]] = {
    "image_annotations": _image_annotations,
}
"""The fields of a topic's message from the result of a frame and the camera's calibration, by key of the topic.

Nested messages are dictionaries; lists of them are lists of dictionaries or (N, fields) arrays, a row for each; times
are nanoseconds. A ValueError says in one sentence why there is no message, which is warned about.
"""
