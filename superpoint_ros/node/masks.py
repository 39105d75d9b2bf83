"""Masks of a camera: an image file, margins, and a topic for moving objects."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from superpoint_ros.extraction.masks import scaled
from superpoint_ros.features import Mask
from superpoint_ros.io.images import read_grey
from superpoint_ros.node.images import grey_from_image

NONE = "none"
"""Value of the parameter `mask` for no file."""

_KEPT = 10
"""Number of received masks among which that of an image's stamp is looked for."""

Report = Callable[[str, str | None], None]


class CameraMasks:
    """Combines the masks of a camera. Masks are received in one thread and used in another.

    Args:
        values: the node's parameters, `mask`, `mask_top` and so on.
        camera: name that replaces `{camera}` in the path.
        report: is called with the kind of a problem and its reason, or None once it is over.

    Raises:
        ValueError: in one sentence, if the file of the parameter `mask` cannot be read.
    """

    def __init__(self, values: Mapping[str, Any], camera: str, report: Report) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._received: deque[tuple[int, Mask]] = deque(maxlen=_KEPT)
        path = str(values["mask"]).replace("{camera}", camera)
        try:
            self._file = None if path == NONE else read_grey(path) > 0
        except (OSError, ValueError) as error:
            raise ValueError(f"parameter 'mask' is '{path}', allowed is {NONE} or an image file: {error}") from error

    def add(self, stamp: int, message: Any, max_pixels: int) -> None:
        """Take a mono8 sensor_msgs/Image of a stamp in nanoseconds; zeros are masked.

        Raises:
            ImageError: in one sentence, if the message is not an image.
        """
        mask = grey_from_image(message, max_pixels=max_pixels) > 0
        with self._lock:
            self._received.append((stamp, mask))

    def mask(self, stamp: int, size: tuple[int, int], values: Mapping[str, Any]) -> Mask | None:
        """Return the mask of an image of (height, width), or None if nothing is masked.

        The received mask of the same stamp counts, else the latest that is no older than `mask_max_age`.
        """
        found = [one for one in (self._file, self._current(stamp, values)) if one is not None]
        self._check_sizes(found, size)
        masks = [scaled(one, size) for one in found]
        top, bottom, left, right = (int(values[f"mask_{side}"]) for side in ("top", "bottom", "left", "right"))
        if top or bottom or left or right:
            margins = np.zeros(size, bool)
            margins[top : max(size[0] - bottom, 0), left : max(size[1] - right, 0)] = True
            masks.append(margins)
        return np.logical_and.reduce(masks) if masks else None

    def _current(self, stamp: int, values: Mapping[str, Any]) -> Mask | None:
        with self._lock:
            received = list(self._received)
        if not received:
            return None
        same = [mask for other, mask in received if other == stamp]
        if same:
            self._report("mask missing", None)
            return same[-1]
        # A mask made from a later image belongs to that one.
        latest, mask = max(
            ((other, mask) for other, mask in received if other <= stamp), default=(0, None), key=itemgetter(0)
        )
        age, limit = (stamp - latest) * 1e-9, float(values["mask_max_age"])
        if mask is None:
            return None
        if age > limit:
            self._report(
                "mask missing", f"the latest mask is {age:.1f} s old, allowed is {limit:g} s, so none is applied"
            )
            return None
        self._report("mask missing", None)
        return mask

    def _check_sizes(self, masks: Sequence[Mask], size: tuple[int, int]) -> None:
        reason, (height, width) = None, size
        for rows, columns in (mask.shape for mask in masks if mask.shape != size):
            reason = f"it is {columns}x{rows} pixels and is scaled to the image's {width}x{height}"
        self._report("mask of another size", reason)
