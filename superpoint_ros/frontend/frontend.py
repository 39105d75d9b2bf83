"""The front end: features and matched homographies of frames, always from the newest one."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from superpoint_ros.extraction.superpoint import SuperPoint
from superpoint_ros.features import EpipolarGeometry, Features, Homography, Mask, Matches, Status
from superpoint_ros.frontend.frames import Counters, Frame, FrameResult, Image
from superpoint_ros.frontend.registration import register_frame
from superpoint_ros.frontend.settings import FrontEndSettings
from superpoint_ros.frontend.slots import Slots
from superpoint_ros.frontend.timing import Stopwatch
from superpoint_ros.frontend.tracking import TrackIds
from superpoint_ros.frontend.views import View, first_view
from superpoint_ros.two_view.refiner import refiner
from superpoint_ros.two_view.steering import check_steerable

_log = logging.getLogger(__name__)


@dataclass
class _Camera:
    """The state of one camera between frames."""

    stamp: int | None = None
    view: View | None = None
    ids: TrackIds = field(default_factory=TrackIds)


@dataclass(frozen=True)
class _Decoded:
    """A frame with its image and mask."""

    frame: Frame
    image: Image
    mask: Mask | None


class FrontEnd:
    """Runs SuperPoint on the newest frame of each camera and relates it to the previously processed one.

    Use `process` to handle frames one by one in the caller's thread, or `start`, `submit` and `close` for a live
    stream: one slot per camera holds the newest frame, one worker thread serves the slots in turn, and a frame that
    is replaced while it waits counts as dropped. So a slow network lowers the rate but never builds a backlog.

    Args:
        superpoint: the extractor; the front end owns its settings from now on.
        settings: None for the defaults.
        on_result: called in the worker with every result, in stamp order per camera.
        on_problem: called with camera and one sentence for every unusable frame.
        together: waiting frames of several cameras share a forward pass if their sizes are equal; None: on a GPU, which
            processes several in little more than the time of one. On a CPU the first camera would wait for the last.
        pair: the two cameras of a stereo pair, if any: of a frame that is processed, the partner is, too.
        slop: maximum difference in nanoseconds between the stamps of a pair.

    Raises:
        ValueError: as `configure` does.

    Attributes:
        refine: refines keypoints on the image; on the GPU if the network runs on one.
    """

    def __init__(
        self,
        superpoint: SuperPoint,
        settings: FrontEndSettings | None = None,
        on_result: Callable[[FrameResult], None] | None = None,
        on_problem: Callable[[str, str], None] | None = None,
        together: bool | None = None,
        pair: tuple[str, str] | None = None,
        slop: int = 0,
    ) -> None:
        self.superpoint = superpoint
        self.stopwatch = Stopwatch()
        self.refine = refiner(superpoint.runtime.device)
        self._on_result = on_result or (lambda result: None)
        self._on_problem = on_problem or (lambda camera, reason: _log.warning("%s: %s", camera, reason))
        self._together = superpoint.runtime.device.type != "cpu" if together is None else together
        self._cameras: defaultdict[str, _Camera] = defaultdict(_Camera)
        self._counters: defaultdict[str, Counters] = defaultdict(Counters)  # in order of each camera's first frame
        self._slots = Slots(pair, slop)
        self._change = threading.Condition()
        self._worker: threading.Thread | None = None
        self._closing = False
        self.configure(settings or FrontEndSettings())

    def configure(self, settings: FrontEndSettings) -> None:
        """Change the settings from the next frame on; thread-safe.

        Raises:
            ValueError: in one sentence; nothing is changed.
        """
        self.superpoint.check(**settings.extraction)
        if settings.rotation == "any":
            check_steerable(self.superpoint.descriptor_size, "rotation 'any'")
        self.settings = settings

    @property
    def counters(self) -> Counters:
        """Return a snapshot of the counters of all cameras."""
        with self._change:
            return sum(self._counters.values(), Counters())

    def counters_of(self, camera: str) -> Counters:
        """Return a snapshot of one camera's counters."""
        with self._change:
            return self._counters.get(camera, Counters())

    def start(self) -> None:
        """Start the worker thread."""
        if self._worker is not None:
            raise RuntimeError("the front end has been started before")
        self._worker = threading.Thread(target=self._work, name="superpoint front end", daemon=True)
        self._worker.start()

    def submit(self, frame: Frame) -> None:
        """Submit a frame without blocking."""
        with self._change:
            if self._closing:
                return
            replaced = self._slots.put(frame)
            self._count(frame.camera, received=1, dropped=int(replaced))
            self._change.notify_all()

    def discard(self, camera: str, reason: str | None = None) -> None:
        """Count a frame that cannot be submitted: as failed, with the reason, or as dropped if there is none."""
        with self._change:
            self._count(camera, received=1, dropped=int(reason is None))
        if reason is not None:
            self._skip(camera, reason, failed=1)

    def drain(self, timeout: float = 10.0) -> bool:
        """Wait until no frame is waiting or being processed; return whether that happened within `timeout` seconds."""
        with self._change:
            return self._change.wait_for(lambda: not self._slots and self._idle_counts(), timeout)

    def close(self, timeout: float = 10.0) -> None:
        """Finish the current frame, count waiting ones as dropped and stop the worker. Idempotent."""
        with self._change:
            self._closing = True
            for camera in self._slots.clear():
                self._count(camera, dropped=1)
            self._change.notify_all()
        if self._worker is not None and self._worker is not threading.current_thread():
            self._worker.join(timeout)

    def reset(self, camera: str = "image") -> None:
        """Forget a camera's previous frame: the next one gets the status FIRST_FRAME."""
        with self._change:
            if camera in self._cameras:
                # Ids continue, so that none is reused.
                self._cameras[camera] = _Camera(ids=self._cameras[camera].ids)

    def process(self, frame: Frame) -> FrameResult | None:
        """Process one frame in this thread; return None, and call `on_problem`, if it was skipped."""
        with self._change:
            self._count(frame.camera, received=1)
        return next(iter(self._handle([frame])), None)

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._closing or self._slots)
                if self._closing:
                    return
                # Always in the same order: a CUDA graph matches each entry of a batch with that of the previous batch.
                frames = self._slots.take(list(self._counters) if self._together else None)
            self._handle(frames)

    def _handle(self, frames: Sequence[Frame]) -> list[FrameResult]:
        """Process frames of different cameras; skipped ones have no result."""
        # A snapshot, as `configure` may be called between extraction and matching.
        settings = self.settings
        decoded: list[_Decoded] = []
        for frame in frames:
            if frame.stamp == self._cameras[frame.camera].stamp:
                self._skip(frame.camera, "the stamp repeats that of the frame before", dropped=1)
                continue
            try:
                with self.stopwatch.stage("decode"):
                    image = frame.decode()
                    mask = None if frame.mask is None else frame.mask((image.shape[0], image.shape[1]))
                    decoded.append(_Decoded(frame, image, mask))
            except Exception as error:
                self._skip(frame.camera, self._reason(frame, error), failed=1)
        features = self._extract(decoded, settings)
        results = (self._finish(one, found, settings) for one, found in zip(decoded, features, strict=True))
        return [result for result in results if result is not None]

    def _extract(self, decoded: Sequence[_Decoded], settings: FrontEndSettings) -> list[Features | Exception]:
        """Extract the features of each image, or the error."""
        try:
            self.superpoint.configure(**settings.extraction)
            images, masks = [one.image for one in decoded], [one.mask for one in decoded]
            return [*self.superpoint.extract_batch(images, clock=self.stopwatch, masks=masks)]
        except Exception as error:
            if len(decoded) == 1:
                return [error]
            # One bad image must not affect the others.
            return [found for one in decoded for found in self._extract([one], settings)]

    def _finish(
        self, decoded: _Decoded, features: Features | Exception, settings: FrontEndSettings
    ) -> FrameResult | None:
        frame = decoded.frame
        with self._change:
            camera = self._cameras[frame.camera]
        try:
            if isinstance(features, Exception):
                raise features
            result = self._relate(decoded, features, camera, settings)
        except Exception as error:
            self._skip(frame.camera, self._reason(frame, error), failed=1)
            return None
        try:
            with self.stopwatch.stage("publish"):
                self._on_result(result)
        except Exception as error:
            # The frame was not published, so the next one must not refer to it.
            self.reset(frame.camera)
            self._skip(frame.camera, self._reason(frame, error), failed=1)
            return None
        with self._change:
            self._count(frame.camera, processed=1)
            self._change.notify_all()
        return result

    def _reason(self, frame: Frame, error: Exception) -> str:
        if isinstance(error, ValueError):
            return str(error)
        _log.debug("%s: a frame could not be processed", frame.camera, exc_info=error)
        return f"{type(error).__name__}: {error}"

    def _skip(self, camera: str, reason: str, **counts: int) -> None:
        try:
            self._on_problem(camera, reason)
        except Exception:
            _log.exception("%s: a problem could not be reported", camera)
        with self._change:
            self._count(camera, **counts)
            self._change.notify_all()

    def _relate(
        self, decoded: _Decoded, features: Features, camera: _Camera, settings: FrontEndSettings
    ) -> FrameResult:
        frame, image = decoded.frame, decoded.image
        before, stamp = camera.view, camera.stamp
        broken = _continuity(frame.stamp, features, stamp, before.features if before else None, settings.max_gap)
        if broken is not None or before is None or stamp is None:
            before, stamp, view = None, 0, first_view(image, features, camera.ids, settings)
            matches, homography = Matches.empty(), Homography.failed(broken or Status.FIRST_FRAME)
            epipolar = EpipolarGeometry.unknown()
        else:
            seconds = max(frame.stamp - stamp, 1) * 1e-9
            known = camera.ids, settings, self.stopwatch, seconds, frame.pinhole_for(features.image_size)
            found = register_frame(before, image, features, *known, decoded.mask, self.refine)
            view, matches, homography, epipolar = found.view, found.matches, found.homography, found.epipolar
        camera.view, camera.stamp = view, frame.stamp
        return FrameResult(
            frame,
            image,
            view.features,
            view.tracks.ids if settings.tracking else np.zeros(0, np.int64),
            before.features if before else None,
            stamp,
            matches,
            homography,
            view.tracks.ages if settings.tracking else np.zeros(0, np.int64),
            view.tracks.missed > 0,
            epipolar,
        )

    def _idle_counts(self) -> bool:
        return all(c.received == c.processed + c.dropped + c.failed for c in self._counters.values())

    def _count(self, camera: str, **changes: int) -> None:
        self._counters[camera] += Counters(**changes)


def _continuity(
    stamp: int, features: Features, before: int | None, reference: Features | None, max_gap: float
) -> Status | None:
    """Return why a frame cannot be matched with the previous one, or None."""
    if before is None or reference is None:
        return Status.FIRST_FRAME
    if stamp < before or stamp - before > max_gap * 1e9:
        return Status.TIME_JUMP
    if features.image_size != reference.image_size:
        return Status.IMAGE_CHANGED
    return None
