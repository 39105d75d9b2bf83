"""Messages: definitions, and conversion of their fields."""

from __future__ import annotations

import struct
from types import SimpleNamespace

import numpy as np
import pytest

from superpoint_ros import Features, Frame, FrontEnd, Homography, Matches, Scene, Status, settings_from_parameters
from superpoint_ros.frontend.frames import FrameResult
from superpoint_ros.node.messages import (
    DESCRIPTOR_TYPES,
    FLOAT16,
    FLOAT32,
    features_fields,
    features_from_message,
    homography_fields,
)

CONTRACT = {
    "Features": """
        uint8 FLOAT32=0
        uint8 FLOAT16=1
        std_msgs/Header header
        uint32 image_height
        uint32 image_width
        string weights
        float32[] keypoints
        float32[] scores
        int64[] track_ids
        uint32[] track_ages
        bool[] coasted
        float32[] covariance
        string camera_model_of_points
        float32[] normalized
        float32[] velocity
        float32[] sizes
        uint8[] levels
        uint32 descriptor_size
        uint8 descriptor_type
        uint8[] descriptors
    """,
    "MatchedHomography": """
        uint8 OK=0
        uint8 FIRST_FRAME=1
        uint8 TOO_FEW_MATCHES=2
        uint8 NO_CONSENSUS=3
        uint8 TIME_JUMP=4
        uint8 IMAGE_CHANGED=5
        std_msgs/Header header
        builtin_interfaces/Time reference_stamp
        uint8 status
        uint32[] reference_indices
        uint32[] current_indices
        float32[] reference_points
        float32[] current_points
        float32[] similarity
        bool[] refined
        float32[] match_covariance
        bool[] inliers
        uint32 inlier_count
        float64[9] homography
        float32 rmse
        float64[64] covariance
        uint8 UNKNOWN=0
        uint8 PLANAR=1
        uint8 GENERAL=2
        uint8 scene
        float64[9] fundamental
        bool[] epipolar_inliers
        uint32 epipolar_inlier_count
    """,
    "StereoMatches": """
        std_msgs/Header header
        builtin_interfaces/Time right_stamp
        float64 baseline
        float64 focal_length
        uint32[] left_indices
        uint32[] right_indices
        float32[] similarity
        bool[] refined
        float32[] disparity
        float32[] disparity_variance
        float32[] row_offset
        float32[] row_error
        float32[] depth
        float32[] points
    """,
}
LABEL = "default:0123456789ab"


def lines(text):
    """A message definition without its comments."""
    stripped = (line.split("#")[0].split() for line in text.splitlines())
    return [" ".join(words) for words in stripped if words]


@pytest.mark.parametrize("name", CONTRACT)
def test_the_definitions_have_exactly_the_documented_fields(project, name):
    assert lines((project / "msg" / f"{name}.msg").read_text(encoding="utf-8")) == lines(CONTRACT[name])
    assert {path.stem for path in (project / "msg").iterdir()} == set(CONTRACT)


@pytest.mark.parametrize("name", CONTRACT)
def test_every_field_of_a_definition_is_documented(project, name):
    documented = False
    for line in (project / "msg" / f"{name}.msg").read_text(encoding="utf-8").splitlines():
        # A comment applies to the lines up to the next blank one.
        documented = bool(line.strip()) and (documented or line.startswith("#"))
        assert documented or not line.strip(), f"{name}.msg: '{line}' has no comment"


def test_the_constants_in_python_are_those_of_the_definitions(typestore):
    features, homography = (typestore.types[f"superpoint_ros/msg/{name}"] for name in ("Features", "MatchedHomography"))
    assert {name: getattr(homography, name) for name in Scene.__members__} == dict(Scene.__members__)
    assert {name: getattr(homography, name) for name in Status.__members__} == dict(Status.__members__)
    assert (features.FLOAT32, features.FLOAT16) == (FLOAT32, FLOAT16)
    assert DESCRIPTOR_TYPES == {"float32": features.FLOAT32, "float16": features.FLOAT16}


def result_of(features, reference=None, matches=None, homography=None):
    ids = np.arange(100, 100 + len(features), dtype=np.int64)
    matches = Matches.empty() if matches is None else matches
    homography = homography or Homography.failed(Status.FIRST_FRAME, len(matches))
    image = np.zeros(features.image_size, np.uint8)
    return FrameResult(Frame(5, lambda: image), image, features, ids, reference, 0, matches, homography)


@pytest.fixture
def features(make_features):
    def make(count):
        places = np.random.default_rng(count).uniform(0, 480, (count, 2))
        return make_features(places, size=256, image_size=(480, 640))

    return make


@pytest.fixture
def over_the_wire(typestore):
    """Convert fields to the message that a subscriber receives, and its bytes."""

    def send(name, fields, **more):
        types = typestore.types
        stamp = types["builtin_interfaces/msg/Time"](sec=12, nanosec=34)
        header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="camera")
        name = f"superpoint_ros/msg/{name}"
        data = typestore.serialize_cdr(types[name](header=header, **fields, **more), name, little_endian=True)
        return typestore.deserialize_cdr(data, name), bytes(data)

    return send


@pytest.mark.parametrize("kind", ["float32", "float16"])
@pytest.mark.parametrize("count", [0, 1, 1000])
def test_features_survive_the_message(features, over_the_wire, count, kind):
    original = features(count)
    message, _ = over_the_wire("Features", features_fields(result_of(original), LABEL, kind))
    assert (message.header.frame_id, message.header.stamp.nanosec, message.weights) == ("camera", 34, LABEL)
    assert message.track_ids.tolist() == list(range(100, 100 + count))
    assert (message.descriptor_size, message.descriptor_type) == (256, DESCRIPTOR_TYPES[kind])
    received = features_from_message(message)
    assert isinstance(received, Features) and received.image_size == (480, 640) and len(received) == count
    np.testing.assert_array_equal(received.keypoints, original.keypoints)
    np.testing.assert_array_equal(received.scores, original.scores)
    assert received.descriptors.dtype == np.float32 and received.descriptors.shape == (count, 256)
    np.testing.assert_allclose(received.descriptors, original.descriptors, atol=0 if kind == "float32" else 1e-3)
    np.testing.assert_allclose(np.linalg.norm(received.descriptors, axis=1), 1, atol=1e-3)


def test_float16_halves_the_bytes_of_the_descriptors(features):
    sizes = {
        kind: features_fields(result_of(features(50)), LABEL, kind)["descriptors"].nbytes for kind in DESCRIPTOR_TYPES
    }
    assert sizes == {"float32": 50 * 256 * 4, "float16": 50 * 256 * 2}


def test_descriptors_are_row_major_and_little_endian(features, over_the_wire):
    original = features(3)
    for kind, code in (("float32", "f"), ("float16", "e")):
        fields = features_fields(result_of(original), LABEL, kind)
        expected = struct.pack(f"<{3 * 256}{code}", *original.descriptors.reshape(-1).tolist())
        assert fields["descriptors"].dtype == np.uint8 and fields["descriptors"].tobytes() == expected
        assert expected in over_the_wire("Features", fields)[1]


def test_keypoints_are_interleaved_x_y(features):
    original = features(4)
    fields = features_fields(result_of(original), LABEL)
    assert fields["keypoints"].tolist() == [value for x, y in original.keypoints.tolist() for value in (x, y)]
    assert (fields["image_height"], fields["image_width"]) == (480, 640)


def test_a_matched_homography_survives_the_message(features, over_the_wire, typestore):
    reference, current = features(30), features(40)
    indices = np.column_stack((np.arange(5, 25), np.arange(39, 19, -1)))
    matches = Matches(indices, np.linspace(1, 0.5, 20, dtype=np.float32))
    inliers = np.arange(20) % 3 > 0
    matrix, covariance = np.array([[1.1, 0.1, 5], [-0.1, 0.9, 7], [1e-5, 2e-5, 1]]), np.arange(64.0).reshape(8, 8)
    homography = Homography(Status.OK, matrix, inliers, 0.75, covariance)
    stamp = typestore.types["builtin_interfaces/msg/Time"](sec=11, nanosec=999)
    fields = homography_fields(result_of(current, reference, matches, homography))
    message, _ = over_the_wire("MatchedHomography", fields, reference_stamp=stamp)
    assert (message.status, message.inlier_count, message.rmse) == (Status.OK, 13, 0.75)
    assert message.reference_stamp.nanosec == 999
    assert message.reference_indices.tolist() == indices[:, 0].tolist()
    assert message.current_indices.tolist() == indices[:, 1].tolist()
    np.testing.assert_array_equal(message.reference_points.reshape(-1, 2), reference.keypoints[indices[:, 0]])
    np.testing.assert_array_equal(message.current_points.reshape(-1, 2), current.keypoints[indices[:, 1]])
    np.testing.assert_array_equal(message.similarity, matches.similarity)
    assert message.inliers.tolist() == inliers.tolist()
    np.testing.assert_array_equal(message.homography.reshape(3, 3), matrix)
    np.testing.assert_array_equal(message.covariance.reshape(8, 8), covariance)


@pytest.mark.parametrize("status", [status for status in Status if status != Status.OK])
def test_without_a_homography_the_message_is_complete_and_zero(features, over_the_wire, typestore, status):
    stamp = typestore.types["builtin_interfaces/msg/Time"](sec=0, nanosec=0)
    fields = homography_fields(result_of(features(3), homography=Homography.failed(status)))
    message, _ = over_the_wire("MatchedHomography", fields, reference_stamp=stamp)
    assert message.status == int(status) and message.inlier_count == 0
    assert message.homography.shape == (9,) and message.covariance.shape == (64,)
    assert not message.homography.any() and not message.covariance.any()
    for name in ("reference_indices", "current_indices", "reference_points", "current_points", "similarity", "inliers"):
        assert len(getattr(message, name)) == 0


def test_results_of_the_real_front_end_fill_both_messages(superpoint, photograph, over_the_wire, typestore):
    front_end = FrontEnd(superpoint, settings_from_parameters({"max_keypoints": 100}))
    stamp = typestore.types["builtin_interfaces/msg/Time"](sec=0, nanosec=0)
    for step in range(2):
        result = front_end.process(Frame(step, lambda step=step: photograph[:160, 16 * step : 192 + 16 * step]))
        received, _ = over_the_wire("Features", features_fields(result, LABEL))
        np.testing.assert_array_equal(features_from_message(received).descriptors, result.features.descriptors)
        np.testing.assert_array_equal(received.track_ids, result.track_ids)
        message, _ = over_the_wire("MatchedHomography", homography_fields(result), reference_stamp=stamp)
        assert message.status == result.homography.status
        assert len(message.inliers) == len(message.similarity) == len(result.matches)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"descriptor_type": 7}, "descriptor_type is 7"),
        ({"descriptor_type": FLOAT16}, "inconsistent"),
        ({"descriptor_size": 255}, "inconsistent"),
        ({"descriptors": bytes(10)}, "10 bytes"),
        ({"descriptors": b""}, "inconsistent"),
        ({"scores": np.ones(4, np.float32)}, "4 scores"),
        ({"keypoints": np.ones(4, np.float32)}, "inconsistent"),
        ({"keypoints": np.ones(5, np.float32)}, "5 coordinates"),
    ],
)
def test_an_inconsistent_message_is_rejected(features, change, words):
    fields = features_fields(result_of(features(3)), LABEL)
    features_from_message(SimpleNamespace(**fields))
    with pytest.raises(ValueError, match=words):
        features_from_message(SimpleNamespace(**{**fields, **change}))
