"""benchmarks/gpu.py runs with only PyTorch, NumPy and OpenCV."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

WITHOUT = ("safetensors", "rich", "yaml", "transformers", "openvino", "onnx", "onnxruntime", "matplotlib", "skimage",
           "cyclonedds", "rosbags", "tqdm")  # fmt: skip
"""Packages that a bare machine may lack."""

BARE = f"""
import runpy, sys
from importlib.machinery import PathFinder

class Bare(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in {WITHOUT!r} else PathFinder.find_spec(name, path, target)

sys.meta_path = [Bare if finder is PathFinder else finder for finder in sys.meta_path]
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def script(project):
    return project / "benchmarks" / "gpu.py"


def test_on_a_bare_machine_it_measures_and_writes_its_results(script, tmp_path):
    words = [str(script), "--device", "cpu", "--quick", "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", BARE, *words], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [case["label"] for case in results["cases"]] == ["320x240", "320x240, batch 2"]
    for case in results["cases"]:
        assert {"pytorch-float32", "plain-pytorch"} <= set(case["subjects"])
        assert all(figures["keypoints"] > 100 for figures in case["subjects"].values())
    assert "transformers" in results["left_out"]
    kernels = results["reference"]["kernels"]
    assert all(name.startswith("pytorch-") for name in kernels) and len(kernels) == 1
    (listed,) = kernels.values()
    assert any("conv" in kernel["name"] and kernel["share"] > 0.2 for kernel in listed)
    assert sum(kernel["share"] for kernel in listed) <= 1.001
    assert "## Kernels of pytorch-" in done.stdout
    assert "## 320x240, batch 2" in done.stdout and "round 2 of 2" in done.stderr
    assert (tmp_path / "out" / "results.md").read_text().strip() == done.stdout.strip()


def test_it_reads_the_weights_as_safetensors_does(script, project):
    path = project / "superpoint_ros" / "extraction" / "pretrained" / "default.safetensors"
    found, expected = runpy.run_path(str(script))["read_safetensors"](path), load_file(path)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("words", [["--device", "toaster"], ["--sizes", "large"], ["--weights", "imaginary"]])
def test_an_error_is_one_sentence(script, words, tmp_path):
    command = [sys.executable, str(script), "--device", "cpu", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1 and words[1] in done.stderr and "Traceback" not in done.stderr


@pytest.mark.cuda
def test_on_a_gpu_the_graph_is_measured_too(script, tmp_path):
    command = [sys.executable, str(script), "--quick", "--sizes", "640x480", "--out", str(tmp_path)]
    subprocess.run(command, cwd=tmp_path, timeout=600, check=True)
    results = json.loads((tmp_path / "results.json").read_text())
    names = {"cuda_graph-float16", "cuda_graph_compiled-float16", "pytorch-float16"}
    assert names <= set(results["cases"][0]["subjects"]) & set(results["reference"]["kernels"])
    assert results["reference"]["agreement"]["cuda_graph-float16"] > 0.95
    refinement = results["reference"]["refinement"]
    assert refinement["points"] > 500 and 0 < refinement["tensor_ms"] < refinement["numpy_ms"]
