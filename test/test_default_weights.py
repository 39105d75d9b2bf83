"""The weights of the package: the claims of their model cards."""

from __future__ import annotations

import numpy as np
import pytest

from superpoint_ros import Frame, FrontEnd, FrontEndSettings, Status, SuperPoint
from superpoint_ros.benchmark import stages
from superpoint_ros.evaluation import invariance, pairs, suite
from superpoint_ros.evaluation.benchmarks import BENCHMARKS
from superpoint_ros.evaluation.learned import SuperPointMethod
from superpoint_ros.evaluation.metrics import corner_error
from superpoint_ros.extraction import weights
from superpoint_ros.io.images import to_grey
from superpoint_ros.simulation.flight import Flight


@pytest.fixture(scope="module")
def superpoint():
    return SuperPoint()


@pytest.mark.parametrize("name", ["default", "light"])
def test_the_files_are_small_have_the_paper_s_form_and_state_their_licence(name):
    found = weights.load(name)
    assert found.path.stat().st_size < 3_500_000
    assert found.network.architecture.norm == "none"
    assert found.network.architecture.descriptor_size == 256
    assert weights.metadata(found.path)["license"] == "Apache-2.0"
    assert found.sha256[:12] in found.path.with_suffix(".md").read_text(encoding="utf-8")
    assert found.ranges


def test_the_light_network_has_a_tenth_of_the_computation():
    light, default = (
        stages.operations(weights.load(name).network.architecture, 640, 480) for name in ("light", "default")
    )
    assert light <= 0.1 * default


@pytest.mark.parametrize("name", ["default", "light"])
def test_the_weights_follow_a_flight_over_a_photograph(name, photograph):
    flight = Flight(photograph)
    front_end = FrontEnd(SuperPoint(name))
    errors, ratios = [], []
    for i in range(12):
        result = front_end.process(Frame(round(i * 1e8), lambda t=i * 0.1: flight.frame(t)))
        if i:
            truth = flight.homography(i * 0.1) @ np.linalg.inv(flight.homography((i - 1) * 0.1))
            assert result.homography.status == Status.OK
            errors.append(corner_error(result.homography.matrix, truth, flight.size))
            ratios.append(result.homography.inlier_count / len(result.matches))
    assert np.median(errors) <= 1.5
    assert np.median(ratios) >= 0.6


@pytest.mark.parametrize("name", ["default", "light"])
@pytest.mark.parametrize("angle", [45.0, 90.0, 135.0, 180.0])
def test_rotated_images_match_with_any_rotation(name, angle, photograph):
    method, grey = SuperPointMethod(name, detection_threshold=0.005), to_grey(photograph)
    shares = {}
    for rotation in ("upright", "any"):
        (row,) = invariance.measure(
            grey, "", name, method, [invariance.Transform(angle)], invariance.Protocol(360, rotation=rotation)
        )
        shares[rotation] = row.accuracy
    assert shares["any"] >= 0.85
    if angle >= 90:
        assert shares["upright"] < 0.5


@pytest.mark.parametrize("refine", [False, True])
def test_a_camera_that_turns_upside_down_is_followed_with_any_rotation(photograph, refine):
    grey = np.ascontiguousarray(to_grey(photograph)[:360, :480])
    images = grey, np.ascontiguousarray(grey[::-1, ::-1]), grey
    truth = np.array([[-1, 0, 479], [0, -1, 359], [0, 0, 1.0]])
    inliers = {}
    for rotation in ("upright", "any"):
        front_end = FrontEnd(SuperPoint("light"), FrontEndSettings(rotation=rotation, refine=refine))
        _, second, third = (front_end.process(Frame(i * 10**8, lambda i=i: images[i])) for i in range(3))
        inliers[rotation] = [result.homography.inlier_count for result in (second, third)]
        if rotation == "any":
            for result in (second, third):
                assert corner_error(result.homography.matrix, truth, grey.shape) < 0.5
            assert np.count_nonzero(third.track_ages == 2) > 50
    assert min(inliers["any"]) > 5 * max(inliers["upright"])


def test_bfloat16_finds_the_keypoints_of_float32(photograph):
    first, second = (SuperPoint(precision=name, device="cpu") for name in ("float32", "bfloat16"))
    a, b = first.extract(photograph), second.extract(photograph)
    distance = np.abs(a.keypoints[:, None] - b.keypoints[None]).max(axis=2)
    assert (distance.min(axis=1) <= 1).mean() > 0.9


@pytest.mark.data
@pytest.mark.slow
def test_the_default_weights_exceed_sift_and_orb_on_hpatches(shared_data):
    dataset = pairs.read_dataset(shared_data / "eval" / "hpatches")
    names = ("superpoint", "sift", "orb")
    found = suite.evaluate(dataset, names, [kind() for kind in BENCHMARKS.values()])
    assert not found.skipped
    figures = {name: {} for name in names}
    for benchmark in BENCHMARKS:
        for summary in found.summaries(benchmark):
            if summary.group == "overall":
                assert summary.pairs == 10
                figures[summary.method] |= summary.values
    ours = figures["superpoint"]
    for theirs in (figures["sift"], figures["orb"]):
        assert ours["repeatability"] > theirs["repeatability"]
        assert ours["mma_3"] > theirs["mma_3"] + 0.05
        assert ours["correctness_3"] > theirs["correctness_3"] + 0.1


@pytest.mark.data
@pytest.mark.slow
def test_every_frame_of_euroc_yields_results_and_nearly_every_pair_a_homography(superpoint, shared_data):
    from superpoint_ros.demo.sources import open_source

    front_end = FrontEnd(superpoint)
    source = open_source(str(shared_data / "sequences" / "euroc_v1_01"), 20, 95)
    results = [front_end.process(Frame(round(p.time * 1e9), lambda image=p.image: image)) for p in source]
    assert len(results) == 95
    assert all(result is not None for result in results)
    good = [result.homography.status == Status.OK for result in results[1:]]
    assert np.mean(good) >= 0.95
