"""Large images in tiles: the features of the whole image, on every runtime, in bounded memory."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch

from superpoint_ros import ImageError, SuperPoint
from superpoint_ros.extraction import tiling
from superpoint_ros.extraction.network import CELL, receptive_margin

SIZE, TILE = (405, 421), 171_000
"""The size of about the smallest image with several tiles along both axes, and `tile_pixels` for four of them."""
RUNTIMES = ["pytorch", "openvino", "onnxruntime", "cuda_graph"]


@pytest.fixture(autouse=True)
def one_thread():
    """Limit the threads, which would wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def build(weights, runtime="pytorch", **options):
    """Create a float32 extractor; CUDA graphs run as single steps on the CPU."""
    if runtime != "cuda_graph":
        if runtime != "pytorch":
            pytest.importorskip(runtime)
        return SuperPoint(weights, device="cpu", runtime=runtime, precision="float32", **options)
    from superpoint_ros.extraction.runtimes.cuda_graph import CudaGraphRuntime

    superpoint = SuperPoint(weights, device="cpu", runtime="pytorch", precision="float32", **options)
    superpoint.runtime = CudaGraphRuntime(superpoint.weights.network, torch.device("cpu"), "float32")
    return superpoint


class Seen:
    """A runtime that records the shapes of its input."""

    def __init__(self, runtime):
        self.runtime, self.device, self.precision, self.shapes = runtime, runtime.device, runtime.precision, []

    def __call__(self, images):
        self.shapes.append(tuple(images.shape))
        return self.runtime(images)


def scene(photograph, size, seed=0):
    """Create a textured colour image of (height, width)."""
    image = cv2.resize(photograph, size[::-1], interpolation=cv2.INTER_LINEAR)
    noise = np.random.default_rng(seed).integers(-25, 26, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def assert_equal_features(tiled, whole):
    """Check for equal keypoints, and descriptors to 1e-3; the order of nearly equal scores may differ."""
    assert tiled.image_size == whole.image_size and len(tiled) == len(whole) > 0
    nearest = np.array([np.abs(whole.keypoints - point).max(axis=1).argmin() for point in tiled.keypoints])
    assert len(set(nearest)) == len(whole)
    np.testing.assert_allclose(tiled.keypoints, whole.keypoints[nearest], atol=2e-2)
    np.testing.assert_allclose(tiled.scores, whole.scores, atol=1e-5)
    np.testing.assert_allclose(tiled.descriptors, whole.descriptors[nearest], atol=1e-3)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_features_in_tiles_equal_those_of_the_whole_image(tiny_weights, photograph, runtime):
    image = scene(photograph, SIZE)
    whole = build(tiny_weights, runtime, max_keypoints=2000).extract(image)
    superpoint = build(tiny_weights, runtime, max_keypoints=2000, tile_pixels=TILE)
    superpoint.runtime = seen = Seen(superpoint.runtime)
    assert_equal_features(superpoint.extract(image), whole)
    assert len(seen.shapes) == 4


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"max_keypoints": 100}, SIZE),
        ({"nms_radius": 0, "border": 0}, SIZE),
        ({"nms_radius": 9}, (200, 604)),
        ({"border": 150}, SIZE),
        ({"subpixel": False}, SIZE),
        ({"levels": 2}, SIZE),
        ({"resize": 560}, (300, 420)),
    ],
    ids=str,
)
def test_every_setting_applies_across_tile_borders(tiny_weights, photograph, options, size):
    image = scene(photograph, size, seed=1)
    options = {"max_keypoints": 3000, **options}
    whole = build(tiny_weights, **options).extract(image)
    superpoint = build(tiny_weights, tile_pixels=TILE, **options)
    superpoint.runtime = seen = Seen(superpoint.runtime)
    assert_equal_features(superpoint.extract(image), whole)
    assert len(seen.shapes) > 1 and len(set(seen.shapes)) <= options.get("levels", 1)


def test_a_pattern_of_equal_scores_has_the_keypoints_of_the_whole_image(tiny_weights):
    image = np.kron(np.indices((51, 53)).sum(axis=0) % 2, np.ones((8, 8))).astype(np.uint8) * 255
    whole = build(tiny_weights, max_keypoints=10**5, subpixel=False).extract(image)
    superpoint = build(tiny_weights, max_keypoints=10**5, subpixel=False, tile_pixels=TILE)
    superpoint.runtime = seen = Seen(superpoint.runtime)
    tiled = superpoint.extract(image)
    assert len(seen.shapes) == 4
    assert {tuple(point) for point in tiled.keypoints} == {tuple(point) for point in whole.keypoints}


def test_a_border_that_covers_the_image_leaves_no_features(tiny_weights, photograph):
    features = build(tiny_weights, border=256, tile_pixels=60_000).extract(scene(photograph, (400, 400)))
    assert len(features) == 0 and features.descriptors.shape == (0, 24)


def test_the_network_processes_at_most_half_of_tile_pixels_in_float32(tiny_weights, photograph):
    superpoint = build(tiny_weights, tile_pixels=300_000)
    superpoint.runtime = seen = Seen(superpoint.runtime)
    superpoint.extract(scene(photograph, (800, 560)))
    assert len(seen.shapes) > 4 and len(set(seen.shapes)) == 1
    assert all(height * width <= 150_000 for _, _, height, width in seen.shapes)


def test_images_of_a_batch_together_are_no_larger_than_a_tile(tiny_weights, photograph):
    superpoint = build(tiny_weights, tile_pixels=300_000)
    superpoint.runtime = seen = Seen(superpoint.runtime)
    images = [scene(photograph, (160, 240), seed) for seed in range(5)] + [scene(photograph, (500, 600))]
    found = superpoint.extract_batch(images)
    assert seen.shapes[:2] == [(3, 1, 160, 240), (2, 1, 160, 240)]
    assert_equal_features(found[-1], build(tiny_weights).extract(images[-1]))
    assert all(batch * height * width <= 150_000 for batch, _, height, width in seen.shapes)


def test_small_images_are_processed_in_one_piece(tiny_weights, photograph):
    superpoint = build(tiny_weights)
    superpoint.runtime = seen = Seen(superpoint.runtime)
    superpoint.extract(scene(photograph, (480, 640)))
    assert seen.shapes == [(1, 1, 480, 640)]


def test_an_end_to_end_runtime_does_not_extract_tiled_images(tiny_weights, photograph):
    superpoint = build(tiny_weights, "cuda_graph", tile_pixels=TILE)
    superpoint.runtime.extract = lambda *_: pytest.fail("the whole image went into a graph")
    superpoint.extract(scene(photograph, SIZE))


@pytest.mark.parametrize("shape", [(1000, 1000), (16, 40000), (3000, 4000), (9000, 12000), (40000, 24), (1080, 1920)])
@pytest.mark.parametrize("radius", [0, 4, 20])
def test_tiles_have_one_size_and_their_cores_cover_the_image_once(shape, radius):
    shape = tuple(-(-side // CELL) * CELL for side in shape)
    found = tiling.tiles(shape, 1_000_000, radius)
    assert len({(t.rows.stop - t.rows.start, t.columns.stop - t.columns.start) for t in found}) == 1
    assert all((t.rows.stop - t.rows.start) * (t.columns.stop - t.columns.start) <= 1_000_000 for t in found)
    around = receptive_margin() + max(8 * radius, 10)
    for axis, length in (("rows", shape[0]), ("columns", shape[1])):
        spans = sorted({(s.start, s.stop, s.first, s.last) for s in (getattr(t, axis) for t in found)})
        assert spans[0][2] == 0 and spans[-1][3] == length
        assert all(one[3] == after[2] for one, after in pairwise(spans))
        for start, stop, first, last in spans:
            assert start % CELL == 0 and stop % CELL == 0 and 0 <= start <= first < last <= stop <= length
            assert start == 0 or first - start >= around
            assert stop == length or stop - last >= around
    assert len(found) == len({t.rows for t in found}) * len({t.columns for t in found})


def test_a_large_radius_makes_tiles_larger_than_requested_not_wrong(tiny_weights, photograph):
    image = scene(photograph, (1300, 340))
    whole = build(tiny_weights, nms_radius=30).extract(image)
    superpoint = build(tiny_weights, nms_radius=30, tile_pixels=100_000)
    superpoint.runtime = seen = Seen(superpoint.runtime)
    assert_equal_features(superpoint.extract(image), whole)
    assert len(seen.shapes) > 1


@torch.inference_mode()
def test_the_receptive_margin_is_where_the_influence_of_pixels_ends(tiny_network):
    image = torch.rand(1, 1, 160, 160, generator=torch.Generator().manual_seed(0))
    before = torch.cat(tiny_network(image), dim=1)[..., 10, 10]
    ends = []
    for step in range(30, 50):
        changed = image.clone()
        changed[..., 80 - step - 1] = 1 - changed[..., 80 - step - 1]
        ends.append(bool((torch.cat(tiny_network(changed), dim=1)[..., 10, 10] != before).any()))
    assert [30 + i + 1 for i, touched in enumerate(ends) if touched][-1] == receptive_margin()


def test_an_image_of_more_than_max_pixels_is_rejected_before_the_network(tiny_weights):
    superpoint = build(tiny_weights, max_pixels=10_000)
    superpoint.runtime = seen = Seen(superpoint.runtime)
    with pytest.raises(ImageError, match=r"^the image is 200x100 pixels, allowed are 10000 in all \(max_pixels\)$"):
        superpoint.extract(np.zeros((100, 200), np.uint8))
    with pytest.raises(ImageError, match="200x100"):
        superpoint.extract_batch([np.zeros((50, 60), np.uint8), np.zeros((100, 200, 3), np.uint8)])
    assert not seen.shapes


@pytest.mark.parametrize("name", ["tile_pixels", "max_pixels"])
def test_a_size_of_zero_is_rejected(tiny_weights, name):
    with pytest.raises(ValueError, match=f"^{name} is 0, allowed is 1 or more$"):
        SuperPoint(tiny_weights, **{name: 0})
