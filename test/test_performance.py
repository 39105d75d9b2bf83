"""Performance regression tests: ratios within one run, never absolute times.

Subjects take turns on one thread, and CPU time counts, not wall-clock time: so other load on the machine affects none
of them, or all alike. The limits are far from usual values, which are in docs/performance.md.
"""

from __future__ import annotations

import statistics
import time

import cv2
import numpy as np
import pytest
import torch

from superpoint_ros import Frame, FrontEnd, FrontEndSettings, SuperPoint, settings_from_parameters
from superpoint_ros.benchmark import scene
from superpoint_ros.benchmark.plain import PlainSuperPoint
from superpoint_ros.extraction import runtimes
from superpoint_ros.extraction.decoding import Decoding
from superpoint_ros.frontend.registration import register_frame
from superpoint_ros.frontend.tracking import TrackIds
from superpoint_ros.frontend.views import first_view
from superpoint_ros.node.messages import features_fields

CPU = torch.device("cpu")
pytestmark = pytest.mark.serial


@pytest.fixture(autouse=True)
def one_thread():
    """For all libraries; OpenVINO and ONNX Runtime follow PyTorch."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


def processor_times(work, rounds=5):
    """Measure the median CPU time of each function by name; they take turns, and a first round is not counted."""
    names, taken = list(work), {name: [] for name in work}
    for index in range(rounds + 1):
        for offset in range(len(names)):
            name = names[(index + offset) % len(names)]
            start = time.process_time()
            work[name]()
            if index:
                taken[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in taken.items()}


class Clock:
    """Measures the CPU time of an extraction's stages, see `clock.Clock`."""

    def __init__(self):
        self.taken = {}

    def stage(self, name, again=False):
        clock = self

        class Stage:
            def __enter__(self):
                self.start = time.process_time()

            def __exit__(self, *_):
                clock.taken.setdefault(name, []).append(time.process_time() - self.start)

        return Stage()


def extractors(size):
    """This package by default and in PyTorch float32, and plain PyTorch, on one image."""
    picture = scene.frames(size, 1)
    default, pytorch = (SuperPoint(device="cpu", **how) for how in ({}, {"runtime": "pytorch", "precision": "float32"}))
    plain = PlainSuperPoint(default.weights.network, Decoding(), CPU)
    return {
        "default": lambda: default.extract(picture[0]),
        "pytorch": lambda: pytorch.extract(picture[0]),
        "plain": lambda: plain.extract(picture),
    }


def test_the_default_is_faster_than_plain_pytorch():
    found = processor_times(extractors((320, 240)))
    # Four to twelve times on CPUs with bfloat16 instructions, two to three times on others.
    least = 1.5 if runtimes.choose_precision("auto", CPU) == "float32" else 2.5
    assert found["plain"] / found["default"] > least


def test_pytorch_with_float32_is_no_slower_than_plain_pytorch():
    found = processor_times(extractors((320, 240)))
    assert found["plain"] / found["pytorch"] > 1.0  # usual: 2


def test_decoding_costs_little_compared_with_the_network():
    superpoint, clock = SuperPoint(device="cpu", detection_threshold=0.0005), Clock()
    picture = scene.frames((640, 480), 1)[0]
    assert len(superpoint.extract(picture)) == 1000
    for _ in range(5):
        superpoint.extract(picture, clock)
    median = {name: statistics.median(values) for name, values in clock.taken.items()}
    assert median["decode features"] < 0.25 * median["network"]  # usual: 0.03 to 0.1
    assert median["preprocess"] < 0.05 * median["network"]


def test_a_megapixel_costs_the_same_in_large_images():
    superpoint = SuperPoint(device="cpu")
    sizes = [(640, 480), (1280, 960)]
    pictures = {size: scene.frames(size, 1)[0] for size in sizes}
    found = processor_times({size: lambda size=size: superpoint.extract(pictures[size]) for size in sizes}, rounds=4)
    assert found[sizes[1]] / found[sizes[0]] < 4 * 1.4  # usual: 4 times 0.9 to 1.1


def test_a_batch_costs_no_more_than_its_images():
    superpoint = SuperPoint(device="cpu")
    pictures = scene.frames((320, 240), 4)
    found = processor_times(
        {
            "batch": lambda: superpoint.extract_batch(pictures),
            "images": lambda: [superpoint.extract(picture) for picture in pictures],
        }
    )
    assert found["batch"] < 1.4 * found["images"]  # usual: 0.9 to 1.1


def test_refinement_and_tracks_cost_no_more_than_matching_and_homography():
    superpoint, clock = SuperPoint(device="cpu", detection_threshold=0.0005), Clock()
    images = scene.frames((640, 480), 8)
    settings, ids = FrontEndSettings(), TrackIds()
    view = first_view(images[0], superpoint.extract(images[0]), ids, settings)
    for image in images[1:]:
        view = register_frame(view, image, superpoint.extract(image), ids, settings, clock).view
    assert np.count_nonzero(view.tracks.ages) > 500
    median = {name: statistics.median(values[1:]) for name, values in clock.taken.items()}
    assert median["refine"] < 1.1 * (median["match"] + median["homography"])  # usual: 0.6


@pytest.fixture
def result():
    """The front end's result for an image with 1000 keypoints."""
    picture = scene.frames((640, 480), 1)[0]
    settings = settings_from_parameters({"detection_threshold": 0.0005})
    return FrontEnd(SuperPoint(device="cpu"), settings).process(Frame(1, lambda: picture))


@pytest.mark.parametrize(("kind", "usual"), [("float32", 2), ("float16", 8)])
def test_a_message_is_filled_and_serialised_by_copying(kind, usual, result):
    typesystem = pytest.importorskip("superpoint_ros.hosts.wire.typesystem")
    pytest.importorskip("rosbags", reason="rosbags, which knows the ROS messages, is not installed")
    from superpoint_ros.hosts.wire.messages import create_message, header_message

    name = "superpoint_ros/msg/Features"
    header, copied = header_message(1, "camera"), np.zeros((1000, 256), np.float32)

    def fill():
        message = create_message(name, header, features_fields(result, "benchmark", kind))
        return typesystem.serialize(message, name)

    many = {"fill": lambda: [fill() for _ in range(50)], "copy": lambda: [copied.copy() for _ in range(50)]}
    found = processor_times(many)
    # A Python loop over numbers would cost hundreds of copies.
    assert found["fill"] < 10 * usual * found["copy"]
