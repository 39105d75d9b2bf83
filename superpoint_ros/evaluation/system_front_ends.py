"""Front ends for the same odometry: the detector by its published messages, and trackers of points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from superpoint_ros.evaluation import trackers
from superpoint_ros.evaluation.system_sources import SystemSequence
from superpoint_ros.features import Features, Scene, Status
from superpoint_ros.node import interface, parameters
from superpoint_ros.node.detector import Detector
from superpoint_ros.odometry.messages import frame_from_messages
from superpoint_ros.odometry.values import Frame, Observations

Image = NDArray[np.uint8]
Points = NDArray[np.float64]

LEFT, RIGHT = "left", "right"
ERRORS = {"klt": 0.2, "sift": 0.3}
"""Standard deviation of the points of trackers without covariances, in pixels."""
OTHER_ERROR = 1.0


def frames(spec: str, sequence: SystemSequence, noise: float, disparity_offset: float) -> Iterator[Frame]:
    """Yield what a front end makes of a sequence.

    Args:
        spec: a tracker as `trackers.create` takes it.
        noise, disparity_offset: see `odometry.interface.PARAMETERS`.

    Raises:
        ValueError: in one sentence, if there is no such front end.
    """
    name, _, options = spec.partition(":")
    if name == "superpoint":
        return _published(options, sequence, noise, disparity_offset)
    return _tracked(spec, sequence, noise, disparity_offset)


class _Collector:
    """A host of the detector that keeps the messages of a moment."""

    def __init__(self, image: str) -> None:
        self.messages: dict[tuple[str, str], Any] = {}
        self._image = image

    def subscriber_count(self, key: str, camera: str) -> int:
        return int(key == "stereo_matches")

    def publish(self, key: str, camera: str, header: Any, fields: Mapping[str, Any]) -> None:
        self.messages[key, camera] = SimpleNamespace(header=header, **fields)

    def now(self) -> int:
        return 0

    def warn(self, text: str) -> None:
        raise ValueError(text)

    def header(self, stamp: Any, frame_id: str) -> Any:
        return SimpleNamespace(stamp=stamp, frame_id=frame_id)

    def image_topic(self, camera: str) -> str:
        return f"{camera}/{self._image}".lstrip("/")


def _published(options: str, sequence: SystemSequence, noise: float, disparity_offset: float) -> Iterator[Frame]:
    stereo = sequence.baseline > 0
    given = [
        ":=".join(item.split("=", 1)) if "=" in item else f"weights:={item}" for item in options.split(",") if item
    ]
    values = parameters.read_parameters([], given, f"/{interface.NODE_NAME}").values
    # Stereo sequences are rectified; the others are what their calibration says.
    values |= {"cameras": (LEFT, RIGHT), "stereo": True} if stereo else {}
    host = _Collector("image_rect" if stereo else "image_raw")
    detector = Detector(values, host, live=False)
    left = LEFT if stereo else ""
    detector.set_camera_info(sequence.camera_info(), left)
    if stereo:
        detector.set_camera_info(sequence.camera_info(right=True), RIGHT)
    try:
        for time, images in zip(sequence.times.tolist(), sequence.images(), strict=True):
            host.messages.clear()
            for image, camera in zip(images, (left, RIGHT), strict=True):
                if image is not None:
                    detector.submit_image(_image_message(image, round(time * 1e9) + 1), camera)
            features, homography = (host.messages[key, left] for key in ("features", "matched_homography"))
            pairs = host.messages["stereo_matches", ""] if stereo else None
            yield frame_from_messages(features, homography, pairs, sequence.camera, noise, disparity_offset)
    finally:
        detector.close()


def _image_message(image: Image, stamp: int) -> Any:
    seconds, nanoseconds = divmod(stamp, 10**9)
    header = SimpleNamespace(stamp=SimpleNamespace(sec=seconds, nanosec=nanoseconds), frame_id="camera")
    height, width = image.shape
    return SimpleNamespace(
        header=header, height=height, width=width, encoding="mono8", is_bigendian=0, step=width, data=image.tobytes()
    )


def _tracked(spec: str, sequence: SystemSequence, noise: float, disparity_offset: float) -> Iterator[Frame]:
    tracker, focal = trackers.create(spec), float(sequence.camera.matrix[0, 0])
    error = ERRORS.get(spec.partition(":")[0], OTHER_ERROR)
    position = np.array([sequence.baseline, 0.0, 0.0]) if sequence.baseline > 0 else None
    first = True
    for time, (left, right) in zip(sequence.times.tolist(), sequence.images(), strict=True):
        seen = tracker.process(left, time)
        rays = sequence.camera.rays(seen.points.astype(np.float32))[:, :2].astype(np.float64)
        right_rays = np.full_like(rays, np.nan)
        if right is not None:
            disparity = _disparities(left, right, seen.points) + disparity_offset
            right_rays = rays - np.column_stack((disparity, np.zeros(len(rays)))) / focal
        sigma = np.full(len(rays), np.hypot(error, noise) / focal)
        good: NDArray[np.bool_] = np.isfinite(rays[:, 0])
        observations = Observations(seen.ids, rays, right_rays, sigma).select(good)
        status = Status.FIRST_FRAME if first else Status.OK
        none = Features.empty(left.shape)
        yield Frame(round(time * 1e9) + 1, none, observations, status, Scene.UNKNOWN, focal, spec, position)
        first = False


def _disparities(left: Image, right: Image, points: Points) -> Points:
    """Find points of the left image in the rectified right one by optical flow; NaN where it does not return."""
    if not len(points):
        return np.zeros(0)
    start: Any = points.astype(np.float32).reshape(-1, 1, 2)
    options: dict[str, Any] = {"winSize": (15, 15), "maxLevel": 4}
    there, found, _ = cv2.calcOpticalFlowPyrLK(left, right, start, None, **options)
    back, returned, _ = cv2.calcOpticalFlowPyrLK(right, left, there, None, **options)
    (dx, dy), error = (start - there).reshape(-1, 2).T, np.linalg.norm((back - start).reshape(-1, 2), axis=1)
    good = (found.ravel() > 0) & (returned.ravel() > 0) & (error < 0.5) & (np.abs(dy) < 2) & (dx > 0.1)
    return np.where(good, dx, np.nan).astype(np.float64)
