"""`superpoint-ros evaluate` as a user runs it, and the numbers of its documentation."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest

from superpoint_ros.evaluation import pairs, report, suite
from superpoint_ros.evaluation.benchmarks import BENCHMARKS
from superpoint_ros.extraction import weights


def run(*arguments, cwd):
    command = [sys.executable, "-m", "superpoint_ros", "evaluate", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def pairs_folder(tmp_path_factory, photograph):
    """Pairs that the command made from two images; a third file is not an image."""
    root = tmp_path_factory.mktemp("made")
    (root / "pictures").mkdir()
    cv2.imwrite(str(root / "pictures" / "a.png"), photograph)
    cv2.imwrite(str(root / "pictures" / "b.png"), np.ascontiguousarray(photograph[:, ::-1]))
    (root / "pictures" / "c.png").write_bytes(b"no image")
    done = run("make-pairs", "pictures", "data", "--size", "240x320", "--json", cwd=root)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["pairs"] == 2 and summary["left_out"][0]["name"].endswith("c.png")
    return root / "data"


def test_one_command_writes_tables_files_and_a_page(command, pairs_folder, tiny_weights, tmp_path):
    specs = (f"superpoint:{tiny_weights}", "harris", "sift", "orb")
    (pairs_folder / "v_broken").mkdir(exist_ok=True)
    arguments = ("all", pairs_folder, "-m", *specs, "--size", "native", "--cache", tmp_path / "cache")
    done = command("evaluate", *arguments, "--out", tmp_path / "out")
    (pairs_folder / "v_broken").rmdir()
    assert done.returncode == 0, done.stderr
    for heading in ("Repeatability", "Localisation error", "Homography estimation", "Nearest-neighbour mAP",
                    "Matching score", "Mean matching accuracy", "skipped: harris", "skipped: v_broken"):  # fmt: skip
        assert heading in done.stdout, heading
    known = json.loads((tmp_path / "out" / "results.json").read_text())
    assert list(known["methods"]) == list(specs)
    assert {item["name"] for item in known["left_out"]} == {"harris", "v_broken"}
    assert len(known["pairs"]) == 2 * (4 + 3 + 3)
    assert (tmp_path / "out" / "results.csv").is_file() and (tmp_path / "out" / "results.md").is_file()
    page = (tmp_path / "out" / "page.html").read_text()
    assert "Matching accuracy" in page and not re.search(r'(src|href)="(?!data:|#)', page)

    again = command("evaluate", *arguments, "--json")
    assert again.returncode == 0, again.stderr
    repeated = json.loads(again.stdout)
    assert repeated["predictions"]["computed"] == 0
    assert repeated["pairs"] == known["pairs"]


def test_homographies_aligned_on_the_images_are_more_accurate_for_any_method(command, pairs_folder, tmp_path):
    arguments = ("homography", pairs_folder, "-m", "sift", "--size", "native", "--cache", tmp_path / "cache", "--json")
    plain, aligned = (json.loads(command("evaluate", *arguments, *more).stdout) for more in ((), ("--align",)))
    for before, after in zip(plain["pairs"], aligned["pairs"], strict=True):
        assert after["values"]["corner_error"] < min(before["values"]["corner_error"], 0.5), before["pair"]
        assert after["values"]["matches"] == before["values"]["matches"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("repeatability", "nowhere"), 1, "dataset 'nowhere' is not a folder"),
        (("repeatability", "."), 1, "has no sequence in HPatches layout"),
        (("repeatability", "data", "-m", "surf"), 1, "method 'surf' is unknown"),
        (("homography", "data", "--estimator", "guess"), 1, "estimator 'guess' is unknown"),
        (("matching", "data", "--size", "8"), 1, "size '8' is not allowed"),
        (("matching", "data", "--max-keypoints", "0"), 2, "at least 1"),
        (("make-pairs", ".", "out"), 1, "contains no image"),
        (("make-pairs", ".", "out", "--scale", "3"), 1, "scale is 3.0, allowed is 0.1 to 1"),
        (("invariance", "data", "--rotation", "sideways"), 1, "rotation 'sideways' is unknown"),
        (("invariance", "data", "--held-out"), 1, "has no image that training keeps out"),
        ((), 2, "BENCHMARK"),
    ],
)
def test_invalid_requests_are_errors_of_one_sentence(arguments, code, words, tmp_path, capsys, monkeypatch):
    from superpoint_ros import cli

    (tmp_path / "data" / "v_one").mkdir(parents=True)
    for k in (1, 2):
        cv2.imwrite(str(tmp_path / "data" / "v_one" / f"{k}.png"), np.zeros((40, 40), np.uint8))
    np.savetxt(tmp_path / "data" / "v_one" / "H_1_2", np.eye(3))
    if words.startswith(("has no sequence", "contains no")):
        monkeypatch.chdir(tmp_path_of_nothing(tmp_path))
    else:
        monkeypatch.chdir(tmp_path)
    try:
        result = cli.main(["evaluate", *arguments])
    except SystemExit as stop:
        result = stop.code
    output = capsys.readouterr()
    assert result == code
    assert words in output.err and output.out == ""
    if code == 1:
        assert len(output.err.strip().splitlines()) == 1 and output.err.startswith("superpoint-ros evaluate: ")


def tmp_path_of_nothing(tmp_path):
    folder = tmp_path / "nothing"
    folder.mkdir()
    return folder


def tables(text):
    """Parse Markdown tables: numbers by heading and by the non-numeric cells of a row."""
    found, heading = {}, ""
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ").strip()
        elif line.startswith("| ") and not line.startswith("| method"):
            cells = [cell.strip(" *") for cell in line.strip("|").split("|")]
            names = tuple(cell for cell in cells if not re.fullmatch(r"[\d.]+|-", cell))
            numbers = [float("nan") if cell == "-" else float(cell) for cell in cells[len(names) :]]
            found.setdefault(heading, {})[names] = numbers
    return found


@pytest.mark.data
@pytest.mark.slow
def test_the_documented_numbers_of_the_small_set_hold(project, shared_data):
    text = (project / "docs" / "evaluation.md").read_text(encoding="utf-8")
    begin, end = "<!-- numbers: begin -->", "<!-- numbers: end -->"
    documented = text[text.index(begin) : text.index(end)]
    remedy = "docs/evaluation.md says how its numbers are brought up to date"
    assert weights.load("default").sha256[:12] in documented, f"the numbers are of other weights: {remedy}"
    expected = tables(documented)
    tolerance = {names[0]: numbers[0] for names, numbers in tables(text)["Tolerances"].items()}
    dataset = pairs.read_dataset(shared_data / "eval" / "hpatches")
    names = ("superpoint", "fast", "harris", "shi", "sift", "orb")
    found = tables(report.markdown(suite.evaluate(dataset, names, [kind() for kind in BENCHMARKS.values()])))
    assert found.keys() == expected.keys()
    for heading, rows in found.items():
        assert rows.keys() == expected[heading].keys()
        for row, numbers in rows.items():
            assert numbers == pytest.approx(expected[heading][row], abs=tolerance[heading], nan_ok=True), (
                f"{heading}, {row}: {remedy}"
            )
