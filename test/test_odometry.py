"""`superpoint-ros evaluate odometry`: rendered rooms with known motion, and real sequences."""

from __future__ import annotations

import csv
import json
import sys

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from superpoint_ros import cli
from superpoint_ros.evaluation import odometry, odometry_summary
from superpoint_ros.evaluation.sequences import open_sequence
from superpoint_ros.two_view.motion import Motion, MotionStatus

pytest.importorskip("evo", reason="evo, which takes the trajectory errors, is not installed")

SIZE, FOCAL = (240, 320), 260.0
MATRIX = np.array([[FOCAL, 0, 160], [0, FOCAL, 120], [0, 0, 1]])


def render(texture, pose, finer=2):
    """Render a room textured with a photograph, without a front wall, from a pose."""
    size = (finer * SIZE[0], finer * SIZE[1])
    y, x = (np.mgrid[: size[0], : size[1]] + 0.5) / finer - 0.5
    rays = np.stack(((x - 160) / FOCAL, (y - 120) / FOCAL, np.ones(size)), axis=-1) @ pose[:3, :3].T
    image, nearest = np.zeros(size, np.uint8), np.full(size, np.inf)
    for axis, place in ((2, 6.0), (1, 1.2), (1, -1.5), (0, -2.0), (0, 2.5)):
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = (place - pose[axis, 3]) / rays[..., axis]
        hit = pose[:3, 3] + rays * np.where(np.isfinite(depth), depth, 0)[..., None]
        u, v = (hit[..., i] for i in range(3) if i != axis)
        paper = cv2.remap(texture, (u * 100 + 40 * axis).astype(np.float32), (v * 100).astype(np.float32),
                          cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)  # fmt: skip
        seen = (depth > 0) & (depth < nearest)
        image[seen], nearest[seen] = paper[seen], depth[seen]
    return cv2.resize(image, SIZE[::-1], interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="session")
def room(grey, tmp_path_factory):
    """Seven frames of a path through the room, in KITTI layout."""
    folder = tmp_path_factory.mktemp("sequences") / "room"
    (folder / "image_0").mkdir(parents=True)
    rows = []
    for index in range(7):
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_euler("yx", [2.0 * index, 0.5 * index], degrees=True).as_matrix()
        pose[:3, 3] = [0.1 * index**1.2, 0.05 * np.sin(index), 0.3 * index]
        cv2.imwrite(str(folder / "image_0" / f"{index:06d}.png"), render(grey, pose))
        rows.append(pose[:3].ravel())
    np.savetxt(folder / "poses.txt", rows)
    np.savetxt(folder / "calib.txt", [np.column_stack((MATRIX, np.zeros(3))).ravel()])
    return folder


@pytest.fixture
def evaluate(tmp_path, capsys):
    """Run the command; return exit code, stdout and stderr."""

    def run(*words):
        code = cli.main([str(word) for word in ("evaluate", "odometry", *words, "--cache", tmp_path / "cache")])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_known_motion_is_found_by_several_methods_in_one_run(evaluate, room, tmp_path):
    code, out, _ = evaluate(room, "-m", "sift", "orb", "--out", tmp_path / "out")
    assert code == 0
    assert "rotation" in out and "steps are scaled to their true length" in out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "errors.png", "odometry.csv", "odometry.json", "odometry.md", "trajectory.png",
    ]  # fmt: skip
    found = json.loads((tmp_path / "out" / "odometry.json").read_text())
    assert [method["method"] for method in found["methods"]] == ["sift", "orb"]
    # ORB's keypoints are at integer pixels of its pyramid.
    for method, (rotation, direction) in zip(found["methods"], ((0.1, 1.5), (2, 25)), strict=True):
        summary = method["summary"]
        assert summary["rotation_median"] < rotation and summary["direction_median"] < direction
        assert summary["failed"] == 0 and summary["steps"] == summary["moving_steps"] == 6
    sift = found["methods"][0]
    assert sift["summary"]["auc_5"] > 0.7
    assert sift["summary"]["ate_percent"] < 1 and sift["summary"]["rpe_rotation"] < 0.5
    true, aligned = np.array(found["true_positions"]), np.array(sift["aligned_positions"])
    rmse = np.sqrt(((true - aligned) ** 2).sum(axis=1).mean())
    assert rmse == pytest.approx(sift["summary"]["ate"], rel=1e-6)
    with open(tmp_path / "out" / "odometry.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 and rows[0]["first"] == "000000.png" and rows[0]["second"] == "000001.png"
    for name in ("trajectory.png", "errors.png"):
        assert cv2.imread(str(tmp_path / "out" / name)).std() > 5
    assert "| sift | " in (tmp_path / "out" / "odometry.md").read_text()


def test_in_the_furnished_room_matches_are_measured_against_the_true_depth(evaluate, tmp_path):
    words = ("room", "-m", "sift", "orb", "--frames", 3, "--every", 5)
    code, out, _ = evaluate(*words, "--out", tmp_path / "out")
    assert code == 0 and "Matches against the true depth" in out
    found = json.loads((tmp_path / "out" / "odometry.json").read_text())
    sift, orb = (method["summary"] for method in found["methods"])
    assert sift["accuracy"] > 0.6
    # ORB's keypoints are at integer pixels of its pyramid.
    assert 0 < sift["match_error"] < 0.5 * orb["match_error"] < 1
    assert sift["rotation_median"] < 1


def test_match_errors_are_those_of_right_matches_and_unknown_without_any():
    true = np.zeros((4, 2))
    found = np.array([[0.3, 0.4], [0, 1], [3.1, 0], [0, 2]])
    assert odometry.match_errors(true, found) == pytest.approx((0.75, 1.0))
    assert np.isnan(odometry.match_errors(true[:0], found[:0])).all()


def test_with_json_stdout_contains_only_json(evaluate, room):
    code, out, _ = evaluate(room, "-m", "sift", "--frames", 3, "--json")
    assert code == 0 and json.loads(out)["frames"] == 3


def test_the_user_s_own_network_runs_with_the_others(evaluate, room, tiny_weights):
    code, out, _ = evaluate(room, "-m", f"superpoint:{tiny_weights}", "sift", "--frames", 3, "--json")
    assert code == 0
    learned = json.loads(out)["methods"][0]
    assert learned["method"] == f"superpoint:{tiny_weights}" and len(learned["steps"]) == 2


def test_short_steps_count_for_their_rotation_only(evaluate, room):
    code, out, _ = evaluate(room, "-m", "sift", "--frames", 4, "--min-translation", 10, "--json")
    found = json.loads(out)
    summary = found["methods"][0]["summary"]
    assert code == 0 and summary["moving_steps"] == 0
    assert summary["direction_median"] is None and summary["auc_5"] is None
    assert summary["rotation_median"] < 0.15
    _, table, _ = evaluate(room, "-m", "sift", "--frames", 4, "--min-translation", 10)
    assert "0 of 3 steps are 10 m or longer" in " ".join(table.split())


def test_an_unreadable_image_is_bridged_and_reported(evaluate, room, tmp_path):
    broken = tmp_path / "broken"
    (broken / "image_0").mkdir(parents=True)
    for path in [*room.glob("*.txt"), *room.glob("image_0/*.png")]:
        (broken / path.relative_to(room)).write_bytes(path.read_bytes())
    (broken / "image_0" / "000002.png").write_bytes(b"no image")
    cv2.imwrite(str(broken / "image_0" / "000004.png"), np.zeros((100, 100), np.uint8))
    code, out, _ = evaluate(broken, "-m", "sift", "--json")
    found = json.loads(out)
    assert code == 0 and found["frames"] == 5
    steps = [(step["first"][5], step["second"][5]) for step in found["methods"][0]["steps"]]
    assert steps == [("0", "1"), ("1", "3"), ("3", "5"), ("5", "6")]
    reasons = {item["name"]: item["reason"] for item in found["left_out"]}
    assert "cannot be read as an image" in reasons["000002.png"]
    assert "100x100 pixels, the calibration is for 320x240" in reasons["000004.png"]
    assert found["methods"][0]["summary"]["direction_median"] < 3


def test_a_method_without_descriptors_is_skipped_and_reported(evaluate, room):
    code, out, _ = evaluate(room, "-m", "fast", "sift", "--frames", 3, "--json")
    found = json.loads(out)
    assert code == 0 and [method["method"] for method in found["methods"]] == ["sift"]
    assert found["left_out"] == [{"name": "fast", "reason": "the method has no descriptors, which matching needs"}]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["-m", "fast"], "there is nothing to evaluate in sequence 'room': fast: the method has no descriptors"),
        (["-m", "surf"], "method 'surf' is unknown"),
        (["--estimator", "guess"], "estimator 'guess' is unknown, allowed is one of refined, ransac"),
        (["--start", "6"], "of the 7 frames of sequence 'room' 1 are selected, allowed is at least 2"),
        (["--camera-info", "nowhere.yaml"], "file 'nowhere.yaml' does not exist"),
    ],
)
def test_invalid_requests_are_errors_of_one_sentence(evaluate, room, words, sentence):
    code, out, err = evaluate(room, *words)
    assert code == 1 and not out
    assert sentence in err and len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        ({"distortion_model": "rational_polynomial", "coefficients": 6},
         "distortion model 'rational_polynomial' has 6 coefficients, allowed are 4 or 5 or 8 or 12 or 14"),
        ({"distortion_model": "equidistant", "coefficients": 2},
         "distortion model 'equidistant' has 2 coefficients, allowed are 4"),
        ({"image_width": 640, "image_height": 480}, "is for 640x480 pixels and its images have 320x240"),
        ({"focal": ".nan"}, "the camera matrix is nan"),
    ],
    ids=["six coefficients", "two coefficients", "another size", "not finite"],
)  # fmt: skip
def test_an_unusable_calibration_is_rejected_in_one_sentence(evaluate, room, tmp_path, broken, sentence):
    values = {"image_width": 320, "image_height": 240, "distortion_model": "plumb_bob", "coefficients": 5, **broken}
    path = tmp_path / "camera.yaml"
    path.write_text(
        f"image_width: {values['image_width']}\nimage_height: {values['image_height']}\n"
        f"camera_matrix: {{rows: 3, cols: 3, data: [{values.get('focal', FOCAL)}, 0, 160, 0, {FOCAL}, 120, 0, 0, 1]}}\n"
        f"distortion_model: {values['distortion_model']}\n"
        f"distortion_coefficients: {{rows: 1, cols: 1, data: {[0.1] * values['coefficients']}}}\n"
    )
    code, out, err = evaluate(room, "--camera-info", path)
    assert code == 1 and not out
    assert sentence in err and len(err.strip().splitlines()) == 1


def test_without_evo_the_extra_is_named_at_once(evaluate, room, monkeypatch):
    monkeypatch.setitem(sys.modules, "evo", None)
    code, _, err = evaluate(room)
    assert code == 1 and err.strip().endswith("install it with: pip install 'superpoint_ros[evaluate]'")


@pytest.mark.parametrize("words", [["--threshold", "0"], ["--frames", "1"], ["--every", "x"], ["--delta", "0"]])
def test_numbers_out_of_range_are_misuse(evaluate, room, words):
    with pytest.raises(SystemExit) as raised:
        evaluate(room, *words)
    assert raised.value.code == 2


def test_features_are_cached_for_the_next_run(evaluate, room):
    first = json.loads(evaluate(room, "-m", "sift", "--frames", 3, "--json")[1])["methods"][0]
    again = json.loads(evaluate(room, "-m", "sift", "--frames", 3, "--json", "--estimator", "ransac")[1])["methods"][0]
    assert again["seconds"] < first["seconds"]
    assert [step["matches"] for step in again["steps"]] == [step["matches"] for step in first["steps"]]


def test_a_failed_step_repeats_the_previous_motion_with_an_infinite_error(room, monkeypatch):
    sequence = open_sequence(room).part(frames=4)
    true = [np.linalg.inv(b) @ a for a, b in zip(sequence.poses, sequence.poses[1:], strict=False)]
    motions = [Motion(MotionStatus.OK, t[:3, :3], t[:3, 3] / np.linalg.norm(t[:3, 3]), np.ones(9, bool)) for t in true]
    motions[1] = Motion.failed(9)
    given = iter(motions)
    monkeypatch.setitem(odometry.ESTIMATORS, "given", lambda *_: next(given))
    found = odometry.evaluate(sequence, ["orb"], odometry.Settings(estimator="given"))
    errors = [step.rotation_error for step in found.tracks[0].steps]
    assert errors[1] == np.inf and max(errors[0], errors[2]) < 1e-5
    chained = np.linalg.inv(found.tracks[0].poses[2]) @ found.tracks[0].poses[1]
    np.testing.assert_allclose(chained[:3, :3], true[0][:3, :3], atol=1e-9)
    assert np.linalg.norm(chained[:3, 3]) == pytest.approx(np.linalg.norm(true[1][:3, 3]))
    summary = odometry_summary.summarise(found)[0].values
    assert summary["failed"] == 1 and summary["rotation_mean"] < 1e-5
    # Two of three steps are perfect: two thirds of the area, less the rise between 0 and the first threshold.
    assert summary["auc_5"] == pytest.approx(2 / 3, abs=1e-3)


def test_trajectory_errors_equal_a_plain_computation():
    rng = np.random.default_rng(0)
    true, estimated = (np.tile(np.eye(4), (20, 1, 1)) for _ in range(2))
    true[:, :3, 3] = np.cumsum(rng.normal(0, 1, (20, 3)), axis=0)
    true[:, :3, :3] = Rotation.random(20, random_state=0).as_matrix()
    # A similarity of the truth has no trajectory error; its relative errors are those of the scale.
    turn = Rotation.from_rotvec([0.3, 0.2, -0.5]).as_matrix()
    estimated[:, :3, :3] = turn @ true[:, :3, :3]
    estimated[:, :3, 3] = 1.5 * true[:, :3, 3] @ turn.T + [1, 2, 3]
    values, aligned = odometry_summary.trajectory_errors(estimated, true, delta=3)
    np.testing.assert_allclose(aligned, true[:, :3, 3], atol=1e-9)
    assert values["ate"] < 1e-9 and values["rpe_rotation"] < 1e-4
    steps = true[3:, :3, 3] - true[:-3, :3, 3]
    assert values["rpe_translation"] == pytest.approx(0.5 * np.sqrt((steps**2).sum(axis=1).mean()), rel=1e-6)
    length = np.linalg.norm(np.diff(true[:, :3, 3], axis=0), axis=1).sum()
    assert values["path"] == pytest.approx(length)
    noisy = estimated.copy()
    noisy[7, :3, 3] += [0.5, 0, 0]
    assert 0.01 < odometry_summary.trajectory_errors(noisy, true, delta=3)[0]["ate"] < 0.1


def test_a_stationary_camera_has_no_trajectory_error():
    values, _ = odometry_summary.trajectory_errors(
        np.tile(np.eye(4), (5, 1, 1)), np.tile(np.eye(4), (5, 1, 1)), delta=10
    )
    assert np.isnan(values["ate"]) and np.isnan(values["ate_percent"])
    assert values["rpe_translation"] == values["rpe_rotation"] == 0


@pytest.mark.data
def test_the_default_methods_run_on_kitti(evaluate, shared_data):
    folder = shared_data / "sequences" / "kitti_part"
    code, out, _ = evaluate(folder, "--frames", 3, "--json")
    found = {method["method"]: method["summary"] for method in json.loads(out)["methods"]}
    assert code == 0 and list(found) == ["superpoint", "sift", "orb"]
    for summary in found.values():
        assert summary["moving_steps"] == 2 and summary["failed"] == 0
        assert summary["rotation_median"] < 0.2 and summary["direction_median"] < 3


@pytest.mark.data
def test_a_hovering_euroc_sequence_only_counts_rotations(evaluate, shared_data):
    folder = shared_data / "sequences" / "euroc_v1_01"
    code, out, _ = evaluate(folder, "-m", "sift", "--frames", 4, "--json")
    summary = json.loads(out)["methods"][0]["summary"]
    assert code == 0 and summary["moving_steps"] == 0
    assert summary["direction_median"] is None and summary["ate"] is None
    assert summary["rotation_median"] < 0.02  # as large as the noise of the ground truth
