"""Shared fixtures: real images, small networks and weights files, frames and messages."""

from __future__ import annotations

import logging
import os
import signal
import struct
import zlib
from pathlib import Path
from types import SimpleNamespace

import cv2
import environment
import numpy as np
import pytest
import torch
from torch import nn

from superpoint_ros import Features, SuperPoint
from superpoint_ros.extraction import weights
from superpoint_ros.extraction.network import Architecture, SuperPointNet

pytest.register_assert_rewrite("detector_process", "flight_video", "odometry_run")  # failures show values

PROJECT = Path(__file__).resolve().parent.parent

TINY = Architecture((8, 8, 8, 8, 16, 16, 16, 16), detector=32, descriptor=16, descriptor_size=24)
"""Sizes of a network that is fast on any machine, with the same guarantees."""


def pytest_addoption(parser):
    parser.addoption(
        "--phase",
        choices=("parallel", "serial"),
        help="run only the tests that may run side by side, or only those marked serial (default: all)",
    )


def pytest_configure(config):
    environment.isolate()
    if not hasattr(config, "workerinput"):  # inherited by pytest-xdist workers
        config.add_cleanup(environment.share(parallel=bool(config.getoption("numprocesses", None))))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """Use one worker per core of this process; with more than eight, starting them takes longer than it saves."""
    return min(len(os.sched_getaffinity(0)), 8)


def pytest_collection_modifyitems(config, items):
    if phase := config.getoption("phase"):
        kept = [item for item in items if ("serial" in item.keywords) == (phase == "serial")]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept
    if phase == "parallel":
        items.sort(key=lambda item: "slow" not in item.keywords)  # slow tests must not come last
    if torch.cuda.is_available():
        return
    for item in items:
        if "cuda" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="PyTorch sees no CUDA device"))


@pytest.fixture
def command(capsys):
    """Run `superpoint-ros` in this process, which saves the imports; the result is like that of subprocess.run."""

    def run(*words) -> SimpleNamespace:
        from superpoint_ros import cli

        root = logging.getLogger()
        handlers, level = root.handlers[:], root.level
        signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        capsys.readouterr()
        root.handlers.clear()  # replaced by the command's own, as in a new process
        try:
            code = cli.main([str(word) for word in words])
        except SystemExit as stop:
            code = stop.code
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)
            for number, handler in signals.items():
                signal.signal(number, handler)
        printed = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=printed.out, stderr=printed.err)

    return run


@pytest.fixture
def bag(command):
    """Run `superpoint-ros bag` and check its exit code."""

    def run(*words, code=0):
        done = command("bag", *words)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def project() -> Path:
    """The project's root, with msg/, config/ and README.md."""
    return PROJECT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Images and sequences that are too large for the project."""
    folder = PROJECT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the data beside the project is absent (expected at {folder})")
    return folder


@pytest.fixture(scope="session")
def photograph() -> np.ndarray:
    """A photograph, (512, 512, 3) BGR uint8; tests must not modify it."""
    data = pytest.importorskip("skimage.data", reason="scikit-image, which holds the photograph, is not installed")
    image = np.ascontiguousarray(data.astronaut()[..., ::-1])
    image.flags.writeable = False
    return image


@pytest.fixture(scope="session")
def grey(photograph) -> np.ndarray:
    """The photograph as (512, 512) grey."""
    image = cv2.cvtColor(photograph, cv2.COLOR_BGR2GRAY)
    image.flags.writeable = False
    return image


@pytest.fixture(scope="session")
def giant_png() -> bytes:
    """A tiny PNG whose header claims more pixels than OpenCV accepts."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 2**18, 2**18, 8, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.fixture(scope="session")
def randomised():
    """Fill a module with random convolutions that keep activations alive, and batch norms as after training."""

    def fill(module: nn.Module, seed: int = 0) -> nn.Module:
        random = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for part in module.modules():
                if isinstance(part, nn.Conv2d):
                    part.weight.normal_(0, (2 / part.weight[0].numel()) ** 0.5, generator=random)
                    part.bias.normal_(0, 0.05, generator=random)
                elif isinstance(part, nn.BatchNorm2d):
                    part.running_mean.normal_(0, 0.2, generator=random)
                    part.running_var.uniform_(0.5, 2, generator=random)
                    part.weight.uniform_(0.5, 1.5, generator=random)
                    part.bias.normal_(0, 0.2, generator=random)
        return module.eval()

    return fill


@pytest.fixture(scope="session")
def tiny_network(randomised) -> SuperPointNet:
    """A small random network with pronounced peaks in its heat maps; tests must not modify it."""
    network = randomised(SuperPointNet(TINY), seed=3)
    with torch.no_grad():
        network.convPb.conv.weight.mul_(4)
    return network


@pytest.fixture(scope="session")
def tiny_weights(tiny_network, tmp_path_factory) -> Path:
    """A weights file of the small random network."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    weights.save(tiny_network, path)
    return path


@pytest.fixture
def superpoint(tiny_weights) -> SuperPoint:
    """A new extractor for each test: the small random network in float32 on the CPU."""
    return SuperPoint(tiny_weights, device="cpu", precision="float32")


@pytest.fixture(scope="session")
def make_features():
    """Create features at given positions; by default the descriptors are random unit vectors."""

    def make(keypoints, descriptors=None, image_size=(480, 640), size=24, seed=0) -> Features:
        keypoints = np.asarray(keypoints, np.float32).reshape(-1, 2)
        if descriptors is None:
            descriptors = np.random.default_rng(seed).normal(size=(len(keypoints), size))
        descriptors = np.asarray(descriptors, np.float32)
        norm = np.linalg.norm(descriptors, axis=1, keepdims=True)
        scores = np.linspace(0.9, 0.1, len(keypoints), dtype=np.float32)
        return Features(keypoints, scores, (descriptors / norm).astype(np.float32), image_size)

    return make


@pytest.fixture(scope="session")
def typestore():
    """rosbags' types of ROS 2 Jazzy and of this package's msg/ folder."""
    pytest.importorskip("rosbags", reason="rosbags, which writes ROS messages without ROS, is not installed")
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    for path in sorted((PROJECT / "msg").glob("*.msg")):
        name = f"superpoint_ros/msg/{path.stem}"
        store.register(get_types_from_msg(path.read_text(encoding="utf-8"), name))
    return store
