"""FrontEnd: frames in, features and matched homographies out, always from the newest frame."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.features import Features, Homography, Matches, Status
from superpoint_ros.homography import estimate_homography
from superpoint_ros.matching import match
from superpoint_ros.settings import FrontEndSettings
from superpoint_ros.superpoint import SuperPoint
from superpoint_ros.timing import Stopwatch
from superpoint_ros.tracking import Tracks

_log = logging.getLogger(__name__)

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Frame:
    """An image on its way in.

    Attributes:
        stamp: nanoseconds.
        decode: gives the image, (H, W) grey or (H, W, 3) BGR uint8; called in the worker, and only if the frame is
            processed. A ValueError says in one sentence why there is none.
        camera: whose it is.
        context: handed through to the result, for the host (the message's header, say).
    """

    stamp: int
    decode: Callable[[], Image]
    camera: str = "image"
    context: Any = None


@dataclass(frozen=True)
class FrameResult:
    """What became of a frame.

    Attributes:
        frame: as it was submitted.
        image: as it was decoded.
        features: of this image.
        track_ids: (N,) int64, one for each keypoint; empty where tracking is off.
        reference: features of the frame before, against which was matched; None where there is none.
        reference_stamp: its stamp in nanoseconds, 0 where there is none.
        matches: from `reference` to `features`.
        homography: from `reference` to this image, with a status.
    """

    frame: Frame
    image: Image
    features: Features
    track_ids: NDArray[np.int64]
    reference: Features | None
    reference_stamp: int
    matches: Matches
    homography: Homography


@dataclass(frozen=True)
class Counters:
    """Frames received = processed + dropped + failed + those still waiting or in work.

    `dropped` were replaced by a newer frame before their turn, or had a stamp that repeats; `failed` could not be
    decoded, processed or published.
    """

    received: int = 0
    processed: int = 0
    dropped: int = 0
    failed: int = 0


@dataclass
class _Camera:
    """The state of one camera between frames."""

    stamp: int | None = None
    features: Features | None = None
    image: Image | None = None
    tracks: Tracks = field(default_factory=Tracks)


class FrontEnd:
    """Runs SuperPoint on the newest frame of each camera and relates it to the frame processed before.

    Use `process` to handle frames one by one in the caller's thread, or `start`, `submit` and `close` for a live
    stream: one slot per camera holds the newest frame, one worker thread empties the slots in turn, and a frame that
    is replaced while it waits counts as dropped. So a slow network lowers the rate and never builds a backlog.

    Args:
        superpoint: the extractor; the front end owns its settings from now on.
        settings: None for the defaults.
        on_result: called in the worker with every result, in stamp order per camera.
        on_problem: called with camera and one sentence for every frame that is not processed because of itself.
    """

    def __init__(
        self,
        superpoint: SuperPoint,
        settings: FrontEndSettings | None = None,
        on_result: Callable[[FrameResult], None] | None = None,
        on_problem: Callable[[str, str], None] | None = None,
    ) -> None:
        self.superpoint = superpoint
        self.stopwatch = Stopwatch()
        self._on_result = on_result or (lambda result: None)
        self._on_problem = on_problem or (lambda camera, reason: _log.warning("%s: %s", camera, reason))
        self._cameras: dict[str, _Camera] = {}
        self._slots: dict[str, Frame] = {}  # in order of arrival of each camera's first waiting frame
        self._counters = Counters()
        self._change = threading.Condition()
        self._worker: threading.Thread | None = None
        self._closing = False
        self.configure(settings or FrontEndSettings.from_parameters({}))

    def configure(self, settings: FrontEndSettings) -> None:
        """Use other settings, all from the next frame on; from any thread. ValueError leaves them as they were."""
        self.superpoint.check(**settings.extraction)
        self.settings = settings

    @property
    def counters(self) -> Counters:
        """A snapshot of the counters."""
        with self._change:
            return self._counters

    def start(self) -> None:
        """Start the worker thread."""
        if self._worker is not None:
            raise RuntimeError("the front end has been started before")
        self._worker = threading.Thread(target=self._work, name="superpoint front end", daemon=True)
        self._worker.start()

    def submit(self, frame: Frame) -> None:
        """Hand in a frame; returns at once."""
        with self._change:
            if self._closing:
                return
            replaced = frame.camera in self._slots
            self._slots[frame.camera] = frame
            self._count(received=1, dropped=int(replaced))
            self._change.notify_all()

    def drain(self, timeout: float = 10.0) -> bool:
        """Wait until no frame is waiting or in work; whether that came true within `timeout` seconds."""
        with self._change:
            return self._change.wait_for(lambda: not self._slots and self._idle_counts(), timeout)

    def close(self, timeout: float = 10.0) -> None:
        """Finish the frame in work, count waiting ones as dropped and stop the worker. Safe to call again."""
        with self._change:
            self._closing = True
            self._count(dropped=len(self._slots))
            self._slots.clear()
            self._change.notify_all()
        if self._worker is not None and self._worker is not threading.current_thread():
            self._worker.join(timeout)

    def reset(self, camera: str = "image") -> None:
        """Forget a camera's previous frame: the next one gets the status FIRST_FRAME."""
        with self._change:
            if camera in self._cameras:
                # The tracks stay, so that no id is given twice.
                self._cameras[camera] = _Camera(tracks=self._cameras[camera].tracks)

    def process(self, frame: Frame) -> FrameResult | None:
        """Handle one frame now, in this thread; None if it had to be left out, which `on_problem` is told."""
        with self._change:
            self._count(received=1)
        return self._handle(frame)

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._closing or self._slots)
                if self._closing:
                    return
                frame = self._slots.pop(next(iter(self._slots)))
            self._handle(frame)

    def _handle(self, frame: Frame) -> FrameResult | None:
        with self._change:
            camera = self._cameras.setdefault(frame.camera, _Camera())
        if frame.stamp == camera.stamp:
            self._leave_out(frame, "the stamp repeats that of the frame before", dropped=1)
            return None
        try:
            result = self._result(frame, camera)
        except Exception as error:
            self._leave_out(frame, self._reason(frame, error), failed=1)
            return None
        try:
            with self.stopwatch.stage("publish"):
                self._on_result(result)
        except Exception as error:
            # Nobody has seen this frame, so the next one must not refer to it.
            self.reset(frame.camera)
            self._leave_out(frame, self._reason(frame, error), failed=1)
            return None
        with self._change:
            self._count(processed=1)
            self._change.notify_all()
        return result

    def _reason(self, frame: Frame, error: Exception) -> str:
        if isinstance(error, ValueError):
            return str(error)
        _log.error("%s: a frame could not be processed", frame.camera, exc_info=error)
        return f"{type(error).__name__}: {error}"

    def _leave_out(self, frame: Frame, reason: str, **counts: int) -> None:
        try:
            self._on_problem(frame.camera, reason)
        except Exception:
            _log.exception("%s: a problem could not be reported", frame.camera)
        with self._change:
            self._count(**counts)
            self._change.notify_all()

    def _result(self, frame: Frame, camera: _Camera) -> FrameResult:
        clock, settings = self.stopwatch, self.settings
        with clock.stage("decode"):
            image = frame.decode()
        # Here and not in `configure`, or a frame in work might be extracted by one and matched by another setting.
        self.superpoint.configure(**settings.extraction)
        features = self.superpoint.extract(image, clock)
        reference, stamp = camera.features, camera.stamp
        broken = _continuity(frame.stamp, features, stamp, reference, settings.max_gap)
        if broken is not None or reference is None or stamp is None:
            reference, stamp, matches = None, 0, Matches.empty()
            homography = Homography.failed(broken or Status.FIRST_FRAME)
        else:
            with clock.stage("match"):
                matches = match(reference, features, min_similarity=settings.min_similarity, ratio=settings.ratio)
            with clock.stage("homography"):
                homography = estimate_homography(
                    reference,
                    features,
                    matches,
                    method=settings.method,
                    threshold=settings.threshold,
                    min_inliers=settings.min_inliers,
                    images=(camera.image, image) if settings.align and camera.image is not None else None,
                )
        track_ids = camera.tracks.update(matches, len(features), settings.tracking)
        camera.features, camera.stamp = features, frame.stamp
        camera.image = image if settings.align else None
        return FrameResult(frame, image, features, track_ids, reference, stamp, matches, homography)

    def _idle_counts(self) -> bool:
        c = self._counters
        return c.received == c.processed + c.dropped + c.failed

    def _count(self, **changes: int) -> None:
        values = {name: getattr(self._counters, name) + change for name, change in changes.items()}
        self._counters = replace(self._counters, **values)


def _continuity(
    stamp: int, features: Features, before: int | None, reference: Features | None, max_gap: float
) -> Status | None:
    """Why a frame cannot be matched with the one before, or None."""
    if before is None or reference is None:
        return Status.FIRST_FRAME
    if stamp < before or stamp - before > max_gap * 1e9:
        return Status.TIME_JUMP
    if features.image_size != reference.image_size:
        return Status.IMAGE_CHANGED
    return None
