"""Outputs in the forms of other systems: their fields, and what becomes of them in the node and in a bag."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from node_run import Host

from superpoint_ros import Frame, FrameResult, Homography, Matches, Status
from superpoint_ros.adapters.foxglove import LINE_LIST, POINTS, image_annotations
from superpoint_ros.node import adapters
from superpoint_ros.node.detector import Detector

STAMP = 1_700_000_000_123_456_789
SIZE = (480, 640)


@pytest.fixture
def result(make_features):
    """The result of a second frame: three keypoints with ages, of which two have a match, one of them an inlier."""
    reference = make_features([[10, 20], [30, 40]], image_size=SIZE)
    current = make_features([[11, 20], [32, 40], [100.25, 200.5]], image_size=SIZE)
    matches = Matches(np.array([[0, 0], [1, 1]]), np.ones(2, np.float32))
    homography = replace(Homography.failed(Status.OK), inliers=np.array([True, False]))
    ids, ages = np.arange(3), np.array([20, 400, 0])
    frame = Frame(STAMP, lambda: np.zeros(SIZE, np.uint8))
    return FrameResult(frame, np.zeros(SIZE, np.uint8), current, ids, reference, 0, matches, homography, ages)


def of(fields, kind):
    return [annotation for annotation in fields["points"] if annotation["type"] == kind]


def red_green_blue(annotation):
    return [annotation["outline_color"][name] for name in "rgb"]


def test_annotations_have_the_origin_at_the_corner_of_the_image_and_the_images_stamp(result):
    fields = image_annotations(result)
    points = np.concatenate([annotation["points"] for annotation in of(fields, POINTS)])
    expected = [[11.5, 20.5], [32.5, 40.5], [100.75, 201.0]]
    assert sorted(points.tolist()) == expected
    assert {fields["timestamp"], *(annotation["timestamp"] for annotation in fields["points"])} == {STAMP}


def test_points_are_coloured_by_the_age_of_their_tracks(result):
    old, new = sorted(of(image_annotations(result), POINTS), key=lambda annotation: -len(annotation["points"]))
    assert len(old["points"]) == 2 and new["points"].tolist() == [[100.75, 201.0]]
    red, _, blue = red_green_blue(new)
    assert blue > red + 0.3
    red, green, blue = red_green_blue(old)
    assert red > blue + 0.3 and green > blue + 0.3


def test_lines_lead_from_the_previous_position_and_are_green_for_inliers(result):
    lines = {
        tuple(annotation["points"].reshape(-1)): annotation for annotation in of(image_annotations(result), LINE_LIST)
    }
    inlier, outlier = lines[10.5, 20.5, 11.5, 20.5], lines[30.5, 40.5, 32.5, 40.5]
    red, green, blue = red_green_blue(inlier)
    assert green > 2 * red and green > 2 * blue
    red, green, blue = red_green_blue(outlier)
    assert red > 2 * green and red > 2 * blue


def test_without_tracks_points_are_coloured_by_score(result):
    untracked = replace(result, track_ids=np.zeros(0, np.int64), track_ages=np.zeros(0, np.int64))
    blueness = {}
    for annotation in of(image_annotations(untracked), POINTS):
        red, _, blue = red_green_blue(annotation)
        blueness[annotation["points"][0, 0]] = blue - red
    assert blueness[11.5] < blueness[32.5] < blueness[100.75]


def test_a_frame_without_keypoints_clears_the_annotations(result, make_features):
    empty = replace(result, features=make_features([], image_size=SIZE), reference=None, matches=Matches.empty(),
                    track_ages=np.zeros(0, np.int64))  # fmt: skip
    assert image_annotations(empty)["points"] == []


@pytest.fixture
def picture(grey):
    def picture(number):
        image = np.ascontiguousarray(grey[number : number + 240, :320])
        header = SimpleNamespace(stamp=SimpleNamespace(sec=1, nanosec=number * 1000), frame_id="camera")
        return SimpleNamespace(header=header, height=240, width=320, encoding="mono8", is_bigendian=0, step=320,
                               data=image.reshape(-1))  # fmt: skip

    return picture


@pytest.fixture
def run(tiny_weights, picture):
    """Process three frames with these adapters; return host and detector."""

    def run(*names):
        host = Host()
        values = {"weights": str(tiny_weights), "device": "cpu", "adapters": list(names) or [""]}
        detector = Detector(values, host, live=False)
        for number in range(3):
            detector.submit_image(picture(number))
        assert detector.front_end.counters.processed == 3
        return host, detector

    return run


def test_an_adapter_that_is_on_publishes_for_every_frame_and_others_never(run):
    host, detector = run("foxglove")
    stamps = [fields["timestamp"] for key, fields in host.published if key == "image_annotations"]
    assert stamps == [1_000_000_000 + number * 1000 for number in range(3)] and not host.warnings
    assert ("image_annotations", "") in detector.outputs
    host, detector = run()
    assert "image_annotations" not in {key for key, _ in host.published}
    assert ("image_annotations", "") not in detector.outputs


def test_an_adapter_that_fails_costs_one_warning_and_no_frame(run, monkeypatch):
    def fail(result):
        raise ValueError("there is no room")

    monkeypatch.setattr(adapters.foxglove, "image_annotations", fail)
    host, _ = run("foxglove")
    assert [key for key, _ in host.published].count("features") == 3
    assert host.warnings == ["/camera/image: image_annotations skipped: there is no room"]
