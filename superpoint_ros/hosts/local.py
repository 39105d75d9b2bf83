"""Host 4: the detector on images in this process, for evaluations and viewers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace, TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.node.detector import Detector

Image = NDArray[np.uint8]

LEFT, RIGHT = "left", "right"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Moment:
    """What the node publishes for an image or a stereo pair: messages as objects with the fields of their types.

    Attributes:
        stereo: None for a single camera, or if the pair could not be matched.
    """

    features: Any
    homography: Any
    stereo: Any | None


class LocalDetector:
    """The node on images that are handed to it one by one; none is dropped.

    Args:
        values: parameters of the node by name, except `cameras` and `stereo`.
        calibration: sensor_msgs/CameraInfo of the (left) camera, or None.
        right: that of the right camera, which makes a stereo pair.
        rectified: the images are rectified.

    Raises:
        ValueError: in one sentence, if a parameter is invalid or weights, device or runtime are unavailable.
    """

    def __init__(
        self, values: Mapping[str, Any], calibration: Any = None, right: Any = None, rectified: bool = False
    ) -> None:
        self._messages: dict[tuple[str, str], Any] = {}
        self._image = "image_rect" if rectified else "image_raw"
        rig = {"cameras": (LEFT, RIGHT), "stereo": True} if right is not None else {}
        self._left = LEFT if rig else ""
        self._detector = Detector({**values, **rig}, self, live=False)
        for message, camera in ((calibration, self._left), (right, RIGHT)):
            if message is not None:
                self._detector.set_camera_info(message, camera)

    def process(self, stamp: int, image: Image, right: Image | None = None) -> Moment | None:
        """Process a (H, W) grey image, or a pair; return None if the image cannot be used.

        Args:
            stamp: nanoseconds, above zero.
        """
        self._messages.clear()
        for each, camera in ((image, self._left), (right, RIGHT)):
            if each is not None:
                self._detector.submit_image(_image_message(each, stamp), camera)
        features, homography = (self._messages.get((key, self._left)) for key in ("features", "matched_homography"))
        if features is None or homography is None:
            return None
        return Moment(features, homography, self._messages.get(("stereo_matches", "")))

    def close(self) -> None:
        """Stop. Idempotent."""
        self._detector.close()

    def __enter__(self) -> LocalDetector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # The `Host` protocol

    def subscriber_count(self, key: str, camera: str) -> int:
        return int(key == "stereo_matches")

    def publish(self, key: str, camera: str, header: Any, fields: Mapping[str, Any]) -> None:
        self._messages[key, camera] = SimpleNamespace(header=header, **fields)

    def now(self) -> int:
        return 0

    def warn(self, text: str) -> None:
        _log.warning("%s", text)

    def header(self, stamp: Any, frame_id: str) -> Any:
        return SimpleNamespace(stamp=stamp, frame_id=frame_id)

    def image_topic(self, camera: str) -> str:
        return f"{camera}/{self._image}".lstrip("/")


def _image_message(image: Image, stamp: int) -> Any:
    seconds, nanoseconds = divmod(stamp, 10**9)
    height, width = image.shape
    return SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(sec=seconds, nanosec=nanoseconds), frame_id="camera"),
        height=height,
        width=width,
        encoding="mono8",
        is_bigendian=0,
        step=width,
        data=np.ascontiguousarray(image).tobytes(),
    )
