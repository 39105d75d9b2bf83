"""The path of the keyframes, which stays short however long the odometry runs."""

from __future__ import annotations

from typing import Any

from superpoint_ros.odometry.values import State

MAX_POSES = 1000
"""Number of poses that are never exceeded; every second one is then dropped."""
_PERIOD = 1.0
"""Minimum time between two messages of the growing path, in seconds."""


class KeyframePath:
    """Keeps the pose of every n-th keyframe and of the latest one; n doubles with the length of the path.

    Attributes:
        count: number of keyframes so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self._kept: list[dict[str, Any]] = []
        self._last: dict[str, Any] = {}
        self._every = 1
        self._sent, self._sent_at = 0, -_PERIOD
        self._subscribers, self._state = 0, State.INITIALISING

    @property
    def poses(self) -> list[dict[str, Any]]:
        """Return the fields of each geometry_msgs/PoseStamped, the latest last."""
        last_is_kept = (self.count - 1) % self._every == 0
        return self._kept[:] if last_is_kept else [*self._kept, self._last]

    def add(self, pose: dict[str, Any]) -> None:
        """Add the pose of a keyframe, as the fields of a geometry_msgs/PoseStamped."""
        if self.count % self._every == 0:
            self._kept.append(pose)
        if len(self._kept) == MAX_POSES:
            self._kept, self._every = self._kept[::2], 2 * self._every
        self.count, self._last = self.count + 1, pose

    def is_due(self, subscribers: int, state: State, now: float) -> bool:
        """Tell whether to publish it now: to a new subscriber, or if it has grown, once a second or as states change.

        Args:
            subscribers: their number.
            state: of the odometry.
            now: monotonic time in seconds.
        """
        new, changed = subscribers > self._subscribers, state is not self._state
        self._subscribers, self._state = subscribers, state
        grown = self.count > self._sent and (changed or now - self._sent_at >= _PERIOD)
        if not (subscribers and self.count and (new or grown)):
            return False
        self._sent, self._sent_at = self.count, now
        return True
