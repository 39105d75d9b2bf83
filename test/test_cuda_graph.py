"""The CUDA graph runtime: its steps on a CPU, and the graph itself on a GPU."""

from __future__ import annotations

import shutil
import threading

import numpy as np
import pytest
import torch
from operations import UNRECORDABLE, Operations

from superpoint_ros import Frame, FrontEnd, SuperPoint, match, settings_from_parameters
from superpoint_ros.extraction import runtimes, weights
from superpoint_ros.extraction.decoding import Decoding
from superpoint_ros.extraction.fixed import FixedExtractor
from superpoint_ros.extraction.runtimes.cuda_graph import CudaGraphRuntime, Step
from superpoint_ros.two_view.matching import mutual_nearest, mutual_nearest_fixed


def unit(*shape, seed=0):
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(values, dim=-1)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def pair(request, tiny_weights):
    """Plain PyTorch on a CPU, and the graph runtime: recorded on a GPU, step by step on a CPU."""
    options = {"device": "cpu", "runtime": "pytorch", "precision": "float32", "max_keypoints": 150}
    plain, fixed = (SuperPoint(tiny_weights, **options) for _ in range(2))
    fixed.runtime = CudaGraphRuntime(fixed.weights.network, torch.device(request.param), "float32")
    return plain, fixed


def assert_same(found, expected):
    assert len(found) == len(expected) > 0 and found.image_size == expected.image_size
    distance = np.linalg.norm(expected.keypoints[:, None] - found.keypoints[None], axis=2)
    nearest, near = distance.argmin(axis=1), distance.min(axis=1) < 0.02
    assert near.mean() > 0.98
    np.testing.assert_allclose(found.scores[nearest][near], expected.scores[near], atol=1e-3)
    np.testing.assert_allclose(found.descriptors[nearest][near], expected.descriptors[near], atol=1e-2)


@pytest.mark.parametrize("size", [(64, 96), (61, 85)])
def test_the_whole_step_equals_decoding(pair, size, grey):
    plain, fixed = pair
    for top in (0, 100, 200):
        image = grey[top : top + size[0], : size[1]]
        assert_same(fixed.extract(image), plain.extract(image))


def test_a_step_copies_nothing_from_the_host_and_never_synchronises(tiny_weights):
    """Copies from the host and data-dependent shapes would break the recording."""
    network = weights.load(tiny_weights).network
    step = Step(FixedExtractor(network, Decoding(50), (64, 96)), (1, 1, 64, 96), torch.device("cpu"))
    with torch.no_grad(), Operations() as seen:
        step()
    assert "convolution" in seen.names
    assert not seen.names & UNRECORDABLE
    with torch.no_grad(), Operations() as forbidden:
        torch.tensor([1.0])
        float(torch.ones(()) * 2)
    assert {"lift_fresh", "_local_scalar_dense"} <= forbidden.names


def test_masked_keypoints_do_not_take_the_place_of_others(pair, grey):
    plain, fixed = pair
    for each in pair:
        each.configure(max_keypoints=40)
    image, mask = np.ascontiguousarray(grey[:128, :192]), np.ones((128, 192), bool)
    mask[:, :96] = False
    found = fixed.extract(image, mask=mask)
    assert len(found) == 40 and (found.keypoints[:, 0] > 95).all()
    assert_same(found, plain.extract(image, mask=mask))
    assert_same(fixed.extract(image), plain.extract(image))  # the mask holds for one image only


def test_features_are_not_overwritten_by_the_next_frame(pair, grey):
    first = pair[1].extract(grey[:64, :96])
    copies = [array.copy() for array in (first.keypoints, first.scores, first.descriptors)]
    pair[1].extract(grey[100:164, 100:196])
    for array, copy in zip((first.keypoints, first.scores, first.descriptors), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_changed_settings_mixed_sizes_and_batches_work(pair, grey):
    images = [grey[:64, :96], grey[:80, 40:200], grey[100:164, :96], grey[9:73, 9:105]]
    for limit in (150, 20, 150):
        for superpoint in pair:
            superpoint.configure(max_keypoints=limit, resize=0 if limit == 20 else 120)
        for found, image in zip(pair[1].extract_batch(images), images, strict=True):
            assert_same(found, pair[0].extract(image))


@pytest.mark.parametrize("ratio", [1.0, 0.9])
def test_matches_of_the_graph_equal_those_of_matching(pair, ratio, grey):
    fixed = pair[1]
    before, after = (fixed.extract(grey[top : top + 96, :128]) for top in (100, 103))
    assert after.link is not None and after.link.before is before.link.own
    found = match(before, after, min_similarity=0.9, ratio=ratio)
    unlinked = [
        type(features)(features.keypoints, features.scores, features.descriptors, features.image_size)
        for features in (before, after)
    ]
    expected = match(*unlinked, min_similarity=0.9, ratio=ratio)
    assert len(expected) > 5
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.similarity, expected.similarity, atol=1e-4)


def test_the_front_end_matches_each_camera_with_its_own_previous_frame(pair, grey):
    settings = settings_from_parameters({"max_keypoints": 150, "homography.min_inliers": 4, "track.coast": 0})
    expected, found = (FrontEnd(superpoint, settings) for superpoint in pair)
    for index in range(6):
        camera, top = ("left", "right")[index % 2], 100 + 3 * index + 80 * (index % 2)
        frame = Frame(index * 10_000_000, lambda top=top: grey[top : top + 96, :128], camera)
        theirs, ours = expected.process(frame), found.process(frame)
        pairs = [{tuple(row) for row in result.matches.indices.tolist()} for result in (theirs, ours)]
        assert (len(pairs[0]) > 5) == (index > 1)
        assert len(pairs[0] ^ pairs[1]) <= 0.05 * len(pairs[0])
    assert set(found.stopwatch.medians()) >= {"preprocess", "network", "decode features", "match"}


def test_cameras_in_one_batch_keep_the_matches_that_the_graph_has_found(pair, grey):
    settings = settings_from_parameters({"max_keypoints": 150, "homography.min_inliers": 4, "track.coast": 0})
    results = []

    def submit(index, cameras):
        for camera in cameras:
            top = 100 + 3 * index + 80 * (camera == "right")
            front_end.submit(Frame(index * 10_000_000, lambda top=top: grey[top : top + 96, :128], camera))

    def on_result(result):
        results.append(result)
        if len(results) in (2, 4):  # submitted by the worker itself, so that both wait
            submit(len(results), ("right", "left"))

    front_end = FrontEnd(pair[1], settings, on_result, together=True)
    submit(0, ("left", "right"))
    front_end.start()
    assert front_end.drain(60)
    front_end.close()
    assert [result.frame.camera for result in results] == ["left", "right"] * 3
    for result in results[2:]:
        assert result.features.link.before is result.reference.link.own
        assert len(result.matches) > 5 and result.homography.status == 0


@pytest.mark.parametrize(("firsts", "seconds"), [(40, 50), (1, 50), (40, 1), (0, 50), (40, 0)])
def test_matching_at_fixed_sizes_equals_matching(firsts, seconds):
    a, b = unit(2, 40, 6), unit(2, 50, 6, seed=1)
    counts = torch.tensor([firsts, 40]), torch.tensor([seconds, 50])
    forward, best, second = mutual_nearest_fixed(a, counts[0], b, counts[1])
    assert forward.shape == best.shape == second.shape == (2, 40)
    for image, (n, m) in enumerate(((firsts, seconds), (40, 50))):
        index = torch.nonzero(forward[image] >= 0)[:, 0]
        if not n or not m:
            assert not len(index)
            continue
        indices, similarity = mutual_nearest(a[image, :n], b[image, :m], -1.0, 1.0)
        assert torch.equal(torch.stack((index, forward[image][index]), dim=1), indices)
        torch.testing.assert_close(best[image][index], similarity)
        if m > 1:
            expected = (a[image, :n] @ b[image, :m].T).topk(2, dim=1).values[:, 1]
            torch.testing.assert_close(second[image, :n], expected)


@pytest.mark.parametrize("name", ["cuda_graph", "cuda_graph_compiled"])
def test_on_a_cpu_the_graph_is_rejected_in_a_sentence(tiny_network, name):
    with pytest.raises(ValueError, match=f"runtime '{name}' is for the device cuda, not for 'cpu'"):
        runtimes.create(tiny_network, "cpu", name)


def compiled(superpoint):
    network, device = superpoint.weights.network, superpoint.runtime.device
    superpoint.runtime = CudaGraphRuntime(network, device, "float32", compiled=True)
    return superpoint


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("c++"), reason="PyTorch's compiler needs a C++ compiler, c++ is not found")
def test_the_compiled_step_is_one_graph_with_equal_results(pair, grey, caplog):
    plain, superpoint = pair[0], compiled(pair[1])
    assert superpoint.runtime.name == "cuda_graph_compiled"
    for top in (100, 110):
        image = grey[top : top + 48, :64]
        assert_same(superpoint.extract(image), plain.extract(image))
    assert not caplog.records  # which would explain a failed compilation


def test_if_the_compiler_fails_the_step_runs_unfused_and_the_reason_is_logged(pair, grey, monkeypatch, caplog):
    def without_compiler(step, **options):
        def run():
            raise RuntimeError("no Triton\nhere")

        return run

    monkeypatch.setattr(torch, "compile", without_compiler)
    plain, superpoint = pair[0], compiled(pair[1])
    image = grey[:64, :96]
    assert_same(superpoint.extract(image), plain.extract(image))
    assert [record.message for record in caplog.records] == ["kernels are not fused, RuntimeError: no Triton here"]


@pytest.mark.cuda
def test_other_threads_may_allocate_on_the_gpu_while_a_graph_is_recorded(tiny_weights, grey):
    superpoint = SuperPoint(tiny_weights, device="cuda", runtime="cuda_graph", max_keypoints=150)
    kept, problems, done = [], [], threading.Event()

    def allocate():
        try:
            while not done.is_set() and len(kept) < 500:
                kept.append(torch.zeros(3 << 20, device="cuda"))  # too large for the cache, so each is allocated
        except RuntimeError as error:
            problems.append(error)

    other = threading.Thread(target=allocate)
    other.start()
    try:
        found = [superpoint.extract(grey[: 240 + 8 * index, :320]) for index in range(6)]  # a graph each
    finally:
        done.set()
        other.join()
    assert kept and not problems and all(len(each) for each in found)


@pytest.mark.cuda
def test_one_graph_serves_a_shape_and_half_precision_keeps_coordinates_exact(tiny_weights, grey):
    superpoint = SuperPoint(tiny_weights, device="cuda", runtime="cuda_graph", max_keypoints=150)
    assert superpoint.runtime.precision == "float16"
    exact = SuperPoint(tiny_weights, device="cpu", precision="float32", max_keypoints=150)
    image = grey[:240, :320]
    found, expected = superpoint.extract(image), exact.extract(image)
    distance = np.linalg.norm(expected.keypoints[:, None] - found.keypoints[None], axis=2).min(axis=1)
    assert np.median(distance) < 0.1 and np.mean(found.keypoints % 1 != 0) > 0.5
    assert found.device_descriptors.device.type == "cuda"
