"""Host 4: the detector on images in this process, for evaluations and viewers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace, TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.node.camera import PINHOLE, Camera
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
        values: parameters of the node by name; `cameras` and `stereo` are as `baseline` says.
        camera: calibration of the (left) camera, or None.
        baseline: distance of the right camera of a rectified stereo pair in metres; 0 for a single camera.

    Raises:
        ValueError: in one sentence, if a parameter is invalid or weights, device or runtime are unavailable.
    """

    def __init__(self, values: Mapping[str, Any], camera: Camera | None = None, baseline: float = 0.0) -> None:
        self._messages: dict[tuple[str, str], Any] = {}
        rig = {"cameras": (LEFT, RIGHT), "stereo": True} if baseline else {}
        self._left = LEFT if rig else ""
        self._image = "image_rect" if rig else "image_raw"
        self._detector = Detector({**values, "cameras": ("",), "stereo": False, **rig}, self, live=False)
        if camera is not None:
            self._detector.set_camera_info(_camera_info(camera, 0.0), self._left)
            if rig:
                self._detector.set_camera_info(_camera_info(camera, baseline), RIGHT)

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


def _camera_info(camera: Camera, baseline: float) -> Any:
    """Create what has the fields of sensor_msgs/CameraInfo."""
    projection = np.column_stack((camera.projection, np.zeros(3)))
    projection[0, 3] = -camera.projection[0, 0] * baseline
    height, width = camera.image_size
    return SimpleNamespace(
        height=height,
        width=width,
        distortion_model="plumb_bob" if camera.model == PINHOLE else camera.model,
        d=camera.distortion,
        k=camera.matrix.reshape(-1),
        r=camera.rotation.reshape(-1),
        p=projection.reshape(-1),
        binning_x=0,
        binning_y=0,
        roi=SimpleNamespace(x_offset=0, y_offset=0, height=0, width=0, do_rectify=False),
    )


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
