"""Where frames wait for the worker: the newest of each camera, and partners of stereo frames."""

from __future__ import annotations

from collections.abc import Iterable

from superpoint_ros.frontend.frames import Frame


class Slots:
    """One slot per camera for its newest frame. Not thread-safe.

    The two cameras of a stereo pair would seldom be processed at the same moment if each took its newest frame by
    itself: once a frame is taken, its partner is kept until its turn, even if newer frames arrive.

    Args:
        pair: the two cameras of a stereo pair, if any.
        slop: maximum difference in nanoseconds between the stamps of a pair.
    """

    def __init__(self, pair: tuple[str, str] | None = None, slop: int = 0) -> None:
        self._newest: dict[str, Frame] = {}  # in order of arrival of each camera's first waiting frame
        self._partners: dict[str, Frame] = {}
        self._wanted: dict[str, int] = {}
        self._other = {} if pair is None else {pair[0]: pair[1], pair[1]: pair[0]}
        self._slop = slop

    def __len__(self) -> int:
        return len(self._newest) + len(self._partners)

    def put(self, frame: Frame) -> bool:
        """Add a frame; return whether it replaces another one."""
        camera = frame.camera
        if camera in self._wanted and self._close(frame.stamp, self._wanted[camera]):
            del self._wanted[camera]
            self._partners[camera] = frame
            return False
        replaced = camera in self._newest
        self._newest[camera] = frame
        return replaced

    def take(self, cameras: Iterable[str] | None = None) -> list[Frame]:
        """Remove and return the frame whose turn it is or, of the given cameras, one frame each in their order."""
        if cameras is None:
            cameras = [next(iter(self._partners or self._newest))]
        taken = {}
        newest = []
        for camera in cameras:
            if camera in self._partners:
                taken[camera] = self._partners.pop(camera)
            elif camera in self._newest:
                taken[camera] = self._newest.pop(camera)
                newest.append(camera)
        for camera in newest:
            self._keep_partner(taken[camera], taken)
        return list(taken.values())

    def clear(self) -> list[str]:
        """Remove all frames; return their cameras."""
        cameras = [*self._partners, *self._newest]
        self._partners.clear()
        self._newest.clear()
        return cameras

    def _keep_partner(self, frame: Frame, taken: dict[str, Frame]) -> None:
        """Keep the partner of a frame that is taken, now or when it arrives, unless it is taken as well."""
        other = self._other.get(frame.camera)
        if other is None:
            return
        self._wanted.pop(frame.camera, None)  # of an earlier frame, which did not come
        if other in taken and self._close(taken[other].stamp, frame.stamp):
            return
        waiting = self._newest.get(other)
        if waiting is not None and self._close(waiting.stamp, frame.stamp):
            self._partners[other] = self._newest.pop(other)
        else:
            self._wanted[other] = frame.stamp

    def _close(self, one: int, other: int) -> bool:
        return abs(one - other) <= self._slop
