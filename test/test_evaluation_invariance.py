"""Matching by angle and by scale: pairs with known transforms, counting, tables and the command."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from superpoint_ros.cli import main
from superpoint_ros.commands import train
from superpoint_ros.evaluation import invariance, invariance_report
from superpoint_ros.evaluation.development import measure_on
from superpoint_ros.evaluation.invariance import Protocol, Row, Transform
from superpoint_ros.evaluation.methods import Detection
from superpoint_ros.two_view.geometry import project


@pytest.mark.parametrize("transform", [Transform(90), Transform(180), Transform(37), Transform(0, 2), Transform(60, 3)])
def test_the_two_images_of_a_pair_agree_where_the_homography_says(grey, transform):
    first, second, homography = invariance.transformed(grey, transform, 192)
    assert first.shape == (192, 192) and second.shape == (round(192 / transform.factor),) * 2
    smooth = [cv2.GaussianBlur(image, (0, 0), sigma) for image, sigma in ((first, 4 * transform.factor), (second, 4))]
    back = cv2.warpPerspective(smooth[1], np.linalg.inv(homography), (192, 192))
    y, x = np.mgrid[:192, :192]
    inside = np.hypot(x - 95.5, y - 95.5) < 70
    assert np.abs(back.astype(float) - smooth[0])[inside].mean() < 2
    assert smooth[0][inside].std() > 10


def test_a_quarter_turn_is_clockwise_and_exact(grey):
    first, second, _ = invariance.transformed(grey, Transform(90), 192)
    y, x = np.mgrid[:192, :192]
    inside = np.hypot(x - 95.5, y - 95.5) < 95
    np.testing.assert_array_equal(second[inside], np.rot90(first, -1)[inside])


class Oracle:
    """A method that knows 60 corresponding points of both images, and describes all but every third alike."""

    def __init__(self, homography, size):
        random = np.random.default_rng(2)
        self.places = random.uniform(0.3 * size, 0.7 * size, (60, 2))
        table = random.normal(size=(60, 64))
        self.homography, self.table = homography, np.float32(table / np.linalg.norm(table, axis=1, keepdims=True))

    def detections(self, wrong):
        there = project(self.homography, self.places)
        there[:wrong] += 5
        return [
            Detection(p.astype(np.float32), np.linspace(1, 0.1, 60, dtype=np.float32), self.table)
            for p in (self.places, there)
        ]


@pytest.mark.parametrize("rotation", ["upright", "any"])
def test_matches_within_epsilon_of_the_truth_count_as_correct(grey, rotation):
    first, second, homography = invariance.transformed(grey, Transform(135, 2), 192)
    found = Oracle(homography, 192).detections(wrong=15)
    sizes = (first.shape[0], second.shape[0])
    assert invariance.matched(*found, homography, sizes, Protocol(192, rotation=rotation)) == (60, 45)
    assert invariance.matched(*found, homography, sizes, Protocol(192, epsilon=8, rotation=rotation)) == (60, 60)


def test_steerable_descriptors_of_a_rotated_image_match_only_with_any_rotation(grey):
    _, _, homography = invariance.transformed(grey, Transform(90), 192)
    first, second = Oracle(homography, 192).detections(wrong=0)
    turned = Detection(second.keypoints, second.scores, np.roll(second.descriptors, 16, axis=1))
    assert invariance.matched(first, turned, homography, (192, 192), Protocol(192, rotation="any"))[1] == 60
    assert invariance.matched(first, turned, homography, (192, 192), Protocol(192))[1] < 5


def test_keypoints_outside_the_common_circle_do_not_count():
    corner = np.array([[1.0, 1.0], [96.0, 96.0], [96.0, 0.5]], np.float32)
    found = Detection(corner, np.ones(3, np.float32), np.eye(3, 4, dtype=np.float32))
    assert invariance.matched(found, found, np.eye(3), (192, 192), Protocol(192)) == (2, 2)


def rows():
    return [
        Row("sift", image, transform, matches, right)
        for image, transform, matches, right in [
            ("a", Transform(0), 10, 10), ("b", Transform(0), 0, 0), ("a", Transform(90), 10, 5),
            ("b", Transform(90), 4, 4), ("a", Transform(0, 2), 8, 2), ("b", Transform(0, 2), 8, 6),
        ]
    ]  # fmt: skip


def test_summaries_are_means_over_images_and_no_match_counts_as_zero_accuracy():
    found = {s.transform: (s.accuracy, s.right, s.images) for s in invariance.summaries(rows())}
    assert found == {Transform(0): (0.5, 5, 2), Transform(90): (0.75, 4.5, 2), Transform(0, 2): (0.5, 4, 2)}


def test_tables_have_a_row_for_each_angle_and_each_scale():
    tables = invariance_report.tables(invariance.summaries(rows()), Protocol())
    assert [t.heading for t in tables] == [
        "Rotation: matching accuracy",
        "Rotation: correct matches",
        "Scale: matching accuracy",
        "Scale: correct matches",
    ]
    assert tables[0].header == ("rotation", "sift") and tables[0].rows == (("0°", "0.500"), ("90°", "0.750"))
    assert tables[2].header == ("scale", "sift") and tables[2].rows == (("1/1", "0.500"), ("1/2", "0.500"))


def test_the_best_method_of_each_row_is_highlighted():
    others = [replace(row, method="orb", right=max(row.right - 1, 0)) for row in rows()]
    table = invariance_report.tables(invariance.summaries([*rows(), *others]), Protocol())[0]
    assert table.header == ("rotation", "sift", "orb") and table.best == {(0, 1), (1, 1)}


def test_an_unknown_rotation_is_rejected():
    with pytest.raises(ValueError, match="rotation 'sideways' is unknown, allowed is one of upright, any"):
        Protocol(rotation="sideways")


def test_the_command_measures_classical_methods_and_writes_its_report(tmp_path, grey, capsys):
    images = tmp_path / "images"
    images.mkdir()
    for i in range(3):
        cv2.imwrite(str(images / f"{i}.png"), grey[10 * i :, 10 * i :])
    (images / "broken.png").write_bytes(b"nothing")
    words = [str(images), "-m", "sift", "--size", "160", "--out", str(tmp_path / "out"), "--json"]
    assert main(["evaluate", "invariance", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((tmp_path / "out" / "results.json").read_text())
    by = {(s["angle"], s["factor"]): s for s in found["summaries"]}
    assert by[0, 1]["images"] == 3 and by[0, 1]["accuracy"] > 0.95
    assert by[90, 1]["accuracy"] > 0.8 and by[0, 2]["accuracy"] > 0.3
    assert by[0, 1]["right"] > by[0, 2]["right"] > by[0, 4]["right"]
    assert "broken.png" in found["left_out"][0]["name"]
    assert "Rotation: correct matches" in (tmp_path / "out" / "results.md").read_text()
    assert "Scale: matching accuracy" in (tmp_path / "out" / "page.html").read_text()


def test_development_figures_are_fractions_and_the_score_is_the_mean_of_upright_rotated_and_scaled(
    tmp_path, grey, tiny_weights
):
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), grey[10 * i :, 10 * i :])
    found = measure_on(sorted(tmp_path.glob("*.png")), most=2)(tiny_weights)
    turned = [found[f"turned_{angle}"] for angle in (45, 90, 180)]
    shrunk = [found[f"shrunk_{factor}"] for factor in (2, 3)]
    assert all(0 <= value <= 1 for value in found.values())
    assert found["score"] == pytest.approx((found["upright"] + np.mean(turned) + np.mean(shrunk)) / 3)
    assert found["upright"] > 0


def test_measuring_without_held_out_images_is_rejected():
    with pytest.raises(ValueError, match="measure_every is above 0, and none of the images is held out"):
        train._measure_on([])
