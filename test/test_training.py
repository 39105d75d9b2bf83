"""Training: exact labels, sound losses, stages that go on where they were interrupted."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from superpoint_ros import decoding
from superpoint_ros.geometry import homography_from_corners, project
from superpoint_ros.training import losses, photometric, shapes
from superpoint_ros.training.homographies import HomographyRange, random_homography
from superpoint_ros.training.labels import LabelConfig, adapted_heatmap, label_folder, label_image

SIZE = (120, 160)


@pytest.mark.parametrize("name", shapes.CLASSES)
def test_every_shape_class_draws_something_with_labels_inside_the_picture(name):
    rng = np.random.default_rng(3)
    for _ in range(20):
        image, corners = shapes.draw(rng, SIZE, name)
        assert image.shape == SIZE
        assert image.dtype == np.uint8
        assert image.std() > 0.5
        assert ((corners >= 0) & (corners <= [SIZE[1] - 1, SIZE[0] - 1])).all()
        if name in ("ellipses", "gaussian_noise"):
            assert not len(corners)


@pytest.mark.parametrize("name", ["checkerboard", "polygon", "cube"])
def test_shape_labels_lie_on_the_corners_that_opencv_refines_to(name):
    """An independent corner refinement, started at the labels, must not move far."""
    rng = np.random.default_rng(5)
    shifts = []
    for _ in range(30):
        image, corners = shapes.draw(rng, SIZE, name)
        well_inside = ((corners > 12) & (corners < [SIZE[1] - 13, SIZE[0] - 13])).all(axis=1)
        start = corners[well_inside].astype(np.float32).reshape(-1, 1, 2)
        if len(start):
            criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_COUNT, 30, 0.01)
            refined = cv2.cornerSubPix(image, start.copy(), (3, 3), (-1, -1), criteria)
            shifts += np.linalg.norm(refined - start, axis=2).ravel().tolist()
    assert len(shifts) > 40
    assert np.median(shifts) < 0.35


def test_augmentation_of_strength_zero_changes_nothing_and_of_one_keeps_the_shape():
    rng = np.random.default_rng(0)
    image, _ = shapes.draw(rng, SIZE, "checkerboard")
    np.testing.assert_array_equal(photometric.augment(rng, image, 0.0), image)
    changed = [photometric.augment(rng, image) for _ in range(20)]
    assert all(one.shape == image.shape and one.dtype == np.uint8 for one in changed)
    assert any(not np.array_equal(one, image) for one in changed)


def test_random_homographies_see_only_the_picture():
    rng = np.random.default_rng(0)
    corners = np.array([[0, 0], [159, 0], [159, 119], [0, 119]], float)
    for _ in range(200):
        seen = project(random_homography(rng, (240, 320), SIZE, HomographyRange()), corners)
        assert (seen >= -1e-6).all()
        assert (seen <= np.array([319, 239]) + 1e-6).all()


def test_a_homography_from_corners_maps_them_exactly():
    source = np.array([[0, 0], [10, 1], [9, 8], [-1, 9]], float)
    target = np.array([[5, 5], [30, 2], [28, 31], [3, 25]], float)
    np.testing.assert_allclose(project(homography_from_corners(source, target), source), target, atol=1e-9)


def test_detector_targets_share_a_label_among_its_pixels_and_sum_to_one():
    points = torch.tensor([[[3.25, 4.5], [20.0, 9.0], [50.0, 50.0]]])
    valid = torch.tensor([[True, True, False]])
    targets = losses.detector_targets(points, valid, (16, 24))
    assert targets.shape == (1, 65, 2, 3)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(1, 2, 3))
    heat = torch.nn.functional.pixel_shuffle(targets[:, :64], 8)[0, 0]
    assert heat[4, 3] == pytest.approx(0.75 * 0.5)
    assert heat[5, 4] == pytest.approx(0.25 * 0.5)
    assert heat[9, 20] == 1
    assert targets[0, 64, 1, 0] == 1


def test_detector_loss_is_least_at_the_targets():
    targets = losses.detector_targets(torch.tensor([[[3.0, 4.0]]]), torch.tensor([[True]]), (8, 8))
    perfect = (targets.clamp_min(1e-6)).log()
    assert losses.detector_loss(perfect, targets) < 1e-3
    assert losses.detector_loss(torch.zeros(1, 65, 1, 1), targets) == pytest.approx(np.log(65), rel=1e-5)


def test_dual_softmax_prefers_right_matches_ignores_invalid_ones_and_stays_finite():
    torch.manual_seed(0)
    unit = torch.nn.functional.normalize(torch.randn(1, 40, 32), dim=2)
    positions = torch.rand(1, 40, 2) * 500
    valid = torch.ones(1, 40, dtype=torch.bool)
    right = losses.dual_softmax_loss(unit, unit, positions, valid)
    wrong = losses.dual_softmax_loss(unit, unit.flip(1), positions, valid)
    assert right < 0.1 < wrong
    spoilt = unit.clone()
    spoilt[:, 30:] = unit[:, :10]
    valid[:, 30:] = False
    assert losses.dual_softmax_loss(unit, spoilt, positions, valid) == pytest.approx(float(right), abs=0.05)
    assert losses.dual_softmax_loss(unit, unit, positions, torch.zeros_like(valid)) == 0


def _corner_heatmap(images):
    """A stand-in for a trained detector: the strength of corners, squashed into probabilities."""
    maps = [np.maximum(cv2.cornerMinEigenVal(image, 3, 3), 0) for image in images[:, 0].numpy()]
    strength = torch.from_numpy(np.stack(maps))
    return strength / (strength + 1e-3)


def test_adaptation_averages_the_warped_back_heat_maps():
    image, _ = shapes.draw(np.random.default_rng(1), SIZE, "checkerboard")
    alone = adapted_heatmap(_corner_heatmap, image, LabelConfig(warps=1))
    np.testing.assert_allclose(alone, _corner_heatmap(torch.from_numpy(image)[None, None] / 255)[0], atol=1e-6)
    many = adapted_heatmap(_corner_heatmap, image, LabelConfig(warps=30))
    assert many.shape == SIZE
    assert np.isfinite(many).all()
    assert 0 <= many.min() <= many.max() <= 1


def test_adapted_labels_lie_on_the_corners_of_a_shape():
    image, corners = shapes.draw(np.random.default_rng(1), SIZE, "checkerboard")
    labels = label_image(_corner_heatmap, image, LabelConfig(warps=20, threshold=0.2))
    inside = corners[((corners > 8) & (corners < [SIZE[1] - 9, SIZE[0] - 9])).all(axis=1)]
    nearest = np.linalg.norm(labels[:, None, :2] - inside[None], axis=2).min(axis=0)
    assert np.median(nearest) < 1.0
    assert (np.diff(labels[:, 2]) <= 0).all()


def test_labelling_goes_on_where_it_stopped_and_names_unreadable_pictures(tmp_path, caplog):
    images, out = tmp_path / "images", tmp_path / "labels"
    (images / "a").mkdir(parents=True)
    for name in ("a/1.png", "2.png", "3.png"):
        image, _ = shapes.draw(np.random.default_rng(1), SIZE, "polygons")
        cv2.imwrite(str(images / name), image)
    (images / "broken.png").write_text("no picture")
    config = LabelConfig(warps=2)
    assert label_folder(_corner_heatmap, images, out, config) == 3
    assert "broken.png" in caplog.text
    stamp = (out / "2.png.npy").stat().st_mtime_ns
    (out / "3.png.npy").unlink()
    assert label_folder(_corner_heatmap, images, out, config) == 1
    assert (out / "2.png.npy").stat().st_mtime_ns == stamp
    assert np.load(out / "a" / "1.png.npy").shape[1] == 3


@pytest.mark.slow
def test_a_miniature_run_of_all_stages_learns_and_resumes(tmp_path):
    pytest.importorskip("lightning", reason="training needs the Python package lightning")
    from superpoint_ros.training import loop, stages

    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    rng = np.random.default_rng(0)
    for i in range(6):
        cv2.imwrite(str(images / f"{i}.png"), shapes.draw(rng, (240, 320), "checkerboard")[0])
    shapes_file, joint_file = tmp_path / "shapes.ckpt", tmp_path / "joint.ckpt"

    config = loop.LoopConfig(steps=40, batch=4, warmup=5, workers=0, accelerator="cpu", learning_rate=2e-3)
    stops = iter([True] * 12 + [False] * 100)
    torch.manual_seed(config.seed)
    from superpoint_ros.training.data import ShapesDataset
    from superpoint_ros.training.objectives import DetectorObjective

    objective = DetectorObjective(stages.new_network())
    step = loop.run(
        objective, lambda start: ShapesDataset((64, 64), 0, start), config, shapes_file, lambda: next(stops)
    )
    assert step == 13  # interrupted
    assert stages.train_shapes(shapes_file, config, size=(64, 64)) == 40
    before, after = stages.new_network().eval(), stages.read_checkpoint(shapes_file)
    batch = next(iter(torch.utils.data.DataLoader(ShapesDataset((64, 64), 7), batch_size=16)))
    with torch.no_grad():
        assert DetectorObjective(after)(batch)["loss"] < DetectorObjective(before)(batch)["loss"]

    assert stages.label(shapes_file, images, labels, LabelConfig(warps=3, threshold=0.001)) == 6
    config = loop.LoopConfig(steps=6, batch=2, warmup=2, workers=0, accelerator="cpu")
    assert stages.train_joint(joint_file, shapes_file, images, labels, config, size=(64, 64)) == 6
    assert stages.train_joint(joint_file, shapes_file, images, labels, config, size=(64, 64)) == 6
    network = stages.read_checkpoint(joint_file)
    with torch.no_grad():
        logits, descriptors = network(torch.rand(1, 1, 64, 64))
    assert torch.isfinite(decoding.heatmap(logits)).all()
    assert torch.isfinite(descriptors).all()
