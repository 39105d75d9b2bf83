"""Decoding: heat map, non-maximum suppression, refinement and descriptor sampling against reference implementations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from superpoint_ros.extraction import decoding_cpu
from superpoint_ros.extraction.decoding import Decoding, decode, heatmap, refine, sample, select_peaks, suppress


def random_maps(kind, height, width, seed):
    """Create (1, H, W) scores: all different, with many ties, plateaus of several pixels, or mostly empty."""
    random = np.random.default_rng(seed)
    if kind == "distinct":
        scores = random.permutation(height * width).reshape(height, width) / (height * width)
    elif kind == "ties":
        scores = random.integers(0, 5, (height, width)) / 4
    elif kind == "plateaus":
        scores = np.kron(random.integers(0, 4, (-(-height // 5), -(-width // 5))), np.ones((5, 5)))[:height, :width] / 3
    else:
        scores = np.where(random.random((height, width)) < 0.02, random.random((height, width)), 0)
    return torch.tensor(scores, dtype=torch.float32)[None]


KINDS = ["distinct", "ties", "plateaus", "sparse"]


def ranked(scores):
    """List positive pixels as (y, x), best first, ties in row-major order."""
    pixels = [(y, x) for y, x in np.argwhere(scores > 0).tolist()]
    return sorted(pixels, key=lambda p: (-scores[p], p))


def near(a, b, radius):
    return max(abs(a[0] - b[0]), abs(a[1] - b[1])) <= radius


def greedy(scores, radius):
    """Apply textbook non-maximum suppression."""
    kept = []
    for pixel in ranked(scores):
        if not any(near(pixel, other, radius) for other in kept):
            kept.append(pixel)
    return set(kept)


def greedy_in_rounds(scores, radius, rounds):
    """Return the winners of greedy suppression that are found within so many rounds of local maxima."""
    kept, left = [], ranked(scores)
    for _ in range(rounds):
        best = [p for i, p in enumerate(left) if not any(near(p, better, radius) for better in left[:i])]
        kept += best
        left = [p for p in left if not any(near(p, winner, radius) for winner in best)]
    return set(kept)


def places(scores):
    return {(y, x) for y, x in torch.nonzero(scores).tolist()}


def test_the_heat_map_equals_the_papers_softmax_and_reshape():
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 65, 3, 4, generator=random) * 3
    heat = heatmap(logits)
    assert heat.shape == (2, 24, 32) and heat.dtype == torch.float32
    for b in range(2):
        for row in range(3):
            for column in range(4):
                z = np.exp(logits[b, :, row, column].double().numpy())
                for bin_ in range(64):
                    y, x = 8 * row + bin_ // 8, 8 * column + bin_ % 8
                    assert heat[b, y, x] == pytest.approx(z[bin_] / z.sum(), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_heat_map_is_float32_in_any_precision(dtype):
    logits = torch.randn(1, 65, 2, 2, generator=torch.Generator().manual_seed(0)).to(dtype)
    heat = heatmap(logits)
    assert heat.dtype == torch.float32
    assert torch.allclose(heat, heatmap(logits.float()))


@pytest.mark.parametrize("radius", [1, 2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_keypoints_are_never_closer_than_the_nms_radius_even_on_plateaus(kind, radius):
    for seed in range(3):
        kept = sorted(places(suppress(random_maps(kind, 37, 41, seed), radius)[0]))
        assert kept
        assert not [(a, b) for i, a in enumerate(kept) for b in kept[i + 1 :] if near(a, b, radius)]


@pytest.mark.parametrize("radius", [1, 3])
def test_suppression_keeps_exactly_the_greedy_winners_of_three_rounds(radius):
    for seed in range(3):
        scores = random_maps("distinct", 24, 26, seed)
        kept = places(suppress(scores, radius)[0])
        assert kept == greedy_in_rounds(scores[0].numpy(), radius, 3)
        assert kept <= greedy(scores[0].numpy(), radius)


@pytest.mark.parametrize("radius", [1, 3])
def test_with_enough_rounds_suppression_is_greedy_suppression(radius):
    scores = random_maps("distinct", 24, 26, 9)
    assert places(suppress(scores, radius, rounds=30)[0]) == greedy(scores[0].numpy(), radius)


@pytest.mark.parametrize("kind", KINDS)
def test_with_enough_rounds_every_score_has_a_keypoint_nearby(kind):
    scores = random_maps(kind, 30, 30, 4)
    kept = places(suppress(scores, 2, rounds=200)[0])
    assert all(any(near(pixel, winner, 2) for winner in kept) for pixel in ranked(scores[0].numpy()))


def test_the_first_in_row_major_order_wins_a_tie():
    scores = torch.zeros(1, 12, 12)
    scores[0, 5, 4:8] = 0.5
    scores[0, 6, 3] = 0.5
    assert places(suppress(scores, 4)[0]) == {(5, 4)}


def test_a_constant_map_yields_a_grid_and_an_empty_one_nothing():
    kept = places(suppress(torch.full((1, 15, 15), 0.3), 4, rounds=50)[0])
    assert kept == {(y, x) for y in (0, 5, 10) for x in (0, 5, 10)}
    assert not places(suppress(torch.zeros(1, 15, 15), 4)[0])


def test_suppression_with_radius_zero_keeps_every_score():
    scores = random_maps("ties", 9, 9, 0)
    assert torch.equal(suppress(scores, 0), scores)


def test_kept_scores_are_unchanged_and_images_of_a_batch_do_not_mix():
    batch = torch.cat([random_maps("distinct", 20, 22, seed) for seed in range(3)])
    together = suppress(batch, 3)
    assert ((together == batch) | (together == 0)).all()
    for index in range(3):
        assert torch.equal(together[index], suppress(batch[index : index + 1], 3)[0])


@pytest.fixture
def at_fixed_sizes(monkeypatch):
    """Use the fixed-shape functions for GPUs and exported graphs."""
    return lambda: monkeypatch.setattr(torch.jit, "is_tracing", lambda: True)


@pytest.mark.parametrize("radius", [0, 1, 4, 9])
@pytest.mark.parametrize("kind", KINDS)
def test_suppression_on_a_cpu_equals_that_at_fixed_sizes(kind, radius):
    for seed, rounds in enumerate((1, 2, 3, 7)):
        scores = random_maps(kind, 33, 47, seed)
        kept = np.flatnonzero(suppress(scores, radius, rounds)[0].numpy())
        np.testing.assert_array_equal(decoding_cpu.peaks(scores[0].numpy(), radius, rounds), kept)


@pytest.mark.parametrize("kind", KINDS)
def test_skipping_weak_peaks_early_on_a_cpu_does_not_change_the_selection(kind):
    buffers = decoding_cpu.Buffers()  # the same for maps of several sizes
    for height, width in ((40, 50), (33, 47), (60, 80)):
        heat = random_maps(kind, height, width, height)[0].numpy()
        for border in (0, 5):
            positions, scores = decoding_cpu.select_peaks(heat, 10**6, 2, 0.1, border, 3)
            assert len(scores) > 10
            for limit in (1, 5, len(scores) // 2, len(scores)):
                few = decoding_cpu.select_peaks(heat, limit, 2, 0.1, border, 3, buffers)
                np.testing.assert_array_equal(few[0], positions[:limit])
                np.testing.assert_array_equal(few[1], scores[:limit])


@pytest.mark.parametrize("subpixel", [False, True])
@pytest.mark.parametrize("limit", [20, 2000])
def test_decoding_on_a_cpu_equals_that_at_fixed_sizes(limit, subpixel, at_fixed_sizes):
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 65, 6, 9, generator=random) * 3
    descriptors = torch.randn(2, 24, 6, 9, generator=random)
    settings = Decoding(limit, nms_radius=2, border=1, subpixel=subpixel)
    images = torch.randint(0, 256, (2, 1, 48, 72), dtype=torch.uint8, generator=random)
    size = (45, 70)
    fast = decode(logits, descriptors, images, size, settings)
    channels_last = decode(logits, descriptors.to(memory_format=torch.channels_last), images, size, settings)
    at_fixed_sizes()
    slow = decode(logits, descriptors, images, size, settings)
    used = slow[1] > 0
    assert used.any() and (limit == 20 or not used.all())
    for a, b, c in zip(fast, channels_last, slow, strict=True):
        assert a.shape == c.shape and a.dtype == c.dtype
        torch.testing.assert_close(a[used], c[used], atol=2e-5, rtol=1e-5)
        assert torch.equal(a, b)


def test_scores_descend_and_unused_entries_are_zero():
    heat = random_maps("sparse", 40, 40, 1)
    positions, scores = select_peaks(heat, Decoding(max_keypoints=300, nms_radius=2, border=0))
    assert positions.shape == (1, 300, 2) and scores.shape == (1, 300)
    assert (scores[0, 1:] <= scores[0, :-1]).all() and scores[0, -1] == 0 < scores[0, 0]
    count = int((scores[0] > 0).sum())
    x, y = positions[0, :count].T
    assert torch.equal(heat[0, y, x], scores[0, :count])


@pytest.mark.parametrize("limit", [1, 7, 5000])
def test_the_best_keypoints_are_kept_and_never_more_than_max_keypoints(limit):
    heat = random_maps("distinct", 30, 31, 2)
    everything = select_peaks(heat, Decoding(max_keypoints=10**6, nms_radius=2, border=0))[1][0]
    _, scores = select_peaks(heat, Decoding(max_keypoints=limit, nms_radius=2, border=0))
    assert scores.shape[1] == min(limit, 30 * 31)
    assert torch.equal(scores[0], everything[: scores.shape[1]])


@pytest.mark.parametrize("threshold", [0.0, 0.4, 0.999, 1.0])
def test_keypoints_have_at_least_the_threshold_and_all_that_have_it_are_found(threshold):
    heat = random_maps("distinct", 25, 25, 3)
    _, scores = select_peaks(heat, Decoding(10**6, nms_radius=0, detection_threshold=threshold, border=0))
    assert int((scores > 0).sum()) == int(((heat > threshold) & (heat > 0)).sum())


@pytest.mark.parametrize("border", [0, 1, 4, 9, 10, 200])
def test_no_keypoint_is_in_the_border_and_none_inside_is_lost(border):
    heat = random_maps("distinct", 20, 27, 5) + 0.01
    positions, scores = select_peaks(heat, Decoding(10**6, nms_radius=0, detection_threshold=0, border=border))
    found = {(x, y) for x, y in positions[0, scores[0] > 0].tolist()}
    assert found == {(x, y) for x in range(border, 27 - border) for y in range(border, 20 - border)}


def blob(x, y, sigma, size=40, peak=0.6):
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return peak * torch.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))[None]


@pytest.mark.parametrize("sigma", [0.7, 0.85, 1.0])
def test_refinement_finds_the_centre_of_a_gaussian_blob_to_a_tenth_of_a_pixel(sigma):
    errors = []
    for x in np.arange(19.5, 20.51, 0.1):
        for y in (20.0, 19.7, 20.45):
            heat = blob(x, y, sigma)
            positions, _ = select_peaks(heat, Decoding(max_keypoints=1))
            found = refine(heat, positions)[0, 0].numpy()
            errors.append(np.hypot(found[0] - x, found[1] - y))
    assert max(errors) < 0.1


def test_refinement_moves_no_keypoint_by_more_than_a_pixel_even_at_the_edge():
    heat = random_maps("distinct", 30, 30, 6)
    positions, _ = select_peaks(heat, Decoding(500, nms_radius=1, border=0))
    moved = refine(heat, positions) - positions
    assert moved.abs().max() <= 1 and moved.abs().max() > 0.01
    assert torch.isfinite(refine(torch.zeros(1, 30, 30), positions)).all()


def test_a_descriptor_at_a_cells_centre_is_that_cells_descriptor():
    random = torch.Generator().manual_seed(0)
    cells = torch.randn(1, 6, 4, 5, generator=random)
    centres = torch.tensor([[[8 * i + 3.5, 8 * j + 3.5] for j in range(4) for i in range(5)]])
    unit = cells / cells.norm(dim=1, keepdim=True)
    assert torch.allclose(sample(cells, centres)[0].T.view(6, 4, 5), unit[0], atol=1e-5)


def test_between_two_cells_the_descriptor_is_interpolated_linearly():
    cells = torch.zeros(1, 2, 1, 2)
    cells[0, 0, 0, 0], cells[0, 1, 0, 1] = 5.0, 0.1  # unit vectors of different lengths before normalisation
    for step in (0.0, 0.25, 0.5, 0.9):
        found = sample(cells, torch.tensor([[[3.5 + 8 * step, 3.5]]]))[0, 0]
        expected = torch.tensor([1 - step, step])
        assert torch.allclose(found, expected / expected.norm(), atol=1e-5)


def test_descriptors_have_unit_length_everywhere_in_the_image():
    random = torch.Generator().manual_seed(0)
    keypoints = torch.rand(1, 400, 2, generator=random) * torch.tensor([39.0, 31.0])
    found = sample(torch.randn(1, 16, 4, 5, generator=random), keypoints)
    assert found.shape == (1, 400, 16)
    assert torch.allclose(found.norm(dim=2), torch.ones(1, 400), atol=1e-5)


def test_nothing_is_detected_in_the_padding_even_with_high_scores():
    logits = torch.full((1, 65, 3, 4), -5.0)
    logits[0, 63, 2, 3] = 20.0  # pixel (31, 23), the last of the padded image
    logits[0, 0, 0, 0] = 5.0
    settings = Decoding(max_keypoints=50, nms_radius=4, border=0, detection_threshold=0.1)
    images = torch.zeros(1, 1, 24, 32, dtype=torch.uint8)
    whole = decode(logits, torch.randn(1, 8, 3, 4), images, (24, 32), settings)
    assert whole[0][0, 0].round().tolist() == [31, 23]
    keypoints, scores, descriptors = decode(logits, torch.randn(1, 8, 3, 4), images, (17, 25), settings)
    found = keypoints[0, scores[0] > 0]
    assert found.round().tolist() == [[0, 0]]
    assert keypoints.dtype == scores.dtype == descriptors.dtype == torch.float32
