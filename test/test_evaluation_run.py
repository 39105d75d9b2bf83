"""Whole evaluations: cached predictions, parallel work, complete results."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from superpoint_ros.evaluation import cache, methods, pairs, report, results, suite, warps
from superpoint_ros.evaluation.benchmarks import HomographyEstimation, Matching, Repeatability
from superpoint_ros.evaluation.engine import Engine
from superpoint_ros.evaluation.framing import Framing

SMALL = Framing(crop=(120, 160))
BENCHMARKS = (Repeatability(SMALL), HomographyEstimation(SMALL, nms_radius=3), Matching(SMALL, nms_radius=3))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, photograph):
    """An illumination sequence and warped pairs, from one photograph."""
    root = tmp_path_factory.mktemp("dataset")
    (root / "pictures").mkdir()
    for k, part in enumerate((photograph[:300], photograph[200:], photograph[:, 150:])):
        cv2.imwrite(str(root / "pictures" / f"{k}.png"), part)
    warps.make_pairs(root / "pictures", root / "data", warps.Warping((240, 320), seed=1))
    dark = root / "data" / "i_dark"
    dark.mkdir()
    for k in range(1, 7):
        cv2.imwrite(str(dark / f"{k}.png"), (photograph * (1.0 - 0.1 * k)).astype(np.uint8))
        if k > 1:
            np.savetxt(dark / f"H_1_{k}", np.eye(3))
    return root / "data"


def evaluate(dataset, names=("sift", "fast"), engine=None, predictions=None, benchmarks=BENCHMARKS):
    return suite.evaluate(pairs.read_dataset(dataset), names, benchmarks, engine, predictions)


def figures(found):
    """Return everything except durations."""
    known = found.as_dict()
    return {name: known[name] for name in ("pairs", "summaries", "left_out")}


@pytest.fixture(scope="module")
def found(dataset):
    return evaluate(dataset)


def test_every_method_has_a_figure_for_every_pair_and_group(found):
    assert len(found.rows) == 8 * (2 + 1 + 1)  # five light and three warped pairs; fast only detects
    groups = {s.group: s for s in found.summaries("repeatability") if s.method == "fast"}
    assert {group: s.pairs for group, s in groups.items()} == {"illumination": 5, "warped": 3, "overall": 8}
    overall = groups["overall"].values["repeatability"]
    parts = [groups[name].values["repeatability"] * n for name, n in (("illumination", 5), ("warped", 3))]
    assert overall == pytest.approx(sum(parts) / 8)
    assert 0.3 < overall <= 1
    homography = {s.group: s.values for s in found.summaries("homography")}
    assert homography["illumination"]["correctness_1"] == 1
    assert homography["warped"]["correctness_5"] >= 2 / 3
    curve = [next(found.summaries("matching")).values[f"mma_{t}"] for t in range(1, 11)]
    assert curve == sorted(curve) and curve[-1] > 0.7
    assert [item.reason for item in found.skipped if item.name == "fast"] == [
        "the method has no descriptors, which homography and matching need"
    ]


def test_several_processes_equal_one_process(dataset, found, tmp_path):
    spread = evaluate(dataset, engine=Engine(processes=2), predictions=tmp_path)
    assert figures(spread) == figures(found)
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.serial
def test_stopping_early_does_not_wait_for_queued_tasks():
    results = Engine(processes=2).run(time.sleep, [0.2] * 300, "sleeping")
    next(results)
    started = time.monotonic()
    results.close()
    assert time.monotonic() - started < 10  # all of them take thirty seconds


@pytest.mark.slow
def test_ray_equals_one_process(dataset, found):
    pytest.importorskip("ray", reason="Ray, an optional engine, is not installed")
    assert figures(evaluate(dataset, engine=Engine(ray=""))) == figures(found)


def test_a_second_run_recomputes_no_features_with_equal_results(dataset, found, tmp_path):
    first = evaluate(dataset, predictions=tmp_path)
    # 12 images; sift with and without descriptors, fast twice because its lack of them shows only in its first.
    assert first.reused == 0 and first.computed == 12 * 3 + 4
    again = evaluate(dataset, predictions=tmp_path)
    assert (again.computed, again.reused) == (0, first.computed)
    assert figures(again) == figures(first) == figures(found)
    wider = evaluate(dataset, predictions=tmp_path, benchmarks=[Repeatability(SMALL, epsilon=5)])
    assert wider.computed == 0  # another metric on the same predictions


class Interrupted:
    """A real method that is interrupted by Ctrl-C after some images."""

    def __init__(self, method: methods.Method, pictures: int) -> None:
        self._method = method
        self._left = pictures
        self.name = "sift"

    def settings(self):
        return self._method.settings()

    def detect(self, image, max_keypoints, nms_radius):
        if not self._left:
            raise KeyboardInterrupt
        self._left -= 1
        return self._method.detect(image, max_keypoints, nms_radius)


def test_an_interrupted_run_resumes(dataset, tmp_path, monkeypatch):
    create = methods.create
    monkeypatch.setattr(methods, "create", lambda spec: Interrupted(create(spec), 5))
    with pytest.raises(KeyboardInterrupt):
        evaluate(dataset, ["sift"], predictions=tmp_path, benchmarks=BENCHMARKS[1:2])
    monkeypatch.setattr(methods, "create", create)
    rest = evaluate(dataset, ["sift"], predictions=tmp_path, benchmarks=BENCHMARKS[1:2])
    assert (rest.computed, rest.reused) == (7, 5)


def test_predictions_are_cached_by_content(tmp_path, grey):
    first, other = (cache.Predictor(methods.create(spec), tmp_path) for spec in ("sift", "sift:rootsift=true"))
    whole = first.detect(grey, 50, 4)
    for image, most, radius, descriptors in ((grey, 50, 8, True), (grey, 40, 4, True), (grey, 50, 4, False),
                                             (grey.T, 50, 4, True), (grey[1:], 50, 4, True)):  # fmt: skip
        first.detect(image, most, radius, descriptors)
    other.detect(grey, 50, 4)
    assert (first.computed, first.reused, other.computed) == (6, 0, 1)
    kept = first.detect(grey.copy(), 50, 4)
    assert first.reused == 1
    for name in ("keypoints", "scores", "descriptors"):
        assert np.array_equal(getattr(kept, name), getattr(whole, name))


def test_a_damaged_prediction_is_recomputed(tmp_path, grey):
    predictor = cache.Predictor(methods.create("orb"), tmp_path)
    whole = predictor.detect(grey, 50, 4)
    (path,) = tmp_path.rglob("*.npz")
    path.write_bytes(path.read_bytes()[:200])
    again = predictor.detect(grey, 50, 4)
    assert predictor.computed == 2 and np.array_equal(again.keypoints, whole.keypoints)


def test_an_unreadable_and_a_rejected_image_do_not_affect_the_rest(dataset, tmp_path, grey):
    data = tmp_path / "data"
    for name in ("v_good", "v_bad"):
        (data / name).mkdir(parents=True)
        for k in range(1, 7):
            cv2.imwrite(str(data / name / f"{k}.png"), grey)
            np.savetxt(data / name / f"H_1_{k}", np.eye(3))
    (data / "v_good" / "3.png").write_bytes(b"nothing")
    (data / "v_bad" / "1.png").write_bytes(b"nothing")
    cv2.imwrite(str(data / "v_good" / "4.png"), grey[:8, :8])
    native = [Repeatability(Framing()), HomographyEstimation(Framing())]
    found = evaluate(data, ["superpoint", "harris"], benchmarks=native[:1])
    reasons = {item.name: item.reason for item in found.skipped}
    assert reasons["v_good/1-3"].endswith("3.png' cannot be read as an image")
    assert reasons["v_good/1-4"].endswith("allowed is at least 16x16 (method superpoint)")
    assert reasons["v_bad"].endswith("1.png' cannot be read as an image")
    assert len(reasons) == len(found.skipped) == 3
    pairs_of = {s.method: s.pairs for s in found.summaries("repeatability")}
    assert pairs_of == {"superpoint": 3, "harris": 4}
    with pytest.raises(ValueError, match=r"nothing in dataset.*cannot be read"):
        (data / "v_good" / "1.png").write_bytes(b"nothing")
        evaluate(data, ["harris"], benchmarks=native)


def test_files_contain_what_the_tables_show(found, tmp_path):
    written = results.write(found, tmp_path, report.markdown(found))
    assert [path.name for path in written] == ["results.json", "results.csv", "results.md"]
    known = json.loads((tmp_path / "results.json").read_text())
    summary = next(s for s in known["summaries"] if (s["benchmark"], s["method"], s["group"]) == (
        "repeatability", "sift", "overall"))  # fmt: skip
    value = summary["values"]["repeatability"]
    with open(tmp_path / "results.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    key = {"benchmark": "repeatability", "method": "sift", "group": "overall", "pair": "", "metric": "repeatability"}
    assert [float(line["value"]) for line in lines if key.items() <= line.items()] == [value]
    assert len([line for line in lines if line["metric"] == "corner_error"]) == 8
    text = Path(tmp_path / "results.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| sift"))
    assert row.replace("*", "").split("|")[-2].strip() == f"{value:.3f}"
    assert "* fast: the method has no descriptors" in text
