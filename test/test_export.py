"""Exported models: fixed shapes, and the same features as PyTorch."""

from __future__ import annotations

import importlib.util
import json

import cv2
import numpy as np
import pytest
import torch

from superpoint_ros import SuperPoint
from superpoint_ros.cli import main
from superpoint_ros.extraction import export
from superpoint_ros.extraction.decoding import Decoding
from superpoint_ros.extraction.fixed import FixedExtractor


def needs(*packages):
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


FORMATS = [
    "torchscript",
    pytest.param("onnx", marks=needs("onnx", "onnxruntime")),
    pytest.param("openvino", marks=needs("onnx", "openvino")),
]


def execute(path, to, images):
    """Run a model file in its runtime; return outputs by name."""
    if to == "torchscript":
        return dict(
            zip(export.NAMES, (out.numpy() for out in torch.jit.load(path)(torch.from_numpy(images))), strict=True)
        )
    if to == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return dict(
            zip((out.name for out in session.get_outputs()), session.run(None, {"images": images}), strict=True)
        )
    import openvino

    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return {out.any_name: value for out, value in compiled({"images": images}).items()}


def assert_same_features(outputs, index, expected):
    count = outputs["count"][index]
    keypoints, scores, descriptors = (outputs[name][index] for name in export.NAMES[:3])
    assert count == len(expected) and (scores[count:] == 0).all()
    assert (np.diff(scores) <= 0).all()
    distance = np.linalg.norm(expected.keypoints[:, None] - keypoints[None, :count], axis=2)
    nearest = distance.argmin(axis=1)
    assert (distance.min(axis=1) < 0.01).mean() > 0.995
    same = distance.min(axis=1) < 0.01
    np.testing.assert_allclose(scores[nearest][same], expected.scores[same], atol=1e-4)
    np.testing.assert_allclose(descriptors[nearest][same], expected.descriptors[same], atol=1e-3)


@pytest.mark.parametrize("to", FORMATS)
def test_a_model_file_equals_pytorch_on_a_photograph(to, photograph, tmp_path):
    grey = cv2.cvtColor(photograph, cv2.COLOR_BGR2GRAY)[:121, 100:263].copy()  # not multiples of 8
    superpoint = SuperPoint(device="cpu", runtime="pytorch", precision="float32", max_keypoints=150)
    path = tmp_path / f"model{export.SUFFIXES[to]}"
    export.export(superpoint.weights.network, path, to, export.Shape(121, 163, 1, Decoding(max_keypoints=150)))
    outputs = execute(path, to, grey[None, None])
    assert [outputs[name].shape for name in export.NAMES] == [(1, 150, 2), (1, 150), (1, 150, 256), (1,)]
    assert_same_features(outputs, 0, superpoint.extract(grey))


@pytest.mark.parametrize("to", FORMATS)
def test_a_batch_with_a_blank_image_has_the_correct_counts(to, tiny_weights, grey, tmp_path):
    decoding = Decoding(max_keypoints=400, nms_radius=3, detection_threshold=0.05, border=6, subpixel=False)
    superpoint = SuperPoint(
        tiny_weights, 400, 3, 0.05, 6, subpixel=False, device="cpu", runtime="pytorch", precision="float32"
    )
    images = np.stack((grey[:64, :96], np.zeros((64, 96), np.uint8), grey[100:164, 100:196]))
    path = tmp_path / f"model{export.SUFFIXES[to]}"
    export.export(superpoint.weights.network, path, to, export.Shape(64, 96, 3, decoding))
    outputs = execute(path, to, images[:, None])
    assert 0 < outputs["count"][0] < 400
    for index, image in enumerate(images):
        assert_same_features(outputs, index, superpoint.extract(image))


@pytest.mark.parametrize("size", [(64, 96), (50, 81)])
def test_the_fixed_shape_module_equals_the_extractor(size, tiny_weights, grey):
    superpoint = SuperPoint(tiny_weights, device="cpu", runtime="pytorch", precision="float32", max_keypoints=300)
    image = np.ascontiguousarray(grey[: size[0], : size[1]])
    module = FixedExtractor(superpoint.weights.network, Decoding(max_keypoints=300), size)
    with torch.inference_mode():
        outputs = module(torch.from_numpy(image[None, None]))
    assert_same_features(
        dict(zip(export.NAMES, (o.numpy() for o in outputs), strict=True)), 0, superpoint.extract(image)
    )


def test_the_command_writes_a_model_and_describes_inputs_and_outputs(tiny_weights, tmp_path, capsys):
    out = tmp_path / "tiny.pt"
    sizes = ["--height", "48", "--width", "72", "--max-keypoints", "30"]
    assert main(["weights", "convert", str(tiny_weights), str(out), "--to", "torchscript", *sizes, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == "1x1x48x72 uint8"
    assert execute(out, "torchscript", np.zeros((1, 1, 48, 72), np.uint8))["keypoints"].shape == (1, 30, 2)
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model.txt", "--to", "onnx"], "must end in .onnx"),
        (["absent/model.pt", "--to", "torchscript"], "there is no folder"),
        (["model.pt", "--to", "torchscript", "--height", "15"], "height is 15, allowed is 16 or more"),
        (["model.pt", "--to", "torchscript", "--batch", "0"], "batch is 0, allowed is 1 or more"),
        (["model.pt", "--to", "torchscript", "--max-keypoints", "0"], "max_keypoints"),
    ],
)
def test_an_impossible_export_is_rejected_in_a_sentence_and_leaves_nothing(
    arguments, words, tiny_weights, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(["weights", "convert", str(tiny_weights), *arguments]) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="PyTorch sees a CUDA device")
def test_tensorrt_without_a_gpu_is_rejected_in_a_sentence(tiny_weights, tmp_path, capsys):
    assert main(["weights", "convert", str(tiny_weights), str(tmp_path / "model.ts"), "--to", "tensorrt"]) == 1
    assert "format 'tensorrt' needs a CUDA device" in capsys.readouterr().err


@pytest.mark.cuda
def test_tensorrt_equals_pytorch(tiny_weights, grey, tmp_path):
    torch_tensorrt = pytest.importorskip("torch_tensorrt", reason="torch-tensorrt is not installed")
    assert torch_tensorrt
    superpoint = SuperPoint(tiny_weights, device="cpu", runtime="pytorch", precision="float32", max_keypoints=100)
    path = tmp_path / "model.ts"
    export.export(superpoint.weights.network, path, "tensorrt", export.Shape(64, 96, 1, Decoding(max_keypoints=100)))
    outputs = torch.jit.load(path)(torch.from_numpy(grey[None, None, :64, :96].copy()).cuda())
    found = dict(zip(export.NAMES, (out.cpu().numpy() for out in outputs), strict=True))
    assert_same_features(found, 0, superpoint.extract(grey[:64, :96]))
