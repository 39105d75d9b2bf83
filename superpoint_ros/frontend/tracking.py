"""Track ids: the identity of a keypoint, kept while it is matched from frame to frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from superpoint_ros.features import Matches


class Tracks:
    """Hands out track ids for one camera; an id is never given twice."""

    def __init__(self) -> None:
        self._ids: NDArray[np.int64] = np.zeros(0, np.int64)
        self._next = 0

    def update(self, matches: Matches, count: int, enabled: bool = True) -> NDArray[np.int64]:
        """Ids of the `count` keypoints of a new frame, given its matches with the frame before.

        Where tracking is not enabled the result is empty, and so are the ids to go on from.
        """
        if not enabled:
            self._ids = np.zeros(0, np.int64)
            return self._ids
        ids = np.full(count, -1, np.int64)
        if len(self._ids) and len(matches):
            ids[matches.indices[:, 1]] = self._ids[matches.indices[:, 0]]
        fresh = np.flatnonzero(ids < 0)
        ids[fresh] = np.arange(self._next, self._next + len(fresh))
        self._next += len(fresh)
        self._ids = ids
        return ids
