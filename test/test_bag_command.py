"""`superpoint-ros bag` as users run it: recordings of ROS 1 and 2 in, a bag for any reader out."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("rosbags", reason="reading and writing bags needs the Python package rosbags")

from rosbags.highlevel import AnyReader
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_typestore

from superpoint_ros import SuperPoint, match
from superpoint_ros.hosts.bag.reading import read_images
from superpoint_ros.node.messages import features_from_message

TIMEOUT = 300  # timeout in seconds; a few suffice on an idle machine
COMMAND = [sys.executable, "-m", "superpoint_ros", "bag"]
SIZE = (120, 160)
FRAMES = 5
RIGHT_HALF = np.repeat(np.repeat(np.array([[0, 255]], np.uint8), SIZE[0], axis=0), SIZE[1] // 2, axis=1)
"""A mask: nothing is wanted in the left half."""
IMAGE, COMPRESSED, INFO = (f"sensor_msgs/msg/{name}" for name in ("Image", "CompressedImage", "CameraInfo"))


@pytest.fixture
def bag(command):
    def run(*words, code=0):
        done = command("bag", *words)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def frames(grey):
    """Create frames of a camera that moves over a photograph by two pixels per frame."""
    return [np.ascontiguousarray(grey[100 : 100 + SIZE[0], 150 + 2 * i : 150 + 2 * i + SIZE[1]]) for i in range(FRAMES)]


@pytest.fixture
def record(tmp_path, frames):
    """Write a recording: record(ros, storage, topics={name: type}, count, spoil=numbers of frames of no known encoding,
    cut=numbers of frames that lack half their bytes, frame_id=seven bytes,
    calibration=fields of sensor_msgs/CameraInfo)."""

    def write(ros=2, storage="mcap", topics=None, count=FRAMES, spoil=(), cut=(), frame_id=b"optical", calibration=()):
        topics = topics or {"/camera/image_raw": IMAGE}
        store = get_typestore(Stores.ROS1_NOETIC if ros == 1 else Stores.ROS2_JAZZY)
        types, target = store.types, tmp_path / ("recording.bag" if ros == 1 else "recording")
        plugin = StoragePlugin[storage.upper()]
        writer = Writer1(target) if ros == 1 else Writer2(target, version=9, storage_plugin=plugin)
        encode = store.serialize_ros1 if ros == 1 else store.serialize_cdr
        with writer:
            connections = {name: writer.add_connection(name, kind, typestore=store) for name, kind in topics.items()}
            for i in range(count):
                stamp = types["builtin_interfaces/msg/Time"](sec=10 + i // 20, nanosec=i % 20 * 50_000_000)
                header = types["std_msgs/msg/Header"](
                    stamp=stamp, frame_id="optical", **({"seq": i} if ros == 1 else {})
                )
                for name, kind in topics.items():
                    image = RIGHT_HALF if name.endswith("/mask") else frames[i % FRAMES]
                    message = filled(types, kind, header, image, i in spoil, capital=ros == 1)
                    for field, value in dict(calibration if kind == INFO else ()).items():
                        setattr(message, field, value)
                    data = bytes(encode(message, kind)).replace(b"optical", frame_id)
                    data = data[: len(data) // 2] if i in cut else data
                    writer.write(connections[name], 10**9 + i * 50_000_000, data)
        return target

    return write


def filled(types, kind, header, image, broken, capital):
    if kind == IMAGE:
        data, encoding = image.reshape(-1), "nonsense" if broken else "mono8"
        return types[kind](header=header, height=SIZE[0], width=SIZE[1], encoding=encoding, is_bigendian=0,
                           step=SIZE[1], data=data)  # fmt: skip
    if kind == COMPRESSED:
        return types[kind](header=header, format="png", data=cv2.imencode(".png", image)[1].reshape(-1))
    matrices = {"d": np.zeros(5), "k": np.array([100.0, 0, 79.5, 0, 100.0, 59.5, 0, 0, 1]), "r": np.eye(3).reshape(-1),
                "p": np.zeros(12)}  # fmt: skip
    region = types["sensor_msgs/msg/RegionOfInterest"](x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return types[kind](
        header=header, height=SIZE[0], width=SIZE[1], distortion_model="plumb_bob", binning_x=0, binning_y=0,
        roi=region, **{name.upper() if capital else name: value for name, value in matrices.items()},
    )  # fmt: skip


def read(path):
    """Read messages by topic as (time of recording, message), without the definitions of this package."""
    found: dict[str, list] = {}
    with AnyReader([Path(path)]) as reader:
        for connection in reader.connections:
            found[connection.topic] = []
        for connection, stamp, data in reader.messages():
            found[connection.topic].append((stamp, reader.deserialize(data, connection.msgtype)))
    return found


@pytest.mark.parametrize(
    ("ros", "storage", "kind"),
    [(2, "mcap", IMAGE), (2, "sqlite3", COMPRESSED), (1, "mcap", IMAGE)],
    ids=["mcap", "sqlite3 and compressed images", "ROS 1"],
)
def test_every_frame_has_its_features_and_its_homography(
    bag, record, tmp_path, frames, tiny_weights, ros, storage, kind
):
    topic = "/camera/image_raw" + ("/compressed" if kind == COMPRESSED else "")
    source = record(ros, storage, {topic: kind})
    options = ["-p", f"weights:={tiny_weights}", "-p", "precision:=float32", "-p", "match.refine:=false"]
    options += ["--storage", storage, "--json"]
    done = bag(source, tmp_path / "out", *options)
    summary = json.loads(done.stdout)
    assert summary["topic"] == topic and summary["processed"] == summary["received"] == FRAMES
    found = read(tmp_path / "out")
    assert set(found) == {"/superpoint_detector/features", "/superpoint_detector/matched_homography"}
    superpoint, before = SuperPoint(tiny_weights, precision="float32"), None
    written = zip(*found.values(), frames, strict=True)
    for i, ((stamp, features), (other_stamp, homography), image) in enumerate(written):
        assert stamp == other_stamp == 10**9 + i * 50_000_000
        for header in (features.header, homography.header):
            assert (header.stamp.sec, header.stamp.nanosec, header.frame_id) == (10, i * 50_000_000, "optical")
        expected, kept = superpoint.extract(image), features_from_message(features)
        np.testing.assert_array_equal(kept.keypoints, expected.keypoints)
        np.testing.assert_array_equal(kept.descriptors, expected.descriptors)
        if before is None:
            assert homography.status == 1
        else:
            assert homography.reference_stamp.nanosec == (i - 1) * 50_000_000
            indices = np.stack((homography.reference_indices, homography.current_indices), axis=1)
            np.testing.assert_array_equal(indices, match(before, expected, min_similarity=0.5).indices)
        before = expected


def test_with_the_default_weights_the_homographies_are_the_camera_s_motion(bag, record, tmp_path):
    bag(record(), tmp_path / "out")
    homographies = [message for _, message in read(tmp_path / "out")["/superpoint_detector/matched_homography"]]
    assert [message.status for message in homographies] == [1] + [0] * (FRAMES - 1)
    for message in homographies[1:]:
        moved = message.homography.reshape(3, 3) @ [80, 60, 1]
        np.testing.assert_allclose(moved[:2] / moved[2], [78, 60], atol=0.3)


def test_cloud_and_annotated_images_are_written_on_request(bag, record, tmp_path, tiny_weights):
    topics = {"/camera/camera_info": INFO, "/camera/image_raw": IMAGE}
    bag(record(topics=topics), tmp_path / "out", "--cloud", "--annotated", "-p", f"weights:={tiny_weights}")
    found = read(tmp_path / "out")
    clouds = [message for _, message in found["/superpoint_detector/keypoints_cloud"]]
    drawn = [message for _, message in found["/superpoint_detector/image_annotated"]]
    assert len(clouds) == len(drawn) == FRAMES
    assert (drawn[0].height, drawn[0].width, drawn[0].encoding) == (*SIZE, "bgr8")
    points = clouds[0].data.view("<f4").reshape(-1, 4)
    keypoints = found["/superpoint_detector/features"][0][1].keypoints.reshape(-1, 2)
    np.testing.assert_allclose(points[:, :2] * 100 + [79.5, 59.5], keypoints, atol=1e-3)
    assert (points[:, 2] == 1).all()


def test_a_calibration_that_ros_1_recorded_is_used(bag, record, tmp_path, tiny_weights):
    topics = {"/camera/camera_info": INFO, "/camera/image_raw": IMAGE}
    bag(record(ros=1, topics=topics), tmp_path / "out", "--cloud", "-p", f"weights:={tiny_weights}")
    points = read(tmp_path / "out")["/superpoint_detector/keypoints_cloud"][0][1].data.view("<f4").reshape(-1, 4)
    assert len(points) and (points[:, 2] == 1).all()


def test_parameters_and_names_are_those_of_a_ros_2_command_line(bag, record, tmp_path, tiny_weights):
    (tmp_path / "settings.yaml").write_text(
        f"/**:\n  ros__parameters:\n    weights: {tiny_weights}\n    max_keypoints: 40\n    nms_radius: 3\n"
        "    use_sim_time: true\n"
    )
    words = ["--params-file", tmp_path / "settings.yaml", "-p", "max_keypoints:=15", "-p", "track.coast:=0",
             "-r", "__ns:=/front", "-r", "~/features:=/points"]  # fmt: skip
    bag(record(), tmp_path / "out", *words)
    found = read(tmp_path / "out")
    assert set(found) == {"/points", "/front/superpoint_detector/matched_homography"}
    assert all(len(message.scores) == 15 for _, message in found["/points"])


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


def test_the_first_cloud_has_rays_though_the_image_was_recorded_before_the_calibration(
    bag, record, tmp_path, tiny_weights
):
    topics = {"/camera/image_raw": IMAGE, "/camera/camera_info": INFO}
    bag(record(topics=topics), tmp_path / "out", "--cloud", "-p", f"weights:={tiny_weights}")
    clouds = read(tmp_path / "out")["/superpoint_detector/keypoints_cloud"]
    assert all((message.data.view("<f4").reshape(-1, 4)[:, 2] == 1).all() for _, message in clouds)


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


def test_one_of_several_image_topics_must_be_selected(bag, record, tmp_path, tiny_weights):
    source = record(topics={"/left/image": IMAGE, "/right/image": IMAGE})
    assert "/left/image, /right/image" in bag(source, tmp_path / "out", code=1).stderr
    bag(source, tmp_path / "out", "--topic", "/right/image", "-p", f"weights:={tiny_weights}")
    assert len(list(read_images(source, "/left/image"))) == FRAMES


def test_a_named_camera_names_the_outputs(bag, record, tmp_path, tiny_weights):
    bag(record(), tmp_path / "out", "-p", "cameras:=[left]", "-p", f"weights:={tiny_weights}")
    with AnyReader([tmp_path / "out"]) as reader:
        names = {connection.topic for connection in reader.connections}
    assert names == {f"/superpoint_detector/left/{name}" for name in ("features", "matched_homography")}


def test_masks_next_to_the_images_are_applied(bag, record, tmp_path, tiny_weights):
    source = record(topics={"/camera/image_raw": IMAGE, "/camera/mask": IMAGE})
    bag(source, tmp_path / "out", "--topic", "/camera/image_raw", "-p", f"weights:={tiny_weights}")
    (features,) = [found for topic, found in read(tmp_path / "out").items() if topic.endswith("/features")]
    keypoints = np.concatenate([features_from_message(message).keypoints for _, message in features])
    assert len(features) == FRAMES and len(keypoints) > 0
    assert (np.round(keypoints[:, 0]) >= SIZE[1] // 2).all()


def test_an_mcap_without_index_loses_no_frame_to_its_masks(bag, record, tmp_path, tiny_weights):
    source = next(record(topics={"/camera/image_raw": IMAGE, "/camera/mask": IMAGE}, count=100).glob("*.mcap"))
    data = bytearray(source.read_bytes())
    data[-28:-12] = bytes(16)  # the footer's offsets of the summary, which is the index
    source.write_bytes(data)
    words = ["--topic", "/camera/image_raw", "-p", f"weights:={tiny_weights}", "--json"]
    assert json.loads(bag(source, tmp_path / "out", *words).stdout)["processed"] == 100
    (features,) = [found for topic, found in read(tmp_path / "out").items() if topic.endswith("/features")]
    stamps = [message.header.stamp.sec * 10**9 + message.header.stamp.nanosec for _, message in features]
    assert stamps == [10 * 10**9 + index * 50_000_000 for index in range(100)]
    assert all((features_from_message(message).keypoints[:, 0] >= SIZE[1] // 2 - 0.5).all() for _, message in features)
