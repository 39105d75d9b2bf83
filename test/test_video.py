"""Video in Foxglove's messages: decoded in order, taken up at a keyframe, and no wrong frame after a fault."""

from __future__ import annotations

from functools import partial

import pytest

pytest.importorskip("av", reason="encoding and decoding video needs the Python package av")

from flight_video import COUNT, GROUP, NO_KEYFRAME, check, encode_frames, flight_frames, message

from superpoint_ros.extraction.superpoint import ImageError
from superpoint_ros.node.video import CODECS, VideoStream


@pytest.fixture(scope="module")
def frames(photograph):
    return flight_frames(photograph)


@pytest.fixture(scope="module")
def encode(frames):
    """Encode the frames: the number and data of each message, given the codec and options."""
    return partial(encode_frames, frames)


@pytest.fixture
def reports():
    return []


@pytest.fixture
def stream(reports):
    return VideoStream(10**6, reports.append)


def decode(stream, messages):
    """Decode messages: each image with the number of its frame, and the sentences of failures."""
    found, failures = [], []
    for one in messages:
        try:
            found += [(round((f.message.timestamp.sec - 1) * 10 + f.message.timestamp.nanosec / 1e8), f.grey())
                      for f in stream.decode(one)]  # fmt: skip
        except ImageError as error:
            failures.append(str(error))
    return found, failures


@pytest.mark.parametrize("kind", CODECS)
def test_every_message_has_its_frame_at_once_with_the_levels_of_the_image(encode, stream, frames, reports, kind):
    for number, data in encode(kind):
        check(decode(stream, [message(number, data, kind)])[0], frames, [number])
    assert not any(reports) and not stream.waiting


@pytest.mark.parametrize("kind", CODECS)
def test_a_stream_that_is_joined_in_the_middle_waits_for_a_keyframe_and_says_so_once(
    encode, stream, frames, reports, kind
):
    found, failures = decode(stream, [message(*packet, kind) for packet in encode(kind)[2:]])
    check(found, frames, range(GROUP, COUNT))
    assert not failures
    assert [reason for reason in reports if reason] == [NO_KEYFRAME]
    assert reports[-1] is None


DAMAGE = {
    "zeros": lambda data: bytes(200),
    "empty": lambda data: b"",
    "no start codes": lambda data: data.replace(bytes((0, 0, 1)), b"no!"),
    "text": lambda data: b"this is not video",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("kind", CODECS)
def test_after_a_broken_message_frames_are_skipped_until_the_next_keyframe(
    encode, stream, frames, reports, kind, damage
):
    packets = encode(kind)
    packets[2] = (2, damage(packets[2][1]))
    found, failures = decode(stream, [message(*packet, kind) for packet in packets])
    check(found, frames, [0, 1, *range(GROUP, COUNT)])
    assert len(failures) == 1 and not any(reports)
    assert failures[0].startswith(f"a message of the {kind} video cannot be decoded (")
    assert failures[0].endswith("), frames are skipped until the next keyframe")


@pytest.mark.parametrize("options", [{}, {"profile": "high", "preset": "medium"}], ids=["baseline", "high"])
@pytest.mark.parametrize("kind", CODECS)
def test_a_lost_message_gives_no_wrong_frame_but_is_an_error_of_the_next(encode, stream, frames, kind, options):
    packets = encode(kind, **(options if kind == "h264" else {}))
    found, failures = decode(stream, [message(*packet, kind) for packet in packets[:2] + packets[3:]])
    check(found, frames, [0, 1, *range(GROUP, COUNT)])
    assert len(failures) == 1 and "(one before it is missing)" in failures[0]


def test_a_message_that_is_cut_short_gives_no_damaged_frame(encode, stream, frames):
    packets = encode("h264")
    packets[2] = (2, packets[2][1][: len(packets[2][1]) // 2])
    found, failures = decode(stream, [message(*packet) for packet in packets])
    check(found, frames, [0, 1, *range(GROUP, COUNT)])
    assert len(failures) == 1 and "(it is damaged)" in failures[0]


def test_frames_that_the_encoder_reorders_keep_their_stamps(encode, stream, frames):
    packets = encode("h264", b_frames=2, bf="2", **{"x264-params": "b-adapt=0"})
    assert [number for number, _ in packets] != sorted(number for number, _ in packets)
    found, failures = decode(stream, [message(*packet) for packet in packets])
    numbers = [number for number, _ in found]
    assert not failures and numbers == sorted(numbers) and len(numbers) >= COUNT - 3
    check(found, frames, numbers)


def test_another_format_or_a_size_beyond_the_limit_is_an_error_of_one_sentence(encode, reports):
    small = VideoStream(240 * 319, reports.append)
    with pytest.raises(ImageError, match=r"video format 'vp9' is not supported, allowed is h264 or h265$"):
        small.decode(message(0, b"", "vp9"))
    with pytest.raises(ImageError, match="320x240"):
        small.decode(message(0, encode("h264")[0][1]))
