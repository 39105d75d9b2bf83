"""`superpoint-ros bag` on broken recordings, with a full disk, interrupted and misused: what it says and keeps."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="reading and writing bags needs the Python package rosbags")

from recordings import FRAMES, IMAGE, INFO, SIZE, moving_frames, read, write_recording

TIMEOUT = 300  # timeout in seconds; a few suffice on an idle machine
COMMAND = [sys.executable, "-m", "superpoint_ros", "bag"]


@pytest.fixture(scope="module")
def frames(grey):
    return moving_frames(grey)


@pytest.fixture
def record(tmp_path, frames):
    """Write a recording; `write_recording` has the arguments."""
    return partial(write_recording, tmp_path, frames)


def test_a_broken_frame_is_reported_and_the_others_are_written(bag, record, tmp_path, tiny_weights):
    done = bag(record(spoil=[2]), tmp_path / "out", "-p", f"weights:={tiny_weights}", "--json", code=1)
    assert "encoding 'nonsense' is not supported" in done.stderr
    summary = json.loads(done.stdout)
    assert (summary["processed"], summary["failed"]) == (FRAMES - 1, 1)
    assert len(read(tmp_path / "out")["/superpoint_detector/features"]) == FRAMES - 1


@pytest.mark.parametrize(("ros", "storage"), [(1, "mcap"), (2, "mcap"), (2, "sqlite3")])
def test_a_truncated_message_is_reported_and_the_others_are_written(bag, record, tmp_path, tiny_weights, ros, storage):
    done = bag(record(ros, storage, cut=[2]), tmp_path / "out", "-p", f"weights:={tiny_weights}", "--json", code=1)
    assert "message at 1100000000 ns of '/camera/image_raw' is skipped" in done.stderr
    summary = json.loads(done.stdout)
    assert (summary["processed"], summary["unreadable"]) == (FRAMES - 1, 1)


@pytest.mark.parametrize(("ros", "storage"), [(1, "mcap"), (2, "mcap"), (2, "sqlite3")])
def test_a_frame_id_that_is_not_utf_8_costs_no_frame(bag, record, tmp_path, tiny_weights, ros, storage):
    topics = {"/camera/image_raw": IMAGE, "/camera/camera_info": INFO}
    source = record(ros, storage, topics, frame_id=b"opt\xffcal")
    done = bag(source, tmp_path / "out", "--cloud", "-p", f"weights:={tiny_weights}", "--json")
    summary = json.loads(done.stdout)
    assert (summary["processed"], summary["unreadable"]) == (FRAMES, 0) and "skipped" not in done.stderr
    found = read(tmp_path / "out")
    assert all(message.header.frame_id == "opt\ufffdcal" for topic in found.values() for _, message in topic)
    clouds = found["/superpoint_detector/keypoints_cloud"]
    assert len(clouds) == FRAMES and all((m.data.view("<f4").reshape(-1, 4)[:, 2] == 1).all() for _, m in clouds)


def test_a_truncated_calibration_is_reported_and_no_frame_counts_as_lost(bag, record, tmp_path, tiny_weights):
    source = record(topics={"/camera/image_raw": IMAGE, "/camera/camera_info": INFO}, cut=[0])
    done = bag(source, tmp_path / "out", "-p", f"weights:={tiny_weights}", "--json", code=1)
    assert "of '/camera/camera_info' is skipped" in done.stderr
    summary = json.loads(done.stdout)
    assert (summary["processed"], summary["unreadable"]) == (FRAMES - 1, 1)


BROKEN = {
    "six coefficients": (
        {"distortion_model": "rational_polynomial", "d": np.full(6, 0.1)},
        "calibration ignored: distortion model 'rational_polynomial' has 6 coefficients",
    ),
    "another size": ({"width": 2 * SIZE[1], "height": 2 * SIZE[0]}, "it is for 320x240 pixels and the image has"),
}


@pytest.mark.parametrize(("calibration", "reason"), BROKEN.values(), ids=BROKEN)
def test_an_unusable_calibration_is_one_warning_and_affects_nothing_else(
    bag, record, tmp_path, tiny_weights, calibration, reason
):
    options = ["--cloud", "-p", f"weights:={tiny_weights}", "--json"]
    plain = record(topics={"/camera/image_raw": IMAGE}).rename(tmp_path / "plain")
    bag(plain, tmp_path / "expected", *options)
    topics = {"/camera/image_raw": IMAGE, "/camera/camera_info": INFO}
    done = bag(record(topics=topics, calibration=calibration), tmp_path / "out", *options)
    assert done.stderr.count("\n") == 1 and reason in done.stderr
    summary = json.loads(done.stdout)
    assert (summary["processed"], summary["failed"], summary["unreadable"]) == (FRAMES, 0, 0)
    found, expected = read(tmp_path / "out"), read(tmp_path / "expected")
    clouds = [message.data for _, message in found["/superpoint_detector/keypoints_cloud"]]
    assert all((data.view("<f4").reshape(-1, 4)[:, 2] == 0).all() for data in clouds)
    homographies = [message for _, message in found["/superpoint_detector/matched_homography"]]
    assert [message.status == 1 for message in homographies] == [True] + [False] * (FRAMES - 1)
    for topic in expected:
        for (_, one), (_, other) in zip(found[topic], expected[topic], strict=True):
            name = {"features": "descriptors", "matched_homography": "homography"}.get(topic.split("/")[-1], "data")
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_damaged_recording_is_an_error_of_one_sentence(command, record, tmp_path, tiny_weights, storage):
    source = record(storage=storage, count=100)
    file = next(path for path in source.iterdir() if path.suffix in (".mcap", ".db3"))
    whole, random = file.read_bytes(), np.random.default_rng(0)
    for i in range(4):
        file.write_bytes(whole[: int(len(whole) * random.uniform(0.2, 0.9))])
        words = [source, tmp_path / f"out{i}", "-p", f"weights:={tiny_weights}"]
        done = command("bag", *words)
        assert done.returncode in (0, 1) and "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_bag_of_an_interrupted_run_is_readable(record, tmp_path, tiny_weights, number):
    source, out = record(count=2000), tmp_path / "out"
    words = [*COMMAND, source, out, "-p", f"weights:={tiny_weights}"]
    with subprocess.Popen([*map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + TIMEOUT
        while not any(path.stat().st_size > 100_000 for path in out.glob("*.mcap")):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130 and "Traceback" not in errors
    features, homographies = read(out).values()
    assert 0 < len(features) == len(homographies) < 2000


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("count", [5, 300], ids=["at its end", "on its way"])
def test_a_full_disk_is_an_error_of_one_sentence(record, tmp_path, tiny_weights, storage, count):
    limited = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60000, 60000));"
        "from superpoint_ros.cli import main; sys.exit(main())"
    )
    # OpenVINO's compiled models must not be written in this process.
    words = ["bag", record(count=count), tmp_path / "out", "--storage", storage, "-p", f"weights:={tiny_weights}",
             "-p", "runtime:=pytorch"]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", limited, *map(str, words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "cannot be written" in done.stderr and str(tmp_path / "out") in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["missing.mcap", "out"], "bag 'missing.mcap' cannot be read"),
        (["recording", "recording"], "'recording' already exists"),
        (["recording", "out", "--topic", "/other"], "topic '/other' is not among the image topics /camera/image_raw"),
        (["recording", "out", "-p", "max_keypoints:=0"], "parameter 'max_keypoints' is 0, allowed is an integer"),
        (["recording", "out", "-r", "features"], "remapping 'features' is invalid"),
        (["recording", "out", "-r", "~/features:=/x", "-r", "~/matched_homography:=/x"], "two outputs have the same"),
        (["recording", "a#b/out", "--storage", "sqlite3"], "'a#b/out' contains ?, # or %"),
    ],
    ids=["no bag", "out exists", "no such topic", "bad parameter", "bad remapping", "two outputs of a name",
         "a path that is no URI"],
)  # fmt: skip
def test_misuse_is_an_error_of_one_sentence_and_writes_nothing(bag, record, tmp_path, monkeypatch, words, expected):
    record()
    monkeypatch.chdir(tmp_path)
    done = bag(*words, code=1)
    assert expected in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
