"""Trackers of points: the front end, optical flow, and chained descriptor matches."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from superpoint_ros.evaluation import methods
from superpoint_ros.evaluation.metrics import descriptor_distances, mutual_matches
from superpoint_ros.evaluation.tracks import Observation
from superpoint_ros.frontend.tracking import TrackIds
from superpoint_ros.io.images import to_grey
from superpoint_ros.node import interface, parameters
from superpoint_ros.two_view.geometry import inside

Image = NDArray[np.uint8]


class Tracker(Protocol):
    """Tracks points through the frames of one sequence.

    Attributes:
        name: its name in tables.
    """

    name: str

    def settings(self) -> dict[str, Any]:
        """Return everything that affects the tracks except the images, JSON-serialisable."""

    def process(self, image: Image, time: float) -> Observation:
        """Process the next frame, an (H, W) or (H, W, 3) BGR uint8 image at a time in seconds."""


class FrontEndTracker:
    """The package's front end, as in the node, but without dropping frames.

    Args:
        name: in tables.
        values: parameters of the node by name; missing ones have their defaults.

    Raises:
        ValueError: in one sentence, if a parameter is unknown or has an invalid value.
    """

    def __init__(self, name: str = "superpoint", values: Mapping[str, Any] | None = None) -> None:
        from superpoint_ros.frontend.frontend import FrontEnd
        from superpoint_ros.node.settings import settings_from_parameters, superpoint_from_parameters

        self.name = name
        self._values = interface.checked(values or {})
        if not {**interface.defaults(), **self._values}["tracking"]:
            raise ValueError("parameter 'tracking' is false, allowed for tracks is true")
        superpoint = superpoint_from_parameters(self._values)
        self._sha256 = superpoint.weights.sha256
        self._runtime = superpoint.runtime
        self._front_end = FrontEnd(superpoint, settings_from_parameters(self._values), on_problem=_warn)
        self._frames: dict[int, int] = {}

    def settings(self) -> dict[str, Any]:
        """See `Tracker`."""
        return {
            "parameters": dict(self._values),
            "weights_sha256": self._sha256,
            "runtime": self._runtime.name,
            "precision": self._runtime.precision,
        }

    def process(self, image: Image, time: float) -> Observation:
        """See `Tracker`."""
        from superpoint_ros.frontend.frames import Frame

        stamp = round(time * 1e9) + 1  # 0 stands for no frame
        self._frames[stamp] = len(self._frames)
        result = self._front_end.process(Frame(stamp, lambda: image))
        if result is None:
            return Observation.empty()
        features, matches = result.features, result.matches
        before, here = result.points
        return Observation(
            features.keypoints.astype(float),
            result.track_ids,
            _float(features.covariance),
            result.coasted,
            -1 if result.reference is None else self._frames[result.reference_stamp],
            before.astype(float),
            here.astype(float),
            _float(matches.covariance),
        )


class KLTTracker:
    """Shi-Tomasi corners tracked by pyramidal Lucas-Kanade, with new corners added in every frame.

    A point is lost if forward and backward flow do not return to it. This is the usual front end of visual-inertial
    odometry (VINS, OpenVINS).

    Args:
        most: maximum number of points.
        distance: minimum distance of a new point from all others, in pixels.
        window: side of the flow's window in pixels.
        back: maximum forward-backward error, in pixels.
    """

    name = "klt"

    def __init__(self, most: int = 1000, distance: int = 8, window: int = 21, back: float = 0.5) -> None:
        self._numbers = {"most": most, "distance": distance, "window": window, "back": back, "levels": 3}
        self._before: Image | None = None
        self._points = np.zeros((0, 2), np.float32)
        self._ids = np.zeros(0, np.int64)
        self._next = 0
        self._frame = -1

    def settings(self) -> dict[str, Any]:
        """See `Tracker`."""
        return {**self._numbers, "opencv": cv2.__version__}

    def process(self, image: Image, time: float) -> Observation:
        """See `Tracker`."""
        grey = to_grey(image)
        start, followed = self._points, self._points
        if self._before is not None and self._before.shape == grey.shape and len(start):
            followed, good = self._flow(self._before, grey, start)
            start, followed, self._ids = start[good], followed[good], self._ids[good]
        else:
            start = followed = np.zeros((0, 2), np.float32)
            self._ids = self._ids[:0]
        fresh = self._corners(grey, followed)
        self._points = np.concatenate((followed, fresh))
        self._ids = np.concatenate((self._ids, np.arange(self._next, self._next + len(fresh))))
        self._next += len(fresh)
        self._before = grey
        self._frame += 1
        return Observation(
            self._points.astype(float),
            self._ids,
            None,
            None,
            self._frame - 1,
            start.astype(float),
            followed.astype(float),
            None,
        )

    def _flow(self, first: Image, second: Image, points: NDArray[np.float32]) -> tuple[Any, NDArray[np.bool_]]:
        size = self._numbers["window"], self._numbers["window"]
        options: dict[str, Any] = {
            "winSize": size,
            "maxLevel": self._numbers["levels"],
            "criteria": (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 30, 0.01),
        }
        there, found, _ = cv2.calcOpticalFlowPyrLK(first, second, points, None, **options)
        back, returned, _ = cv2.calcOpticalFlowPyrLK(second, first, there, None, **options)
        good = (found.ravel() > 0) & (returned.ravel() > 0)
        good &= np.linalg.norm(back - points, axis=1) <= self._numbers["back"]
        return there, good & inside(there, second.shape)

    def _corners(self, grey: Image, taken: NDArray[np.float32]) -> NDArray[np.float32]:
        """Detect new corners away from existing points."""
        wanted = int(self._numbers["most"]) - len(taken)
        if wanted <= 0:
            return np.zeros((0, 2), np.float32)
        mask = np.full(grey.shape, 255, np.uint8)
        for x, y in np.rint(taken).astype(int).tolist():
            cv2.circle(mask, (x, y), int(self._numbers["distance"]), 0, -1)
        found = cv2.goodFeaturesToTrack(grey, wanted, 0.01, self._numbers["distance"], mask=mask)
        return np.zeros((0, 2), np.float32) if found is None else found.reshape(-1, 2).astype(np.float32)


class ChainedMatches:
    """Keypoints of a method with descriptors, whose mutual nearest neighbours between frames are chained to tracks.

    Args:
        spec: method for `superpoint_ros.evaluation.methods.create`, such as orb or sift.
        most: maximum number of keypoints per frame.
        nms_radius: radius of their non-maximum suppression, in pixels.

    Raises:
        ValueError: in one sentence, if there is no such method.
    """

    def __init__(self, spec: str, most: int = 1000, nms_radius: int = 4) -> None:
        self._method = methods.create(spec)
        self.name = spec
        self._most, self._radius = most, nms_radius
        self._before: methods.Detection | None = None
        self._ids, self._track_ids = np.zeros(0, np.int64), TrackIds()
        self._frame = -1

    def settings(self) -> dict[str, Any]:
        """See `Tracker`."""
        return {**self._method.settings(), "most": self._most, "nms_radius": self._radius}

    def process(self, image: Image, time: float) -> Observation:
        """See `Tracker`."""
        found = self._method.detect(to_grey(image), self._most, self._radius)
        if found.descriptors is None:
            raise ValueError(
                f"method '{self.name}' has no descriptors, allowed for tracks is a method with descriptors"
            )
        before, self._before = self._before, found
        self._frame += 1
        pairs = np.zeros((0, 2), np.int64)
        if before is not None and before.descriptors is not None and len(before) and len(found):
            pairs = mutual_matches(descriptor_distances(before.descriptors, found.descriptors))
        ids = np.full(len(found), -1)
        ids[pairs[:, 1]] = self._ids[pairs[:, 0]]
        new = ids < 0
        ids[new] = self._track_ids.begin(int(np.count_nonzero(new))).ids
        self._ids = ids
        start = np.zeros((0, 2)) if before is None else before.keypoints[pairs[:, 0]].astype(float)
        here = found.keypoints.astype(float)
        return Observation(here, ids, None, None, self._frame - 1, start, here[pairs[:, 1]], None)


def create(spec: str, values: Mapping[str, Any] | None = None) -> Tracker:
    """Create a tracker from its specification.

    Args:
        spec: klt; superpoint, optionally followed by `:` and weights or parameters of the node, separated by commas
            (`superpoint:light,homography.align=false`); or any method with descriptors.
        values: parameters of the node, for superpoint; those in `spec` override them.

    Raises:
        ValueError: in one sentence, if there is no such tracker or it does not take these options.
    """
    name, _, rest = spec.partition(":")
    if name == "superpoint":
        return FrontEndTracker(spec, {**(values or {}), **parse_options(rest.split(",") if rest else [])})
    if spec == "klt":
        return KLTTracker()
    if name in ("klt", "magicpoint", "fast", "harris", "shi"):
        allowed = "klt, superpoint[:WEIGHTS,NAME=VALUE], sift, orb, akaze, or package.module:Class with descriptors"
        raise ValueError(f"method '{spec}' produces no tracks, allowed is {allowed}")
    return ChainedMatches(spec)


def parse_options(items: Sequence[str]) -> dict[str, Any]:
    """Parse the options of superpoint: weights, and NAME=VALUE for parameters of the node.

    Raises:
        ValueError: in one sentence, if a parameter is unknown or has an invalid value.
    """
    texts = [":=".join(item.split("=", 1)) if "=" in item else f"weights:={item}" for item in items]
    return parameters.read_parameters([], texts, f"/{interface.NODE_NAME}").values


def _float(values: Any) -> NDArray[np.float64] | None:
    return None if values is None else np.asarray(values, float)


def _warn(camera: str, reason: str) -> None:
    warnings.warn(f"a frame was skipped: {reason}", stacklevel=2)
