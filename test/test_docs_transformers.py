"""docs/transformers.md: every block of Python on the page runs, and its claims about both packages are true."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest
import torch

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("matplotlib", reason="matplotlib is not installed")
pytest.importorskip("PIL", reason="Pillow is not installed")


@pytest.fixture(scope="module")
def page(project):
    return (project / "docs" / "transformers.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def ran(page, photograph, tmp_path_factory):
    """The variables of the page's code, run from top to bottom in a folder with two views of a photograph."""
    folder = tmp_path_factory.mktemp("page")
    cv2.imwrite(str(folder / "a.png"), photograph[40:160, 150:310])
    cv2.imwrite(str(folder / "b.png"), photograph[50:154, 160:328])
    names = {"folder": folder}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HF_HUB_OFFLINE", "1")
        blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        for number, block in enumerate(blocks, 1):
            exec(compile(block, f"block {number} of docs/transformers.md", "exec"), names)
    assert len(blocks) >= 10
    return names


def places(points):
    return set(map(tuple, np.asarray(points).astype(int).tolist()))


def test_the_page_s_code_runs_and_writes_its_images(ran):
    for name in ("transformers.png", "features.png", "matches.png"):
        assert cv2.imread(str(ran["folder"] / name)).shape[1] > 300
    assert len(ran["found"]["keypoints"]) > 20 and ran["homography"].inlier_count > 20


def test_both_batches_have_the_documented_shapes(ran):
    batch = ran["batch"]
    images, count = batch.mask.shape
    assert images == 2 and batch.keypoints.shape == (2, count, 2) and batch.descriptors.shape == (2, count, 256)
    assert batch.mask.dtype == torch.bool and batch.image_sizes.tolist() == [[120, 160], [104, 168]]
    assert batch.keypoints.max() > 1 >= ran["outputs"].keypoints.max()
    assert ran["outputs"].mask.dtype == torch.int32 and ran["found"]["keypoints"].dtype == torch.int32


def test_the_last_block_finds_the_same_keypoints_and_scores_but_for_the_border(ran):
    features, height, width = ran["features"], 120, 160
    expected = dict(zip(map(tuple, ran["pixels"].int().tolist()), ran["outputs"].scores[0].tolist(), strict=True))
    inside = {place: score for place, score in expected.items() if place[0] < width - 4 and place[1] < height - 4}
    found = dict(zip(map(tuple, features.keypoints.astype(int).tolist()), features.scores.tolist(), strict=True))
    assert len(found) > 25 and found.keys() == inside.keys()
    for place, score in inside.items():
        assert found[place] == pytest.approx(score, abs=1e-4)
    assert min(x for x, _ in expected) >= 4 and min(y for _, y in expected) >= 4


def test_transformers_reads_in_order_and_this_package_by_score(ran):
    rows = ran["pixels"].int().tolist()
    assert rows == sorted(rows, key=lambda place: (place[1], place[0]))
    assert (np.diff(ran["features"].scores) <= 0).all()


def test_transformers_keeps_points_in_the_right_and_lower_border(ran):
    model = ran["model"]
    decoder = model.keypoint_decoder
    scores = torch.ones(1, 64, 80)
    points, _ = decoder._extract_keypoints(scores)
    assert points.min(dim=0).values.tolist() == [4, 4] and points.max(dim=0).values.tolist() == [79, 63]


def test_transformers_sees_the_red_channel_of_a_colour_image(ran):
    image = np.zeros((16, 16, 3), np.uint8)
    image[..., 0], image[..., 1] = 40, 250
    pixels = ran["processor"](ran["Image"].fromarray(image), do_resize=False, return_tensors="pt")["pixel_values"]
    seen = ran["model"].extract_one_channel_pixel_values(pixels)
    np.testing.assert_allclose(seen.numpy() * 255, 40, atol=1e-3)
    resized = ran["processor"](ran["Image"].fromarray(image), return_tensors="pt")["pixel_values"]
    assert resized.shape == (1, 3, 480, 640)


def test_transformers_truncates_keypoints_to_integers(ran):
    size = (480, 640)
    output = transformers.models.superpoint.modeling_superpoint.SuperPointKeypointDescriptionOutput(
        keypoints=torch.tensor([[[10.0, 63.0]]]) / torch.tensor([size[1], size[0]]),
        scores=torch.ones(1, 1),
        descriptors=torch.ones(1, 1, 4),
        mask=torch.ones(1, 1, dtype=torch.int),
    )
    (found,) = ran["processor"].post_process_keypoint_detection(output, [size])
    assert found["keypoints"].tolist() == [[10, 62]]


def test_transformers_drops_incomplete_cells(ran):
    with torch.no_grad():
        assert ran["model"].encoder(torch.zeros(1, 1, 23, 31)).last_hidden_state.shape[-2:] == (2, 3)


def test_transformers_samples_descriptors_with_an_offset_of_up_to_three_and_a_half_pixels(ran):
    rows, columns = 60, 80
    column = torch.arange(columns).float().expand(rows, columns)
    # The ratio of two components encodes where a descriptor was sampled, whatever its length.
    ramp = torch.stack((column, torch.full_like(column, 1000.0)))[None]
    x = torch.tensor([3.5, 319.5, 635.5])
    points = torch.stack((x, torch.full_like(x, 3.5)), dim=1)[None]
    sampled = ran["model"].descriptor_decoder._sample_descriptors(points.clone(), ramp)[0]
    at = 8 * 1000 * sampled[0] / sampled[1] + 3.5
    np.testing.assert_allclose((x - at).numpy(), [0, 1.74, 3.48], atol=0.02)
    from superpoint_ros.extraction.decoding import sample

    ours = sample(ramp / ramp.norm(dim=1, keepdim=True), points)[0]
    np.testing.assert_allclose((8 * 1000 * ours[:, 0] / ours[:, 1] + 3.5).numpy(), x.numpy(), atol=0.05)


def test_the_defaults_in_the_table_are_those_of_both_packages(page, ran):
    from superpoint_ros.node import interface

    config = transformers.SuperPointConfig()
    pairs = {"keypoint_threshold": "detection_threshold", "nms_radius": "nms_radius",
             "border_removal_distance": "border", "max_keypoints": "max_keypoints"}  # fmt: skip
    for theirs, ours in pairs.items():
        row = next(
            line
            for line in page.splitlines()
            if line.startswith("|") and f"`{theirs}` {getattr(config, theirs)}" in line
        )
        assert f"`{ours}` {interface.parameter(ours).default}" in row


def test_the_page_s_links_refer_to_existing_files(page, project):
    for target in re.findall(r"\]\(([^)]+)\)", page):
        assert target.startswith("https://huggingface.co/") or (project / "docs" / target).is_file()
