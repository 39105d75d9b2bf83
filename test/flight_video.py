"""A flight over a photograph as video: its frames, and what Foxglove's messages of them hold."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest

from superpoint_ros.simulation.flight import Flight

SIZE = (240, 320)
COUNT, GROUP = 12, 5
ENCODERS = {"h264": ("libx264", {}), "h265": ("libx265", {"x265-params": "repeat-headers=1:log-level=none"})}
NO_KEYFRAME = "no keyframe has arrived yet, frames are skipped until one does"


def flight_frames(photograph):
    flight = Flight(photograph, size=SIZE)
    return [cv2.cvtColor(flight.frame(number * 0.1), cv2.COLOR_BGR2GRAY) for number in range(COUNT)]


def encode_frames(frames, kind, **options):
    """Encode the frames, with a keyframe every `GROUP` frames: the data of each message."""
    name, defaults = ENCODERS[kind]
    if name not in av.codecs_available:
        pytest.skip(f"this build of av has no encoder {name}")
    encoder = av.CodecContext.create(name, "w")
    encoder.width, encoder.height, encoder.pix_fmt = SIZE[1], SIZE[0], "yuv420p"
    encoder.time_base, encoder.framerate, encoder.gop_size = Fraction(1, 10), Fraction(10), GROUP
    encoder.max_b_frames = options.pop("b_frames", 0)
    tune = {} if encoder.max_b_frames else {"tune": "zerolatency"}
    encoder.options = {"preset": "ultrafast", "crf": "12", **tune, **defaults, **options}
    packets = []
    for number, frame in enumerate(frames):
        picture = av.VideoFrame.from_ndarray(frame, format="gray").reformat(format="yuv420p")
        picture.pts = number
        packets += encoder.encode(picture)
    packets += encoder.encode(None)
    return [(packet.pts, bytes(packet)) for packet in packets]


def message(number, data, kind="h264"):
    stamp = SimpleNamespace(sec=1 + number // 10, nanosec=number % 10 * 100_000_000)
    return SimpleNamespace(timestamp=stamp, frame_id="camera", data=data, format=kind)


def check(found, frames, expected):
    assert [number for number, _ in found] == list(expected)
    for number, image in found:
        assert image.dtype == np.uint8 and image.shape == SIZE
        assert np.abs(image.astype(int) - frames[number]).mean() < 2.5, number
