"""Methods by name: results, settings, and custom methods."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch

from superpoint_ros.evaluation import methods
from superpoint_ros.evaluation.classical import suppress_points
from superpoint_ros.evaluation.methods import Detection

CLASSICAL = ("sift", "orb", "fast", "harris", "shi")
DESCRIBED = {"sift": (np.float32, 128), "orb": (np.uint8, 32), "akaze": (np.uint8, 61), "superpoint": (np.float32, 24)}


def closest(points):
    """Compute the minimum Chebyshev distance between two points, rounded to integers."""
    pixels = np.rint(points)
    distance = np.abs(pixels[:, None] - pixels[None]).max(axis=2)
    return distance[~np.eye(len(points), dtype=bool)].min()


@pytest.mark.parametrize("name", [*CLASSICAL, "superpoint"])
@pytest.mark.parametrize(("most", "radius"), [(120, 4), (40, 8)])
def test_a_method_returns_the_best_keypoints_with_suppression(name, most, radius, grey, tiny_weights):
    method = methods.create(f"superpoint:{tiny_weights}" if name == "superpoint" else name)
    found = method.detect(grey, most, radius)
    assert isinstance(found, Detection)
    assert len(found) == most
    assert found.keypoints.shape == (most, 2) and found.keypoints.dtype == np.float32
    assert found.scores.shape == (most,) and found.scores.dtype == np.float32
    assert (np.diff(found.scores) <= 0).all()
    assert (found.keypoints >= -0.5).all() and (found.keypoints <= [511.5, 511.5]).all()
    if name != "superpoint":  # whose suppression comes before refinement
        assert closest(found.keypoints) > radius
    if name not in DESCRIBED:
        assert found.descriptors is None
        return
    kind, size = DESCRIBED[name]
    assert found.descriptors.shape == (most, size) and found.descriptors.dtype == kind
    if kind is np.float32:
        assert np.allclose(np.linalg.norm(found.descriptors, axis=1), 1, atol=1e-3)


@pytest.mark.parametrize("name", CLASSICAL)
def test_an_image_without_corners_has_no_keypoints(name):
    found = methods.create(name).detect(np.full((64, 80), 90, np.uint8), 100, 4)
    assert found.keypoints.shape == (0, 2) and found.scores.shape == (0,)
    assert found.descriptors is None or len(found.descriptors) == 0


def test_corners_are_where_they_are_drawn():
    image = np.full((100, 120), 30, np.uint8)
    image[40:70, 50:90] = 220
    corners = np.array([[50, 40], [89, 40], [50, 69], [89, 69]], float)
    for name in ("harris", "shi"):
        found = methods.create(name).detect(image, 4, 8)
        distance = np.linalg.norm(found.keypoints[:, None] - corners[None], axis=2)
        assert (distance.min(axis=0) <= 2).all(), name


def test_akaze_has_binary_descriptors_or_names_its_installation(grey):
    if not (hasattr(cv2, "AKAZE") or hasattr(getattr(cv2, "xfeatures2d", None), "AKAZE")):
        with pytest.raises(ValueError, match="opencv-python-headless<5"):
            methods.create("akaze")
        return
    found = methods.create("akaze").detect(grey, 100, 4)
    assert found.descriptors.shape == (100, 61) and found.descriptors.dtype == np.uint8


def test_suppression_equals_a_greedy_loop():
    rng = np.random.default_rng(0)
    points, scores = rng.uniform(0, 60, (300, 2)), rng.uniform(size=300)
    expected = []
    for i in sorted(range(300), key=lambda i: -scores[i]):
        x, y = round(points[i][0]), round(points[i][1])
        if all(max(abs(x - round(points[j][0])), abs(y - round(points[j][1]))) > 5 for j in expected):
            expected.append(i)
    assert suppress_points(points, scores, 5, 1000).tolist() == expected
    assert suppress_points(points, scores, 5, 7).tolist() == expected[:7]
    assert suppress_points(points, scores, 0, 1000).tolist() == sorted(range(300), key=lambda i: -scores[i])


def test_settings_differ_if_the_keypoints_do(tiny_weights):
    def settings(spec):
        return json.dumps(methods.create(spec).settings(), sort_keys=True)

    specs = [f"superpoint:{tiny_weights}", f"superpoint:{tiny_weights},subpixel=false", f"magicpoint:{tiny_weights}",
             "superpoint", "sift", "sift:rootsift=true", "orb", "fast", "fast:threshold=20"]  # fmt: skip
    assert len({settings(spec) for spec in specs}) == len(specs)
    assert settings("sift") == settings("sift:rootsift=false")


def test_magicpoint_reads_weights_and_checkpoints_and_has_no_descriptors(tiny_network, tiny_weights, grey, tmp_path):
    state = {f"network.{name}": tensor for name, tensor in tiny_network.state_dict().items()}
    checkpoint = tmp_path / "shapes.ckpt"
    torch.save({"model": state, "step": 7, "optimizer": {}}, checkpoint)
    exact = methods.create(f"magicpoint:{checkpoint}").detect(grey, 100, 4)
    rounded = methods.create(f"magicpoint:{tiny_weights}").detect(grey, 100, 4)  # the file holds float16
    assert exact.descriptors is None and len(exact) == len(rounded) == 100
    distance = np.linalg.norm(exact.keypoints[:, None] - rounded.keypoints[None], axis=2)
    assert np.mean(distance.min(axis=1) < 0.5) > 0.9


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("surf", "'surf' is unknown, allowed is one of superpoint"),
        ("sift:levels=3", "'sift:levels=3' cannot be created.*levels"),
        ("sift:rootsift=true,rootsift=false", "gives 'rootsift' twice"),
        ("superpoint:/no/such.safetensors", "neither a file nor one of"),
        ("magicpoint", "needs weights"),
        ("no_such_package.features:Mine", "there is no Python module"),
        ("superpoint_ros.evaluation.classical:Nobody", "has no class 'Nobody'"),
        ("orb:candidates=0", "allowed is 1 or more"),
    ],
)
def test_an_invalid_method_is_rejected_in_one_sentence(spec, words):
    with pytest.raises(ValueError, match=words) as refused:
        methods.create(spec)
    assert "\n" not in str(refused.value)


def test_methods_can_be_added_by_their_dotted_path(tmp_path, monkeypatch, grey):
    (tmp_path / "somebodys_features.py").write_text(
        "import numpy as np\n"
        "from superpoint_ros.evaluation.methods import Detection\n"
        "class Grid:\n"
        "    name = 'grid'\n"
        "    def __init__(self, step=16):\n"
        "        self.step = step\n"
        "    def settings(self):\n"
        "        return {'step': self.step}\n"
        "    def detect(self, image, max_keypoints, nms_radius):\n"
        "        y, x = np.mgrid[0:image.shape[0]:self.step, 0:image.shape[1]:self.step]\n"
        "        points = np.column_stack((x.ravel(), y.ravel())).astype(np.float32)[:max_keypoints]\n"
        "        return Detection(points, np.ones(len(points), np.float32), None)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    method = methods.create("somebodys_features:Grid:step=32")
    assert method.settings() == {"step": 32}
    assert len(method.detect(grey, 1000, 4)) == 256
