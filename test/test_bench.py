"""`superpoint-ros bench`: all subjects do the same work, and the results are complete."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from superpoint_ros import cli
from superpoint_ros.benchmark import energy, memory, scene, stages, subjects
from superpoint_ros.benchmark.measure import Case, measure, summary
from superpoint_ros.benchmark.plan import Plan
from superpoint_ros.benchmark.report import markdown, summary_lines, table
from superpoint_ros.benchmark.run import run
from superpoint_ros.extraction import weights
from superpoint_ros.extraction.decoding import Decoding
from superpoint_ros.extraction.network import Architecture, SuperPointNet

CPU = torch.device("cpu")
SIZE = (320, 240)
WHOLE_PIXELS = Decoding(subpixel=False, border=16, detection_threshold=0.0005)


@pytest.fixture(scope="module")
def pair():
    """Two images of the synthetic scene."""
    return scene.frames(SIZE, 2)


@pytest.fixture(scope="module")
def built():
    """Every subject available on this machine, with the default weights."""
    found = {}
    for candidate in subjects.candidates(weights.load("default"), CPU, WHOLE_PIXELS):
        try:
            found[candidate.name] = candidate.build()
        except (ValueError, ImportError):
            continue
    assert {"pytorch-float32", "plain-pytorch", "opencv-sift", "opencv-orb"} <= found.keys()
    return found


@pytest.fixture(scope="module")
def results():
    """A run of everything that needs no second process."""
    plan = Plan(
        sizes=["96x64", "160x120"], batches=[1, 2], rounds=2, extras=["energy"], max_keypoints=60, ceiling_seconds=0.02
    )
    return run(plan)


def places(features):
    """Return keypoints as integer pixels, without the right and lower border that transformers keeps."""
    inside = (features.keypoints < np.array(SIZE) - 16).all(axis=1)
    return {(round(float(x)), round(float(y))) for x, y in features.keypoints[inside]}


def test_the_scene_is_the_same_every_time_and_has_enough_corners(built):
    first, again = scene.frames((640, 480), 1)[0], scene.frames((640, 480), 1)[0]
    assert first.shape == (480, 640, 3) and first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert len(built["pytorch-float32"].extract([first])[0]) > 900


def test_own_images_are_scaled_to_the_size(tmp_path, photograph):
    cv2.imwrite(str(tmp_path / "a.png"), photograph)
    moved = scene.frames((200, 100), 3, tmp_path / "a.png")
    cv2.imwrite(str(tmp_path / "b.png"), photograph[::-1])
    folder = scene.frames((100, 200), 3, tmp_path)
    assert [picture.shape for picture in (*moved, *folder)] == [(100, 200, 3)] * 3 + [(200, 100, 3)] * 3
    assert (moved[0] != moved[1]).any() and (folder[0] != folder[1]).any()
    np.testing.assert_array_equal(folder[0], folder[2])
    with pytest.raises(ValueError, match="does not exist"):
        scene.frames(SIZE, 1, tmp_path / "c.png")


def test_with_float32_and_equal_weights_all_find_the_same_keypoints(built, pair):
    found = {
        name: places(subject.extract(pair[:1])[0])
        for name, subject in built.items()
        if not name.startswith(subjects.LIGHT)
        and (name.endswith("-float32") or name in ("transformers", "plain-pytorch"))
    }
    expected = found["plain-pytorch"]
    assert len(expected) > 200 and len(found) >= 3
    for name, keypoints in found.items():
        assert len(keypoints & expected) >= 0.99 * len(keypoints | expected), name


def test_with_float32_the_descriptors_are_the_same_too(built, pair):
    expected, found = (built[name].extract(pair[:1])[0] for name in ("pytorch-float32", "plain-pytorch"))
    order = {tuple(place): index for index, place in enumerate(found.keypoints.tolist())}
    both = [(i, order[tuple(p)]) for i, p in enumerate(expected.keypoints.tolist()) if tuple(p) in order]
    ours, theirs = np.array(both).T
    assert len(both) > 0.99 * len(expected)
    np.testing.assert_allclose(expected.descriptors[ours], found.descriptors[theirs], atol=1e-3)


def test_every_subject_matches_two_images_of_the_same_scene(built, pair):
    for name, subject in built.items():
        before, after = subject.extract(pair)
        matches, homography = subject.match(before, after, pair)
        assert len(before) > 100 and len(matches) > 50, name
        assert homography.inlier_count > 0.5 * len(matches), name


def test_operations_are_those_that_pytorch_counts():
    for architecture in (Architecture(), Architecture((8, 8, 16, 16, 16, 24, 24, 32), 40, 48, 56)):
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            SuperPointNet(architecture)(torch.zeros(1, 1, 64, 96))
        assert stages.operations(architecture, 96, 64) == counter.get_total_flops()
        assert stages.operations(architecture, 89, 57) == counter.get_total_flops()


def test_subjects_take_turns_in_a_rotating_order(pair):
    order = []

    class Noting(subjects.Classical):
        def __init__(self, name):
            super().__init__(cv2.ORB.create(50), cv2.NORM_HAMMING)
            self.name = name

        def extract(self, images):
            order.append((self.name, len(images)))
            return super().extract(images)

    class Broken(Noting):
        def extract(self, images):
            raise RuntimeError("out of memory\nand much more")

    everybody = {name: Noting(name) for name in "abc"} | {"broken": Broken("broken")}
    samples, failed = measure(everybody, scene.frames((64, 48), 4), batch=2, rounds=3)
    visits = [name for name, _ in order]
    turns = [name for index, name in enumerate(visits) if not index or visits[index - 1] != name]
    assert "".join(turns[3:]) in ("abcbcacab", "bcbcacab")  # the warm-up ends with c
    assert {count for _, count in order} == {2}
    assert failed == {"broken": "RuntimeError: out of memory"}
    for taken in samples.values():
        assert len(taken.extract) == len(taken.whole) >= 3
        assert all(whole > extract > 0 for whole, extract in zip(taken.whole, taken.extract, strict=True))


def test_a_summary_is_in_milliseconds():
    figures = summary([0.001, 0.003, 0.002])
    assert figures["median"] == 2 and figures["least"] == 1 and figures["samples"] == 3
    assert figures["p10"] < figures["median"] < figures["p90"] < figures["p95"] < 3


def test_the_results_contain_every_subject_in_every_case(results, built):
    assert json.loads(json.dumps(results)) == results
    labels = [case["label"] for case in results["cases"]]
    assert labels == ["96x64", "96x64, batch 2", "160x120"]
    for case in results["cases"]:
        assert set(case["subjects"]) == set(built) and not case["failed"]
        for name, f in case["subjects"].items():
            assert 0 < f["keypoints"] <= 60 or name.startswith("opencv"), (case["label"], name)
            assert f["extract"]["samples"] >= 2 and f["processor"]["median"] > 0
            assert 0 < f["extract"]["least"] <= f["extract"]["median"] <= f["extract"]["p95"]
            rate = case["batch"] * 1000 / f["extract"]["median"]
            assert f["images_per_second"] == pytest.approx(rate, rel=0.01)
        assert case["subjects"]["plain-pytorch"]["times_plain-pytorch"] == 1
    assert results["default"] in results["subjects"]
    assert set(results["left_out"]) | set(built) == set(results["subjects"])
    assert results["ceiling"]["float32"] > 1e9


def test_stages_and_agreement_are_given_at_the_reference_size(results):
    reference = results["reference"]
    assert (reference["width"], reference["height"]) == (96, 64)
    assert results["default"] in reference["stages"] and "plain-pytorch" not in reference["stages"]
    for figures in reference["stages"].values():
        assert set(figures["milliseconds"]) == set(stages.STAGES)
        assert sum(figures["share"].values()) == pytest.approx(1, abs=1e-3)
        assert figures["operations_per_second"] > 0
    assert reference["refinement"]["points"] > 0
    assert min(reference["refinement"]["numpy_ms"], reference["refinement"]["tensor_ms"]) > 0
    assert reference["agreement"]["pytorch-float32"] == 1 and reference["agreement"]["plain-pytorch"] > 0.95
    assert reference["energy"] is None or set(reference["energy"]["joules_per_image"]) >= {"plain-pytorch"}


def test_the_report_names_every_subject_and_case(results):
    text = markdown(results)
    assert all(f"| {name}" in text for case in results["cases"] for name in case["subjects"])
    assert all(f"## {case['label']}\n" in text for case in results["cases"])
    assert f"{results['default']} *" in text and results["machine"]["processor"] in text
    assert f"Refining {results['reference']['refinement']['points']} keypoints" in text
    assert any("plain-pytorch" in line for line in summary_lines(results))
    assert any("160x120" in line for line in summary_lines(results))


def test_table_columns_are_aligned():
    lines = table(["name", "x"], [["a", "1.0"], ["longer name", "20.00"]]).splitlines()
    assert len({len(line) for line in lines}) == 1 and lines[1].endswith("-: |")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sizes": ["640"]}, "size '640' is not allowed"),
        ({"sizes": ["8x480"]}, "size '8x480' is not allowed"),
        ({"batches": [0]}, "batch 0 is not allowed"),
        ({"rounds": 0}, "rounds is 0"),
        ({"threads": -1}, "threads is -1"),
        ({"subjects": ["caffe"]}, "subject 'caffe' is unknown, allowed is one of openvino-float32"),
        ({"subjects": ["cuda_graph"]}, "subject 'cuda_graph' is unknown"),
        ({"weights": "imaginary"}, "'imaginary'"),
    ],
)
def test_an_invalid_plan_is_rejected_in_one_sentence(changes, words):
    with pytest.raises(ValueError, match=words) as caught:
        run(Plan(**{"device": "cpu", **changes}))
    assert "\n" not in str(caught.value)


def test_larger_batches_are_measured_at_the_reference_size_by_default():
    plan = Plan(sizes=["320x240", "640x480"], batches=[4, 1])
    assert plan.cases() == [Case(320, 240), Case(640, 480), Case(640, 480, 4)]
    assert len(Plan(sizes=plan.sizes, batches=[1, 2, 4, 8], grid=True).cases()) == 8


def test_the_command_prints_json_and_writes_its_files(tmp_path, tiny_weights, capsys):
    words = ["bench", "--device", "cpu", "--weights", str(tiny_weights), "--quick", "--sizes", "64x48", "--rounds", "1",
             "--subjects", "pytorch-float32", "plain", "transformers", "--extras",
             "--out", str(tmp_path / "out"), "--json"]  # fmt: skip
    assert cli.main(words) == 0
    printed = json.loads(capsys.readouterr().out)
    assert set(printed["cases"][0]["subjects"]) == {"pytorch-float32", "plain-pytorch"}
    assert "transformers" in printed["left_out"]  # its network does not support these layers
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == printed
    assert "plain-pytorch" in (tmp_path / "out" / "results.md").read_text()
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"results.json", "results.md"} <= files <= {"results.json", "results.md", "results.png"}


def test_the_plot_is_an_image(results, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed, superpoint_ros[bench]")
    from superpoint_ros.benchmark.plot import plot

    plot(results, tmp_path / "plot.png")
    assert cv2.imread(str(tmp_path / "plot.png")).std() > 1


def test_peak_memory_is_measured_in_a_separate_process():
    small, large = (memory.peak_memory("plain-pytorch", size, "default", "cpu", 1) for size in ((64, 64), (640, 480)))
    assert small is not None and large is not None
    # The first two layers alone have 64 values per pixel each.
    assert large["resident"] - small["resident"] > 2 * 64 * 4 * 640 * 480 / 1e6 * 0.8
    assert memory.peak_memory("imaginary", (64, 64), "default", "cpu", 1) is None


def test_energy_is_read_from_the_processors_counters(tmp_path):
    for index, (value, span) in enumerate([(5_000_000, 10_000_000), (9_000_000, 10_000_000)]):
        folder = tmp_path / f"intel-rapl:{index}"
        folder.mkdir()
        (folder / "energy_uj").write_text(f"{value}\n")
        (folder / "max_energy_range_uj").write_text(f"{span}\n")
    counter = energy.meter(CPU, tmp_path)
    counter.start()
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("7000000\n")
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("499999\n")  # restarted
    assert counter.joules() == pytest.approx(2.0 + 1.5)


def test_without_counters_energy_is_unknown(tmp_path):
    assert energy.meter(CPU, tmp_path) is None
