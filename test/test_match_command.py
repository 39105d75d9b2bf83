"""`superpoint-ros match`: two images to matches and homography, in words, JSON and a drawing."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from superpoint_ros import cli
from superpoint_ros.two_view.geometry import project

TURN = np.array([[0.96, -0.12, 30.0], [0.1, 0.98, -12.0], [1e-4, -6e-5, 1.0]])


@pytest.fixture
def pair(tmp_path, photograph):
    """Two views of a photograph that are related by TURN."""
    first = np.ascontiguousarray(photograph[60:420, 20:500])
    cv2.imwrite(str(tmp_path / "a.png"), first)
    cv2.imwrite(str(tmp_path / "b.png"), cv2.warpPerspective(first, TURN, (480, 360), flags=cv2.INTER_CUBIC))
    return tmp_path / "a.png", tmp_path / "b.png"


@pytest.fixture
def match(capsys):
    """Run the command; return exit code, stdout and stderr."""

    def run(*words):
        try:
            code = cli.main([str(word) for word in ["match", *words, "--weights", "light", "--device", "cpu"]])
        except SystemExit as error:
            code = error.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_the_terminal_shows_numbers_and_homography(match, pair):
    code, out, _ = match(*pair)
    assert code == 0
    assert "keypoints" in out and "inliers, rmse" in out and "scene: PLANAR" in out


def test_json_has_every_match_and_the_right_homography(match, pair):
    code, out, _ = match(*pair, "--json")
    found = json.loads(out)
    assert code == 0 and found["status"] == "OK" and found["scene"] == "PLANAR"
    corners = np.array([[0, 0], [479, 0], [479, 359], [0, 359.0]])
    assert np.abs(project(np.array(found["homography"]), corners) - project(TURN, corners)).max() < 0.5
    assert found["matches"] == len(found["points_a"]) == len(found["points_b"]) == len(found["inliers"]) > 100
    moved = project(TURN, np.array(found["points_a"]))[np.array(found["inliers"])]
    assert np.median(np.linalg.norm(moved - np.array(found["points_b"])[np.array(found["inliers"])], axis=1)) < 1


def test_the_drawing_shows_both_images_with_lines(match, pair, tmp_path):
    code, _, _ = match(*pair, "--out", tmp_path / "new" / "matches.png")
    drawing = cv2.imread(str(tmp_path / "new" / "matches.png"))
    assert code == 0 and drawing.shape == (360, 960, 3)
    green = (drawing[..., 1] > 190) & (drawing[..., 2] < 120)
    assert green[:, 400:560].sum() > 500


def test_images_without_anything_in_common_say_so(match, pair, tmp_path):
    cv2.imwrite(str(tmp_path / "flat.png"), np.full((120, 160), 127, np.uint8))
    code, out, _ = match(pair[0], tmp_path / "flat.png")
    assert code == 0 and "0 matches" in out and "no homography: TOO_FEW_MATCHES" in out and "scene: UNKNOWN" in out


@pytest.mark.parametrize("words", [["absent.png"], ["--out", "matches.nonsense"]])
def test_misuse_is_one_sentence(match, pair, words):
    arguments = [pair[0], *words] if words[0] == "absent.png" else [*pair, *words]
    code, _, err = match(*arguments)
    assert code in (1, 2) and len(err.strip().splitlines()) >= 1 and "Traceback" not in err
