"""Losses of the training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from superpoint_ros.training.losses import descriptor, detector
from superpoint_ros.training.motion import Motion
from superpoint_ros.training.views import project

IDENTITY = torch.eye(3)[None]


def test_targets_distribute_a_label_over_its_pixels_and_sum_to_one():
    points = torch.tensor([[[3.25, 4.5], [20.0, 9.0], [50.0, 50.0]]])
    valid = torch.tensor([[True, True, False]])
    targets = detector.targets(points, valid, (16, 24))
    assert targets.shape == (1, 65, 2, 3)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(1, 2, 3))
    heat = F.pixel_shuffle(targets[:, :64], 8)[0, 0]
    assert heat[4, 3] == pytest.approx(0.75 * 0.5)
    assert heat[5, 4] == pytest.approx(0.25 * 0.5)
    assert heat[9, 20] == 1
    assert targets[0, 64, 1, 0] == 1


def test_cross_entropy_is_least_at_the_targets():
    targets = detector.targets(torch.tensor([[[3.0, 4.0]]]), torch.tensor([[True]]), (8, 8))
    assert detector.cross_entropy(targets.clamp_min(1e-6).log(), targets) < 1e-3
    assert detector.cross_entropy(torch.zeros(1, 65, 1, 1), targets) == pytest.approx(np.log(65), rel=1e-5)


def blobs(centres, size=(64, 80), sigma=0.8, peak=0.5):
    """Create a heat map with a peak at each (x, y)."""
    y, x = torch.meshgrid(*(torch.arange(side, dtype=torch.float32) for side in size), indexing="ij")
    heat = torch.zeros(size)
    for cx, cy in centres:
        heat = heat + peak * torch.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * sigma**2))
    return heat


def blank(heat):
    """Create views without gradients, which do not move keypoints of the heat map."""
    return torch.full_like(heat, 0.5)


CENTRES = [(12, 12), (40, 20), (60, 48), (20, 45)]


def test_views_that_agree_have_no_localisation_loss_and_repeat_all_keypoints():
    heat = torch.stack((blobs(CENTRES), blobs(CENTRES)))[None]
    localisation, _, share = detector.agreement(heat, blank(heat), Motion(IDENTITY))
    assert float(localisation) < 0.02
    assert float(share) == 1


def test_localisation_loss_is_the_distance_in_pixels_between_refined_keypoints():
    moved = [(x + 0.4, y - 0.3) for x, y in CENTRES]
    heat = torch.stack((blobs(CENTRES), blobs(moved)))[None]
    localisation, _, share = detector.agreement(heat, blank(heat), Motion(IDENTITY))
    assert float(localisation) == pytest.approx(0.5, abs=0.06)
    assert float(share) == 1
    shifted = torch.tensor([[[1.0, 0.0, 0.4], [0.0, 1.0, -0.3], [0.0, 0.0, 1.0]]])
    assert float(detector.agreement(heat, blank(heat), Motion(shifted))[0]) < 0.06


def test_keypoints_are_compared_at_their_refined_positions():
    image = torch.zeros(64, 80)
    image[20:40, 30:50] = 1
    image = torch.nn.functional.avg_pool2d(image[None, None], 3, stride=1, padding=1)[0, 0]
    corners = [(29.5, 19.5), (49.5, 39.5)]
    heat = torch.stack((blobs([(x + 0.5, y) for x, y in corners]), blobs([(x, y - 0.5) for x, y in corners])))[None]
    apart = detector.agreement(heat, blank(heat), Motion(IDENTITY))[0]
    assert float(apart) == pytest.approx(0.7, abs=0.1)
    assert float(detector.agreement(heat, image.expand(1, 2, -1, -1), Motion(IDENTITY))[0]) < 0.3 * float(apart)


def test_minimising_the_localisation_loss_draws_keypoints_together():
    moved = [(x + 0.4, y - 0.3) for x, y in CENTRES]
    logits = torch.stack((blobs(CENTRES), blobs(moved)))[None].clamp_min(1e-6).log().requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.05)
    distances = []
    for _ in range(30):
        loss, _, _ = detector.agreement(logits.exp(), blank(logits.exp()), Motion(IDENTITY))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        distances.append(float(loss.detach()))
    assert distances[-1] < 0.3 * distances[0]


def test_minimising_the_repetition_loss_raises_repeated_keypoints_and_lowers_the_others():
    heat = torch.stack((blobs(CENTRES), blobs(CENTRES[:2])))[None].requires_grad_()
    _, repetition, share = detector.agreement(heat, blank(heat), Motion(IDENTITY))
    assert 0 < float(share) < 1
    repetition.backward()
    gradient = heat.grad[0, 0]
    assert all(gradient[y, x] < 0 for x, y in CENTRES[:2])
    assert all(gradient[y, x] > 0 for x, y in CENTRES[2:])


def test_agreement_of_views_without_keypoints_is_zero_and_differentiable():
    heat = torch.full((2, 2, 32, 32), 1e-4, requires_grad=True)
    losses = detector.agreement(heat, blank(heat), Motion(IDENTITY.expand(2, -1, -1)))
    (losses[0] + losses[1]).backward()
    assert [float(loss.detach()) for loss in losses] == [0, 0, 0]
    assert torch.isfinite(heat.grad).all()


def test_dual_softmax_prefers_correct_matches_ignores_invalid_ones_and_stays_finite():
    torch.manual_seed(0)
    unit = F.normalize(torch.randn(1, 40, 32), dim=2)
    positions = torch.rand(1, 40, 2) * 500
    valid = torch.ones(1, 40, dtype=torch.bool)
    right = descriptor.dual_softmax(unit, unit, positions, valid)
    wrong = descriptor.dual_softmax(unit, unit.flip(1), positions, valid)
    assert right < 0.1 < wrong
    spoilt = unit.clone()
    spoilt[:, 30:] = unit[:, :10]
    valid[:, 30:] = False
    assert descriptor.dual_softmax(unit, spoilt, positions, valid) == pytest.approx(float(right), abs=0.05)
    assert descriptor.dual_softmax(unit, unit, positions, torch.zeros_like(valid)) == 0


def test_gradients_of_the_dual_softmax_are_those_of_its_values():
    generator = torch.Generator().manual_seed(3)
    first, second = (
        F.normalize(torch.randn(2, 5, 6, generator=generator, dtype=torch.float64), dim=2).requires_grad_()
        for _ in range(2)
    )
    positions = torch.rand(2, 5, 2, generator=generator) * 12  # some closer than the exclusion
    valid = torch.tensor([[True] * 4 + [False], [True] * 5])
    assert torch.autograd.gradcheck(lambda a, b: descriptor.dual_softmax(a, b, positions, valid, 0.2), (first, second))


def test_dual_softmax_is_the_mean_cross_entropy_over_all_points_of_the_batch_except_close_ones():
    torch.manual_seed(0)
    first, second = (F.normalize(torch.randn(2, 6, 8), dim=2) for _ in range(2))
    positions = torch.rand(2, 6, 2) * 12
    valid = torch.rand(2, 6) < 0.8
    found = descriptor.dual_softmax(first, second, positions, valid, temperature=0.2, exclusion=5.0)
    places = [(b, i) for b in range(2) for i in range(6) if valid[b, i]]

    def competes(one, other):
        close = one[0] == other[0] and float((positions[one] - positions[other]).norm()) < 5
        return one == other or not close

    total = 0.0
    for one in places:
        rows = [float(first[one] @ second[other]) / 0.2 for other in places if competes(one, other)]
        columns = [float(first[other] @ second[one]) / 0.2 for other in places if competes(one, other)]
        own = float(first[one] @ second[one]) / 0.2
        total += (np.log(np.exp(rows).sum()) + np.log(np.exp(columns).sum())) / 2 - own
    assert any(not competes(a, b) for a in places for b in places)
    assert float(found) == pytest.approx(total / len(places), rel=1e-4)


def test_the_dual_softmax_of_opposite_descriptors_has_a_gradient_at_the_lowest_temperature():
    first = F.normalize(torch.randn(1, 6, 16), dim=2).requires_grad_()
    one = torch.zeros(1, 6, dtype=torch.bool)
    one[0, 0] = True  # nothing beside it in the sum
    for valid in (one, ~one):
        loss = descriptor.dual_softmax(
            first, -first.detach(), torch.rand(1, 6, 2) * 100, valid, descriptor.LEAST_TEMPERATURE
        )
        loss.backward()
        assert loss.isfinite() and first.grad.isfinite().all()


def test_the_hinge_loss_is_the_papers_sum_over_all_pairs_of_cells():
    torch.manual_seed(0)
    rows, columns, size = 4, 5, 16
    first, second = torch.randn(2, 2, size, rows, columns).unbind()
    across = torch.tensor([[[0.9, 0.1, 4.0], [-0.1, 1.0, 2.0], [0, 0, 1]], [[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]])
    found = float(descriptor.hinge(first, second, across, 1.0, 0.2, 250.0))
    total, counted = 0.0, 0
    for b in range(2):
        for i in range(rows * columns):
            centre = torch.tensor([[[i % columns * 8 + 3.5, i // columns * 8 + 3.5]]])
            x, y = project(across[b : b + 1], centre)[0, 0].tolist()
            if not (0 <= x <= columns * 8 - 1 and 0 <= y <= rows * 8 - 1):
                continue
            for j in range(rows * columns):
                counted += 1
                near = np.hypot(x - (j % columns * 8 + 3.5), y - (j // columns * 8 + 3.5)) <= 8
                a, c = first[b].flatten(1)[:, i], second[b].flatten(1)[:, j]
                similarity = float(F.cosine_similarity(a, c, dim=0))
                total += 250 * max(0, 1 - similarity) if near else max(0, similarity - 0.2)
    assert found == pytest.approx(total / counted, rel=1e-4)


def test_the_hinge_loss_of_views_that_share_nothing_is_zero():
    away = torch.tensor([[[1.0, 0, 1e4], [0, 1, 0], [0, 0, 1]]])
    maps = torch.randn(1, 8, 3, 3)
    assert float(descriptor.hinge(maps, maps, away)) == 0
