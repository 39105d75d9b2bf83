"""All runtimes find the same keypoints; those that need a package name it."""

from __future__ import annotations

import importlib.util
import threading

import cv2
import numpy as np
import pytest
import torch

from superpoint_ros import SuperPoint
from superpoint_ros.cli import main
from superpoint_ros.evaluation import planar
from superpoint_ros.evaluation.metrics import repeatability
from superpoint_ros.evaluation.pairs import Pair
from superpoint_ros.extraction import ranges, runtimes, weights
from superpoint_ros.extraction.network import Architecture, SuperPointNet
from superpoint_ros.extraction.runtimes import cache
from superpoint_ros.training.homographies import HomographyRange, random_homography

PACKAGES = {"openvino": "openvino", "onnxruntime": "onnxruntime"}
OTHERS = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            importlib.util.find_spec(package) is None, reason=f"{package} is not installed, superpoint_ros[{name}]"
        ),
    )
    for name, package in PACKAGES.items()
]
needs_openvino = OTHERS[0].marks[0]


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """An empty cache of compiled models for one test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "superpoint_ros"


def scene(photograph, size=(240, 320)):
    height, width = size
    return np.ascontiguousarray(photograph[40 : 40 + height, 60 : 60 + width])


def share_found(first, second, radius):
    """Compute the fraction of the first's keypoints that the second has within `radius` pixels."""
    distance = np.linalg.norm(first.keypoints[:, None] - second.keypoints[None], axis=2)
    return float((distance.min(axis=1) <= radius).mean())


@pytest.mark.parametrize("size", [(240, 320), (121, 163), (40, 56)])
@pytest.mark.parametrize("name", OTHERS)
def test_with_float32_every_runtime_finds_pytorchs_keypoints_and_descriptors(name, size, photograph):
    image = scene(photograph, size)
    settings = {"device": "cpu", "precision": "float32", "border": 0, "detection_threshold": 0.002}
    expected, found = (SuperPoint(runtime=runtime, **settings).extract(image) for runtime in ("pytorch", name))
    assert len(expected) == len(found) > 0
    assert share_found(expected, found, 0.01) > 0.995 and share_found(found, expected, 0.01) > 0.995
    nearest = np.linalg.norm(expected.keypoints[:, None] - found.keypoints[None], axis=2).argmin(axis=1)
    same = np.linalg.norm(expected.keypoints - found.keypoints[nearest], axis=1) < 0.01
    np.testing.assert_allclose(expected.scores[same], found.scores[nearest][same], atol=1e-4)
    np.testing.assert_allclose(expected.descriptors[same], found.descriptors[nearest][same], atol=1e-3)


@pytest.mark.parametrize("norm", ["none", "before_relu", "after_relu"])
@pytest.mark.parametrize("name", OTHERS)
def test_a_network_of_any_form_has_pytorchs_maps(name, norm, randomised, grey):
    widths = (8, 8, 8, 8, 16, 16, 16, 16)
    network = randomised(SuperPointNet(Architecture(widths, 32, 16, 24, norm)), seed=5)
    images = torch.from_numpy(np.stack([grey[None, :64, :96], grey[None, 100:164, 100:196]]))
    pytorch = runtimes.create(network, "cpu", "pytorch", "float32")
    other = runtimes.create(network, "cpu", name, "float32")
    for theirs, ours in zip(pytorch(images), other(images), strict=True):
        assert theirs.shape == ours.shape and ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("name", OTHERS)
def test_one_extractor_serves_changing_shapes_batches_and_threads(name, tiny_weights, grey):
    superpoint = SuperPoint(tiny_weights, device="cpu", runtime=name, precision="float32")
    images = [grey[:64, :96], grey[50:130, 40:200], grey[:64, 100:196], grey[9:73, :96]]
    alone = [superpoint.extract(image) for image in images]
    results = {}

    def work(index):
        for _ in range(3):
            results[index] = superpoint.extract(images[index])

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, together in enumerate(superpoint.extract_batch(images)):
        for found in (together, results[index]):
            np.testing.assert_allclose(found.keypoints, alone[index].keypoints, atol=1e-3)
            np.testing.assert_allclose(found.descriptors, alone[index].descriptors, atol=1e-3)


def test_features_are_not_overwritten_by_the_next_frame(tiny_weights, grey):
    superpoint = SuperPoint(tiny_weights, device="cpu")
    first = superpoint.extract(grey[:64, :96])
    copies = [array.copy() for array in (first.keypoints, first.scores, first.descriptors)]
    superpoint.extract(grey[100:164, 100:196])
    for array, copy in zip((first.keypoints, first.scores, first.descriptors), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def warped_pairs(picture, count):
    """An image, and the same image warped by random homographies."""
    height, width = size = picture.shape
    random = np.random.default_rng(0)
    for index in range(count):
        back = random_homography(random, size, size, HomographyRange(rotation=10, scale_min=0.7, perspective=0.1))
        seen = cv2.warpPerspective(picture, back, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        yield Pair(str(index), picture, seen, np.linalg.inv(back))


def method(extractor):
    def run(image):
        features = extractor.extract(image)
        return features.keypoints, features.descriptors

    return run


@needs_openvino
def test_bfloat16_repeats_float32_and_loses_no_accuracy(grey):
    precisions = ("float32", "bfloat16")
    exact, rough = (SuperPoint(device="cpu", runtime="openvino", precision=precision) for precision in precisions)
    picture = np.ascontiguousarray(grey[60:300, 40:360])
    places = [extractor.extract(picture).keypoints for extractor in (exact, rough)]
    assert repeatability(*places, np.eye(3), picture.shape, picture.shape, 1.0)[0] > 0.95
    pairs = list(warped_pairs(picture, 4))
    first, second = (planar.evaluate(method(extractor), pairs) for extractor in (exact, rough))
    assert first.homography[1] >= 0.5
    assert second.homography[1] >= first.homography[1] - 0.01
    assert abs(second.repeatability - first.repeatability) < 0.01


@pytest.fixture(scope="module")
def calibrated(photograph, tmp_path_factory):
    """The default weights with ranges for int8, measured on a part of the photograph."""
    folder = tmp_path_factory.mktemp("calibrated")
    cv2.imwrite(str(folder / "picture.png"), photograph[256:, :320])
    arguments = ["default", str(folder / "calibrated.safetensors"), str(folder / "picture.png")]
    assert main(["weights", "calibrate", *arguments]) == 0
    return folder / "calibrated.safetensors"


@needs_openvino
def test_int8_finds_most_of_float32s_keypoints(grey, calibrated):
    precisions = ("float32", "int8")
    exact, rough = (SuperPoint(calibrated, device="cpu", runtime="openvino", precision=p) for p in precisions)
    assert rough.runtime.precision == "int8"
    picture = np.ascontiguousarray(grey[:240, 40:360])
    first, second = exact.extract(picture), rough.extract(picture)
    assert repeatability(first.keypoints, second.keypoints, np.eye(3), picture.shape, picture.shape, 1.0)[0] > 0.85
    distance = np.linalg.norm(first.keypoints[:, None] - second.keypoints[None], axis=2)
    near = distance.min(axis=1) < 0.5
    cosine = (first.descriptors[near] * second.descriptors[distance.argmin(axis=1)[near]]).sum(axis=1)
    assert cosine.mean() > 0.97
    assert not np.array_equal(first.descriptors, second.descriptors)


def test_calibration_keeps_the_weights_and_their_metadata(calibrated):
    before, after = weights.load("default"), weights.load(calibrated)
    assert not before.ranges or before.sha256 != after.sha256
    assert set(after.ranges) == set(ranges.QUANTISED) and all(low < high for low, high in after.ranges.values())
    for name, tensor in before.network.state_dict().items():
        assert torch.equal(after.network.state_dict()[name], tensor)
    assert weights.metadata(calibrated)["license"] == weights.metadata(before.path)["license"]


@needs_openvino
def test_int8_without_ranges_or_on_another_runtime_is_rejected_in_a_sentence(tiny_network):
    for runtime, words in (("openvino", "weights calibrate"), ("pytorch", "is for the runtime openvino")):
        with pytest.raises(ValueError, match=words):
            runtimes.create(tiny_network, "cpu", runtime, "int8")


@pytest.mark.parametrize("text", ["[1]", "{", '{"1b": [2, 1]}', '{"1b": [0, NaN]}', '{"1b": 3}'])
def test_damaged_ranges_are_rejected_in_a_sentence(text, tiny_network, tmp_path):
    path = tmp_path / "damaged.safetensors"
    weights.save(tiny_network, path, {"activation_ranges": text})
    with pytest.raises(weights.WeightsError, match="activation ranges"):
        weights.load(path)


@needs_openvino
def test_on_a_cpu_openvino_is_the_default_if_it_is_installed(tiny_weights):
    assert SuperPoint(tiny_weights, device="cpu").runtime.name == "openvino"


@needs_openvino
def test_a_second_start_reads_the_compiled_model_and_replaces_a_damaged_one(tiny_weights, grey, own_cache):
    options = {"device": "cpu", "runtime": "openvino", "precision": "float32"}
    expected = SuperPoint(tiny_weights, **options).extract(grey)
    (kept,) = own_cache.iterdir()
    whole, written = kept.read_bytes(), kept.stat().st_mtime_ns
    np.testing.assert_array_equal(SuperPoint(tiny_weights, **options).extract(grey).keypoints, expected.keypoints)
    assert kept.stat().st_mtime_ns == written
    for damaged in (whole[:1000], b"", whole[:-1] + bytes([whole[-1] ^ 1])):
        kept.write_bytes(damaged)
        found = SuperPoint(tiny_weights, **options).extract(grey)
        np.testing.assert_array_equal(found.keypoints, expected.keypoints)
        assert cache.read(kept.name) is not None and [kept] == list(own_cache.iterdir())


@needs_openvino
def test_without_a_writable_cache_the_network_still_runs(tiny_weights, grey, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(SuperPoint(tiny_weights, device="cpu", runtime="openvino").extract(grey)) > 0


@pytest.mark.parametrize("name", PACKAGES)
def test_a_missing_package_is_named_with_its_extra(name, tiny_network, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    with pytest.raises(ValueError, match=rf"pip install 'superpoint_ros\[{name}\]'"):
        runtimes.create(tiny_network, "cpu", name)
    assert runtimes.create(tiny_network, "cpu", "auto").name == "pytorch"


def test_without_openvino_the_first_start_warns_once(tiny_network, monkeypatch, caplog):
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    runtimes.warn_without_openvino.cache_clear()
    for runtime in ("pytorch", "auto", "auto"):
        runtimes.create(tiny_network, "cpu", runtime)
    (record,) = caplog.records
    assert record.levelname == "WARNING" and "pip install openvino" in record.message
    assert "twice as long" in record.message and "\n" not in record.message


@pytest.mark.parametrize(
    ("name", "precision", "words"),
    [
        pytest.param("onnxruntime", "bfloat16", "allowed is auto or float32", marks=OTHERS[1].marks),
        pytest.param("onnxruntime", "int3", "precision 'int3' is unknown", marks=OTHERS[1].marks),
        pytest.param("openvino", "int3", "precision 'int3' is unknown", marks=OTHERS[0].marks),
    ],
)
def test_a_precision_that_a_runtime_lacks_is_rejected_in_a_sentence(name, precision, words, tiny_network):
    with pytest.raises(ValueError, match=words):
        runtimes.create(tiny_network, "cpu", name, precision)


@needs_openvino
@pytest.mark.parametrize(
    ("abilities", "offered"), [(["FP32", "INT8"], False), (["FP32", "BF16", "INT8"], False), (["FP32", "FP16"], True)]
)
def test_float16_is_available_on_cpus_that_support_it(abilities, offered):
    from superpoint_ros.extraction.runtimes.openvino import choose_openvino_precision

    cpu = torch.device("cpu")
    for name in ("float32", "bfloat16", "int8"):
        assert choose_openvino_precision(name, cpu, abilities) == name
    if offered:
        assert choose_openvino_precision("float16", cpu, abilities) == "float16"
    else:
        with pytest.raises(ValueError, match="precision 'float16' needs a CUDA device"):
            choose_openvino_precision("float16", cpu, abilities)


@needs_openvino
def test_float16_finds_float32s_keypoints_if_this_cpu_supports_it_and_is_rejected_otherwise(tiny_weights, grey):
    import openvino

    options = {"weights": tiny_weights, "device": "cpu", "runtime": "openvino"}
    if "FP16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        exact, rough = (SuperPoint(**options, precision=name) for name in ("float32", "float16"))
        assert rough.runtime.precision == "float16"
        assert share_found(exact.extract(grey[:240, :320]), rough.extract(grey[:240, :320]), 1.0) > 0.95
    else:
        with pytest.raises(ValueError, match="precision 'float16' needs a CUDA device"):
            SuperPoint(**options, precision="float16")


@pytest.mark.parametrize("allowed", ["AVX2", "SSE41", "AVX512_CORE", "avx512_core_vnni"])
def test_bfloat16_is_not_the_default_if_onednn_may_not_use_it(allowed, monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", allowed)
    assert runtimes.choose_precision("auto", torch.device("cpu")) == "float32"


def test_the_parameter_lists_the_runtimes():
    from superpoint_ros.node.interface import parameter

    assert set(parameter("runtime").choices) == {"auto", *runtimes.RUNTIMES}
