"""`superpoint-ros evaluate tracks`: trackers on sources with ground truth, and reports."""

from __future__ import annotations

import csv
import json

import cv2
import numpy as np
import pytest

from superpoint_ros.cli import main
from superpoint_ros.evaluation import trackers, tracks
from superpoint_ros.evaluation.track_sources import open_source
from superpoint_ros.evaluation.track_summary import evaluate

pytest.importorskip("skimage", reason="scikit-image, which holds the photograph of the flight, is not installed")


@pytest.fixture(scope="module")
def shifted(photograph):
    """Six (200, 300) crops of a photograph, each two pixels further right and one further down."""
    return [photograph[100 + i : 300 + i, 50 + 2 * i : 350 + 2 * i].copy() for i in range(6)]


@pytest.mark.parametrize("spec", ["klt", "orb"])
def test_a_tracker_tracks_points_with_the_image(shifted, spec):
    tracker = trackers.create(spec)
    seen = [tracker.process(image, i / 10) for i, image in enumerate(shifted)]
    for number, one in enumerate(seen[1:], 1):
        assert one.reference == number - 1
        assert len(one.match_points) > 50
        moved = np.median(one.match_points - one.reference_points, axis=0)
        np.testing.assert_allclose(moved, [-2, -1], atol=0.1)
    table = tracks.TrackTable.from_observations(seen)
    first, later = table.after(5)
    assert len(first) > 20
    np.testing.assert_allclose(np.median(table.points[later] - table.points[first], axis=0), [-10, -5], atol=0.2)


def test_flow_is_refilled_to_its_number_and_ids_are_never_reused(shifted):
    tracker = trackers.KLTTracker(most=200)
    seen = [tracker.process(image, i / 10) for i, image in enumerate(shifted)]
    assert all(len(one.points) == 200 for one in seen)
    assert all(len(set(one.ids.tolist())) == len(one.ids) for one in seen)
    blank = np.zeros_like(shifted[0])
    assert not len(tracker.process(blank, 0.6).points)
    assert tracker.process(shifted[0], 0.7).ids.min() > max(one.ids.max() for one in seen)


def test_matches_of_the_front_end_equal_those_of_its_tracks(shifted, tiny_weights):
    tracker = trackers.create(f"superpoint:{tiny_weights},homography.align=false")
    for number, image in enumerate(shifted):
        one = tracker.process(image, number / 10)
        assert len(one.points) == len(one.ids) > 20
        assert one.reference == number - 1
        assert (len(one.match_points) > 0) == (number > 0)
    assert tracker.settings()["parameters"]["homography.align"] is False


def test_a_frame_that_the_front_end_skips_affects_only_itself(shifted, tiny_weights):
    tracker = trackers.create(f"superpoint:{tiny_weights}")
    tracker.process(shifted[0], 0.0)
    with pytest.warns(UserWarning, match="skipped"):
        assert not len(tracker.process(np.zeros((3, 3), np.uint8), 0.1).points)
    after = tracker.process(shifted[1], 0.2)
    assert after.reference == 0
    assert len(after.match_points)


def test_an_image_of_a_plane_agrees_with_its_homography(tmp_path, photograph):
    folder = tmp_path / "v_made"
    folder.mkdir()
    cv2.imwrite(str(folder / "1.png"), photograph[:300, :400])
    shift = np.array([[1.0, 0, -7], [0, 1, -4], [0, 0, 1]])
    cv2.imwrite(str(folder / "2.png"), photograph[4:304, 7:407])
    np.savetxt(folder / "H_1_2", shift)
    source = open_source(str(folder))
    (run,) = evaluate(source, [trackers.create("sift")])
    assert source.kind == "planar"
    assert run.values["match_median"] < 0.05
    assert run.values["survival_1"] > 0.8
    assert np.isnan(run.values["off_5"])


def test_the_command_writes_what_it_prints(tmp_path, capsys, tiny_weights):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    words = [
        "evaluate",
        "tracks",
        "flight",
        "--frames",
        "3",
        "--weights",
        str(tiny_weights),
        "-p",
        "max_keypoints:=150",
    ]
    assert main([*words, "--out", str(tmp_path), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "tracks.json").read_text(encoding="utf-8"))
    assert [method["method"] for method in printed["methods"]] == ["superpoint", "klt", "orb"]
    assert printed["methods"][0]["settings"]["parameters"]["max_keypoints"] == 150
    klt = printed["methods"][1]["summary"]
    assert 0 < klt["match_median"] < 0.6
    assert klt["off_20"] is None
    with open(tmp_path / "tracks.csv", encoding="utf-8", newline="") as file:
        rows = {(row["method"], row["metric"], row["frames"]): row["value"] for row in csv.DictReader(file)}
    assert float(rows["klt", "match_median", ""]) == klt["match_median"]
    assert float(rows["klt", "off", "1"]) == klt["off_1"]
    assert f"{klt['match_median']:.3f}" in (tmp_path / "tracks.md").read_text(encoding="utf-8")
    assert (tmp_path / "tracks.png").stat().st_size > 10000


def test_the_flight_is_the_same_for_all_and_reproducible(capsys):
    words = ["evaluate", "tracks", "flight", "--frames", "3", "-m", "klt", "klt", "--json"]
    found = []
    for _ in range(2):
        assert main(words) == 0
        found += [method["summary"] for method in json.loads(capsys.readouterr().out)["methods"]]
    assert all(summary == found[0] for summary in found)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["nowhere"], "source 'nowhere' is unknown, allowed is flight, room"),
        (["flight", "-m", "fast"], "method 'fast' produces no tracks"),
        (["flight", "-m", "klt:3"], "method 'klt:3' produces no tracks"),
        (["flight", "-m", "surf"], "method 'surf' is unknown"),
        (["flight", "-p", "tracking:=false"], "parameter 'tracking' is false, allowed for tracks is true"),
        (["flight", "-p", "speed:=3"], "'speed'"),
    ],
)
def test_misuse_is_an_error_of_one_sentence(capsys, words, named):
    assert main(["evaluate", "tracks", *words]) == 1
    error = capsys.readouterr().err
    assert named in error
    assert len(error.splitlines()) == 1


def test_in_the_room_matches_are_measured_on_their_surfaces():
    (run,) = evaluate(open_source("room", frames=3), [trackers.create("klt")])
    assert run.values["match_median"] < 0.3
    assert run.values["wrong"] < 0.1
    assert run.values["survival_1"] > 0.7


@pytest.mark.parametrize(("folder", "kind", "still"), [("euroc_v1_01", "points", True), ("kitti_part", "lines", False)])
def test_recordings_are_measured_with_their_ground_truth(shared_data, folder, kind, still):
    source = open_source(str(shared_data / "sequences" / folder), frames=12)
    assert (source.truth.kind, source.truth.still) == (kind, still)
    (run,) = evaluate(source, [trackers.create("klt")])
    assert 0 < run.values["match_median"] < 0.5
    assert run.values["wrong"] < 0.15
    assert np.isfinite(run.values["scatter"]) == still
