"""The subjects of the benchmark: this package in all configurations, peers with the same weights, and OpenCV.

All subjects get the same images and settings (keypoints, suppression, threshold, border) and return NumPy arrays.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import cv2
import numpy as np
import torch

from superpoint_ros.benchmark.plain import PlainSuperPoint
from superpoint_ros.benchmark.scene import Image
from superpoint_ros.extraction import runtimes, weights
from superpoint_ros.extraction.decoding import Decoding
from superpoint_ros.extraction.network import ENCODER, SuperPointNet, fold_batch_norm
from superpoint_ros.extraction.superpoint import Clock, SuperPoint
from superpoint_ros.extraction.weights import Weights
from superpoint_ros.features import Features, Homography, Matches
from superpoint_ros.two_view.homography import estimate_homography
from superpoint_ros.two_view.matching import match

OURS, PEER, CLASSICAL = "superpoint_ros", "peer", "classical"
TRANSFORMERS, PLAIN = "transformers", "plain-pytorch"
LIGHT = "light-"
"""Prefix of the names of subjects with the light weights."""
_ON_CUDA = ("pytorch", "cuda_graph", "cuda_graph_compiled")


class Subject(Protocol):
    """Extracts features, and matches those of two images."""

    def extract(self, images: Sequence[Image]) -> list[Features]:
        """Extract features of (H, W, 3) BGR uint8 images of one size, to host memory."""

    def match(self, before: Features, after: Features, images: tuple[Image, Image]) -> tuple[Matches, Homography]:
        """Match two results of `extract`, and estimate the homography, aligned on the images."""


@dataclass(frozen=True)
class Candidate:
    """A subject that may be available on this machine.

    Attributes:
        name: name in tables and for `--subjects`.
        group: OURS, PEER or CLASSICAL.
        build: creates the subject; raises ValueError or ImportError, in one sentence, if it is unavailable.
        runtime, precision: those of a subject that runs a network.
    """

    name: str
    group: str
    build: Callable[[], Subject]
    runtime: str = ""
    precision: str = ""


def candidates(used: Weights, device: torch.device, settings: Decoding | None = None) -> list[Candidate]:
    """List all subjects for a device, without building them.

    This package comes first, with `used` in every runtime and precision, and, besides the default weights, with the
    light ones in the runtime that `auto` selects.
    """
    rules = settings or Decoding()
    configurations = [
        (runtime, precision) for runtime in runtimes.RUNTIMES for precision in _precisions(runtime, device)
    ]
    found = [_ours("", used.path, config, device, rules) for config in configurations]
    if used.path == weights.KNOWN["default"][0]:
        usual = runtimes.choose_runtime("auto", device)
        found += [_ours(LIGHT, "light", config, device, rules) for config in configurations if config[0] == usual]
    network = used.network
    return [
        *found,
        Candidate(TRANSFORMERS, PEER, lambda: Transformers(network, device, rules), "pytorch", "float32"),
        Candidate(PLAIN, PEER, lambda: Plain(network, device, rules), "pytorch", "float32"),
        Candidate("opencv-sift", CLASSICAL, lambda: Classical(cv2.SIFT.create(rules.max_keypoints), cv2.NORM_L2)),
        Candidate("opencv-orb", CLASSICAL, lambda: Classical(cv2.ORB.create(rules.max_keypoints), cv2.NORM_HAMMING)),
    ]


def _ours(prefix: str, path: str | Path, config: tuple[str, str], device: torch.device, rules: Decoding) -> Candidate:
    return Candidate(prefix + "-".join(config), OURS, lambda: Ours(path, device, rules, *config), *config)


def _precisions(runtime: str, device: torch.device) -> list[str]:
    """List the precisions worth trying; whether one is available shows when the subject is built."""
    if device.type == "cuda":
        return ["float32", "bfloat16", "float16"] if runtime in _ON_CUDA else []
    names = {"openvino": ["float32", "bfloat16", "float16", "int8"], "pytorch": ["float32", "bfloat16"]}
    # Without hardware support, bfloat16 is emulated.
    native = runtimes.choose_precision("auto", device) == "bfloat16"
    names.setdefault("onnxruntime", ["float32"])
    return [name for name in names.get(runtime, []) if native or name != "bfloat16"]


class Ours:
    """This package with one runtime and precision."""

    def __init__(self, path: str | Path, device: torch.device, rules: Decoding, runtime: str, precision: str) -> None:
        self.superpoint = SuperPoint(path, device=str(device), runtime=runtime, precision=precision, **asdict(rules))
        # If decoding is part of the runtime, the stage "network" includes both.
        self.separate_decoding = not isinstance(self.superpoint.runtime, runtimes.EndToEndRuntime)

    def extract(self, images: Sequence[Image], clock: Clock | None = None) -> list[Features]:
        if len(images) == 1:
            return [self.superpoint.extract(images[0], clock)]
        return self.superpoint.extract_batch(images)

    def match(self, before: Features, after: Features, images: tuple[Image, Image]) -> tuple[Matches, Homography]:
        return _match_and_estimate(before, after, images)


class Plain:
    """SuperPoint in plain PyTorch; see `plain`."""

    def __init__(self, network: SuperPointNet, device: torch.device, rules: Decoding) -> None:
        self._superpoint = PlainSuperPoint(network, rules, device)

    def extract(self, images: Sequence[Image]) -> list[Features]:
        return self._superpoint.extract(images)

    def match(self, before: Features, after: Features, images: tuple[Image, Image]) -> tuple[Matches, Homography]:
        return _match_and_estimate(before, after, images)


class Transformers:
    """SuperPointForKeypointDetection of transformers with our weights.

    Its image processor, which would add to its time, is bypassed: the network gets a grey image from OpenCV.
    """

    def __init__(self, network: SuperPointNet, device: torch.device, rules: Decoding) -> None:
        if importlib.util.find_spec("transformers") is None:
            raise ImportError("transformers is not installed, install it with: pip install 'superpoint_ros[bench]'")
        from transformers import SuperPointConfig, SuperPointForKeypointDetection

        plain = fold_batch_norm(network)
        a = plain.architecture
        if a.encoder[::2] != a.encoder[1::2] or a.detector != a.descriptor:
            raise ValueError(f"transformers' SuperPoint does not support the layers {a.encoder}")
        config = SuperPointConfig(
            encoder_hidden_sizes=list(a.encoder[::2]),
            decoder_hidden_size=a.detector,
            descriptor_decoder_dim=a.descriptor_size,
            keypoint_threshold=rules.detection_threshold,
            max_keypoints=rules.max_keypoints,
            nms_radius=rules.nms_radius,
            border_removal_distance=rules.border,
        )
        model = SuperPointForKeypointDetection(config)
        model.load_state_dict(_transformers_state_dict(plain))
        self._model = model.eval().requires_grad_(False).to(device)
        self._device = device

    @torch.inference_mode()
    def extract(self, images: Sequence[Image]) -> list[Features]:
        height, width = images[0].shape[:2]
        grey = np.stack([cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) for image in images])
        pixels = torch.from_numpy(grey)[:, None].to(self._device).float().div(255).expand(-1, 3, -1, -1)
        outputs = self._model(pixels)
        scale = torch.tensor([width, height], device=self._device)
        results = []
        for index, mask in enumerate(outputs.mask.bool()):
            points = (outputs.keypoints[index, mask] * scale).cpu().numpy()
            scores = outputs.scores[index, mask].cpu().numpy()
            descriptors = outputs.descriptors[index, mask]
            on_device = descriptors if self._device.type != "cpu" else None
            results.append(Features(points, scores, descriptors.cpu().numpy(), (height, width), on_device))
        return results

    def match(self, before: Features, after: Features, images: tuple[Image, Image]) -> tuple[Matches, Homography]:
        return _match_and_estimate(before, after, images)


class Classical:
    """A detector of OpenCV with its own descriptors and the brute-force matcher."""

    def __init__(self, detector: Any, norm: int) -> None:
        self._detector, self._matcher = detector, cv2.BFMatcher(norm, crossCheck=True)

    def extract(self, images: Sequence[Image]) -> list[Features]:
        return [self._one(image) for image in images]

    def _one(self, image: Image) -> Features:
        keypoints, descriptors = self._detector.detectAndCompute(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), None)
        size = image.shape[0], image.shape[1]
        if descriptors is None:
            return Features.empty(size)
        points = np.asarray(cv2.KeyPoint.convert(keypoints), np.float32).reshape(-1, 2)
        scores = np.array([keypoint.response for keypoint in keypoints], np.float32)
        return Features(points, scores, cast(Any, descriptors), size)

    def match(self, before: Features, after: Features, images: tuple[Image, Image]) -> tuple[Matches, Homography]:
        if not len(before) or not len(after):
            matches = Matches.empty()
        else:
            found = self._matcher.match(before.descriptors, after.descriptors)
            indices = np.array([(m.queryIdx, m.trainIdx) for m in found], np.int64).reshape(-1, 2)
            matches = Matches(indices, np.zeros(len(indices), np.float32))
        return matches, estimate_homography(before, after, matches, images=images)


def _match_and_estimate(before: Features, after: Features, images: tuple[Image, Image]) -> tuple[Matches, Homography]:
    matches = match(before, after)
    return matches, estimate_homography(before, after, matches, images=images)


def _transformers_state_dict(network: SuperPointNet) -> dict[str, torch.Tensor]:
    """Return the network's tensors under transformers' names."""
    heads = {
        "convPa": "keypoint_decoder.conv_score_a",
        "convPb": "keypoint_decoder.conv_score_b",
        "convDa": "descriptor_decoder.conv_descriptor_a",
        "convDb": "descriptor_decoder.conv_descriptor_b",
    }
    blocks = {f"conv{name}": f"encoder.conv_blocks.{int(name[0]) - 1}.conv_{name[1]}" for name in ENCODER}
    names = {**heads, **blocks}
    split = ((key, *key.split(".conv."), tensor) for key, tensor in network.state_dict().items())
    return {f"{names[layer]}.{kind}": tensor for _, layer, kind, tensor in split}
