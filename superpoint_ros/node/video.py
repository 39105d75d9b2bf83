"""Decode video whose frames are messages: foxglove_msgs/CompressedVideo in H.264 or H.265."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from superpoint_ros.extraction.checks import ImageError, check_size
from superpoint_ros.node.images import Grey
from superpoint_ros.node.video_units import FrameNumbers, starts_decoding

CODECS = {"h264": "h264", "h265": "hevc"}
"""FFmpeg's decoder by the `format` of a message."""
_MAX_REORDERED = 64
"""More messages than any encoder lets pass between those of two consecutive frames."""


def require_decoder() -> None:
    """Check that PyAV is installed.

    Raises:
        ValueError: in one sentence, if it is not.
    """
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"video needs the Python package av ({error}), install it with: pip install 'superpoint_ros[video]'"
        ) from error


@dataclass(frozen=True)
class VideoFrame:
    """A decoded frame: the message that it came in, and what converts it to (H, W) uint8."""

    message: Any
    grey: Callable[[], Grey]


class VideoStream:
    """The video of one camera, whose messages are decoded in order of arrival, each as it arrives.

    Decoding starts at a keyframe and, after an error, again at the next one.

    Args:
        max_pixels: maximum number of pixels of a frame.
        report: called with a reason when frames begin to be skipped for want of a keyframe, and with None when that
            ends.

    Attributes:
        waiting: whether there are no frames until a keyframe arrives.
    """

    def __init__(self, max_pixels: int, report: Callable[[str | None], None]) -> None:
        self.waiting = True
        self._max_pixels, self._report = max_pixels, report
        self._reported = False
        self._context: Any = None
        self._fed = 0  # messages since the decoder was created
        self._pending: dict[int, Any] = {}
        self._numbers = FrameNumbers()

    def decode(self, message: Any) -> list[VideoFrame]:
        """Decode a message; return its frame or, if the encoder reorders frames, any number of them.

        Raises:
            ImageError: in one sentence, if it cannot be decoded.
            ValueError: in one sentence, if PyAV is not installed.
        """
        if message.format not in CODECS:
            raise ImageError(f"video format '{message.format}' is not supported, allowed is {' or '.join(CODECS)}")
        codec = CODECS[message.format]
        if self._context is None or self._context.name != codec:
            self._restart(codec)
        data = np.frombuffer(message.data, np.uint8).tobytes()
        pictures = self._pictures(message, data) if self._fed or starts_decoding(data, codec) else []
        if pictures:
            self.waiting = self._reported = False
            self._report(None)
        elif self.waiting and not self._reported:
            self._reported = True
            self._report("no keyframe has arrived yet, frames are skipped until one does")
        return [self._frame(picture) for picture in pictures]

    def _restart(self, codec: str) -> None:
        require_decoder()
        import av

        self._context = av.CodecContext.create(codec, "r")
        # Threads that take a frame each would delay the frames by their number.
        self._context.thread_type = "SLICE"
        self._fed = 0
        self._pending.clear()
        self._numbers = FrameNumbers()
        self.waiting = True

    def _pictures(self, message: Any, data: bytes) -> list[Any]:
        import av

        try:
            if not data:  # to FFmpeg, the end of the video
                raise ImageError("it is empty")
            if self._context.name == "h264" and self._numbers.missing(data):
                raise ImageError("one before it is missing")
            packet = av.Packet(data)
            packet.pts, self._fed = self._fed, self._fed + 1
            self._pending[packet.pts] = message
            self._pending.pop(packet.pts - _MAX_REORDERED, None)
            pictures = list(self._context.decode(packet))
            if any(picture.is_corrupt for picture in pictures):
                raise ImageError("it is damaged")
            if not (pictures or self.waiting or self._context.has_b_frames):
                raise ImageError("one before it is missing")
        except (av.FFmpegError, ImageError) as error:
            self._restart(self._context.name)
            self._reported = True  # by what is raised here
            reason = error if isinstance(error, ImageError) else error.strerror
            raise ImageError(
                f"a message of the {message.format} video cannot be decoded ({reason}), frames are skipped until the "
                f"next keyframe"
            ) from error
        return pictures

    def _frame(self, picture: Any) -> VideoFrame:
        message = self._pending.pop(picture.pts)
        check_size((picture.height, picture.width), self._max_pixels)
        return VideoFrame(message, partial(_grey, picture))


def _grey(picture: Any) -> Grey:
    """Convert a frame of PyAV to (H, W) uint8; the levels of its luma, mostly 16 to 235, become 0 to 255."""
    return np.ascontiguousarray(picture.to_ndarray(format="gray"), np.uint8)
